"""What a search leaves: files, tests of the best configuration, and a figure of its trials."""

from types import SimpleNamespace

import pytest
import yaml
from helpers import Here
from matplotlib.axes import Axes
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import create_trial
from reports_helpers import drawn

from recbole_dgrm.benchmarks import executors
from recbole_dgrm.cli import main
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.tuning.search import draw_trials


@pytest.mark.slow
def test_the_command_leaves_its_files_and_tests_the_best_once(tmp_path, ratings_path, capsys, monkeypatch):
    monkeypatch.setattr(executors, "LocalExecutor", Here)
    (tmp_path / "space.yaml").write_text("factors: {choice: [2, 3]}\nsampler: grid\n")
    line = ["tune", "--model=MF", "--dataset=board", "--device=cpu", "--rating_scale=[1,5]", "--rating_step=1"]
    line += [f"--space={tmp_path / 'space.yaml'}", f"--output_dir={tmp_path / 'out'}", f"--data_path={ratings_path}"]
    assert main.main([*line, "--valid_metric=RatedNDCG@5", "--test_seeds=[1]", "--epochs=2"]) == 0
    out = capsys.readouterr().out
    for words in ("[1/2] trial 0: RatedNDCG@5", "the best of 2 finished trials", "MF, defaults", "MF, tuned"):
        assert words in out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"best.yaml", "trials.csv", "report.html", "report.md", "figures", "search.json", "test"} <= names
    assert (tmp_path / "out" / "figures" / "trials.png").stat().st_size > 1000
    best = yaml.safe_load((tmp_path / "out" / "best.yaml").read_text())
    config = load_config([tmp_path / "out" / "best.yaml"], {"model": "MF", "dataset": "board"})
    assert config["factors"] == best["factors"]
    assert len(list((tmp_path / "out" / "test").rglob("record.json"))) == 2


def panels(distributions: dict, *points: tuple, scores: list[float]) -> list[Axes]:
    """The panels of the figure about a search that tried these points."""
    trials = []
    for number, (point, score) in enumerate(zip(points, scores, strict=True)):
        params = dict(zip(distributions, point, strict=True))
        trials.append(create_trial(params=params, distributions=distributions, value=score))
        trials[-1].number = number
    space = SimpleNamespace(distributions=distributions)
    search = SimpleNamespace(finished=lambda: trials, metric="ratedndcg@5", space=space, bigger=True)
    return drawn(draw_trials, search).axes


def test_a_key_from_an_interval_has_a_numeric_axis_however_few_its_values():
    values = [0.00012, 0.0034, 0.056]
    rate = FloatDistribution(1e-5, 1, log=True)
    distributions = {"chosen": CategoricalDistribution(values), "decay": FloatDistribution(0, 1), "rate": rate}
    axes = panels(distributions, *((value,) * 3 for value in values), scores=[0.5] * 3)
    assert [each.get_xscale() for each in axes] == ["linear", "linear", "linear", "log"]
    for each, places in zip(axes, ([0, 1, 2], [0, 1, 2], values, values), strict=True):
        assert each.collections[0].get_offsets()[:, 0].tolist() == places


def test_the_figure_is_drawn_of_few_trials_with_any_names():
    labels = ["$x$ {", None, "y" * 200]
    distributions = {"$a": CategoricalDistribution(labels), "$b^": FloatDistribution(0, 1)}
    for scores in ([0.5], [0.1, 0.7, 0.3]):
        assert len(panels(distributions, *zip(labels, scores, strict=False), scores=scores)) == 3
