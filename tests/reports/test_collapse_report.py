"""The diagnose command and what its report says."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import Here, record_of
from matplotlib.colors import to_rgb
from reports_helpers import RATED, drawn, put

from recbole_dgrm.benchmarks import executors
from recbole_dgrm.benchmarks.watch import prepare
from recbole_dgrm.cli import main
from recbole_dgrm.errors import DataError
from recbole_dgrm.evaluation.diagnosis import ALPHAS
from recbole_dgrm.evaluation.distribution import Bins, Sample
from recbole_dgrm.records import EPOCHS, RECORD, write_epochs
from recbole_dgrm.reports.benchmark_report import report
from recbole_dgrm.reports.collapse_figures import spread_evenly
from recbole_dgrm.reports.collapse_report import diagnosis_document, write_diagnosis
from recbole_dgrm.reports.collapse_runs import diagnosed_runs
from recbole_dgrm.reports.collapse_sections import DISTANCES, sections
from recbole_dgrm.reports.document import Figure, to_csv, to_markdown
from recbole_dgrm.reports.figures import GIVEN as GIVEN_COLOUR
from recbole_dgrm.system.files import write_json

STARS = Bins((1, 2, 3, 4, 5))
RNG = np.random.default_rng(0)
GIVEN = np.repeat([1.0, 2.0, 3.0, 4.0, 5.0], [61, 114, 271, 342, 212])


def as_dict(values) -> dict:
    return Sample.of(STARS, torch.as_tensor(np.asarray(values, dtype=np.float32))).to_dict()


def distances(kl: float, margin: float) -> dict:
    return {name: {"value": kl, "low": kl - margin, "high": kl + margin} for name in DISTANCES}


def hand_made(folder, label: str, late, kl: float, verdict: dict, **more) -> None:
    """An inspected run: a copy of the ratings after epoch 1, and ``late`` after epochs 5 and 10."""
    path = folder / label
    path.mkdir()
    lists = {"n": 5, "distinct": 0.5, "items": 0.25, "gini": 0.8, "entropy": 2.0, "users": 1000, "of_users": 6040}
    early = {"rated": as_dict(GIVEN), "unrated": as_dict(GIVEN), "between_users": 0.3, "lists": lists}
    later = {**early, "rated": as_dict(late), "unrated": as_dict(late)}
    found = {
        "levels": [1, 2, 3, 4, 5],
        "verdict": verdict,
        "distances": distances(kl, 0.02),
        "seconds": 1.0,
        "ks": {"users": 10, "alphas": list(ALPHAS), "hits": [9, 8, 7, 6, 5, 4]},
        "distribution": {"ratings": as_dict(GIVEN), "test": as_dict(late), **later},
        **more,
    }
    record = {"model": label, "label": label, "dataset": "mine", "protocol": "rated", "seed": 1, "status": "finished"}
    record |= {"config": {"diagnose_every": 5}, "data": {"n_users": 10, "n_items": 20, "n_train": 1000}}
    record |= {"test": {"ratedrecall@5": 0.5, "ratedndcg@5": 0.55}, "diagnosis": found}
    write_json(path / RECORD, record)
    inspections = [(1, early), (2, {"validation": as_dict(GIVEN)}), (5, later), (10, later)]
    usual = {"stage": "select", "seconds": 1.0}
    write_epochs(path, [{**usual, "epoch": epoch - 1, "distribution": seen} for epoch, seen in inspections])


FINE = {"status": "intact", "reason": "fine", "epoch": 5, "since": None, "training": "", "passing": []}
BAD = {"status": "collapsed", "reason": "bad", "epoch": 10, "since": 5, "training": "bad", "passing": []}


@pytest.fixture
def folder(tmp_path):
    hand_made(tmp_path, "Good", GIVEN, 0.05, FINE)
    hand_made(tmp_path, "Broken", np.repeat([0.1, 5.0], 500), 0.9, BAD)
    return tmp_path


def change(path, **fields) -> None:
    write_json(path / RECORD, {**record_of(path), **fields})


def report_of(folder) -> str:
    """The report in Markdown, whose figures are not drawn."""
    runs = diagnosed_runs(folder)
    return to_markdown(diagnosis_document(runs, list(sections(runs))))


def csv_of(folder, name: str) -> pd.DataFrame:
    return pd.read_csv(folder / "csv" / f"{name}.csv", keep_default_na=False)


def test_a_report_names_the_collapse_and_its_beginning_with_numbers_as_csv_and_figures(folder):
    text = write_diagnosis(folder).path.with_suffix(".md").read_text()
    for words in (
        "| Broken | collapsed | 10 | 5 | bad |",
        "| Good | intact | 5 | – | fine |",
        "The ratings of the training part are 3.53 ± 1.13; 27% of them are the lowest or the highest rating.",
        "| Good | 0.050 [0.030, 0.070] |",
        "| Broken | 0.900 [0.880, 0.920] |",
        "Good is closest to the given ratings by KL (0.050).",
        "| Good | 9 | 8 | 7 | 6 | 5 | 4 |",
        "| Good | 50.0% | 25.0% | 0.800 | 2.00 | 30.0% |",
        "by the tested model; 1,000 of 6,040 users, the same for every model.",
    ):
        assert words in text
    assert text.index("Predictions have collapsed if") < text.index("| Broken | collapsed")
    files = {path.stem for path in (folder / "csv").iterdir()}
    assert files == {"ratings", "predictions-rated", "predictions-unrated", "training", "distances", "ks", "lists"}
    for name in files - {"ratings", "lists"}:
        assert f"](figures/{name}.png)" in text
        assert all((folder / "figures" / f"{name}.{kind}").stat().st_size > 1000 for kind in ("png", "svg"))
    predictions = csv_of(folder, "predictions-rated").groupby(["model", "epoch"])["count"].sum()
    assert predictions.loc[("Broken", 5)] == 1000
    training = csv_of(folder, "training").groupby(["model", "group"])
    assert training.get_group(("Broken", "rated"))["collapsed"].tolist() == [False, True, True]
    copy = training.get_group(("Good", "unrated")).iloc[0]
    assert copy["KL(predicted ‖ given), nats"] == 0
    assert copy["share at the ends of the scale"] == pytest.approx(0.273)
    assert csv_of(folder, "lists")["users"].tolist() == [1000, 1000]
    assert (spread_evenly(list(range(5, 105, 5)), 3), spread_evenly([3], 3)) == ([5, 55, 100], [3])
    hand_made(folder, "DGRM", GIVEN, 0.1, FINE)
    assert "published" not in report_of(folder)
    for label in ("Good", "Broken", "DGRM"):
        change(folder / label, dataset="ml-100k")
    assert "| DGRM | 0.100 [0.080, 0.120] |" in (text := report_of(folder))
    assert "| 0.041 |" in text  # published for this data set


def test_denoising_steps_are_shown_by_all_metrics_for_models_of_any_noise_scale(tmp_path):
    """Runs of one label are named by their c."""
    for scale in (0.01, 1.0):
        metrics = {"ratedndcg@5": 0.5, "ratedndcg@9": 9.0, "ratedrecall@5": 0.25, "rmse": scale, "mae": 9.0}
        usual = {"prediction_noise_steps": 5, **metrics}
        swept = [
            {"prediction": kind, "denoising_steps": t, **usual} for t in (0, 1) for kind in ("x_0_hat", "posterior")
        ]
        hand_made(tmp_path, f"{scale}", GIVEN, 0.1, FINE, sweep=swept[:: 2 if scale == 1 else 1])
        change(tmp_path / f"{scale}", label="DGRM", config={"diagnose_every": 5, "noise_scale": scale})
    (part,) = (part for part in sections(diagnosed_runs(tmp_path)) if part.name == "sweep")
    small, large = "DGRM (noise_scale=0.01)", "DGRM (noise_scale=1.0)"
    assert list(part.frame["model"]) == [small] * 4 + [large] * 2
    assert list(part.frame.columns[2:]) == ["denoising_steps", "RatedNDCG@5 ↑", "RatedRecall@5 ↑", "RMSE ↓"]
    assert part.frame["RMSE ↓"].tolist() == [0.01] * 4 + [1.0] * 2
    text = report_of(tmp_path)
    for number in ("0.500 | 0.500", "0.250 | 0.250", "0.010 | 0.010"):
        assert f"| {small}, posterior | {number} |" in text
    assert f"| {large}, x_0_hat | 1.000 | 1.000 |" in text
    figure = drawn(part.blocks[0].draw)
    lines = [
        [line.get_color() for line in axes.get_lines()] for axes in figure.axes
    ]  # posterior, x_0_hat, posterior, ...
    assert [len(colours) for colours in lines] == [1, 2] * 3
    assert lines[0] == lines[1][:1]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [small, large]


def test_the_report_on_any_runs_has_one_on_mode_collapse_if_they_were_inspected(tmp_path, caplog):
    folder, page = tmp_path / "runs", tmp_path / "out" / "diagnosis.md"
    run = put(folder, "Good", config={**RATED, "diagnose_every": 5})
    report(folder, output_dir=page.parent)
    assert "there is no report on mode collapse: no inspected run in" in caplog.text
    hand_made(tmp_path, "Good", GIVEN, 0.05, FINE)
    change(run, diagnosis=record_of(tmp_path / "Good")["diagnosis"])
    (tmp_path / "Good" / EPOCHS).rename(run / EPOCHS)
    assert not page.exists()
    report(folder, output_dir=page.parent)
    assert "| Good | intact | 5 | – | fine |" in page.read_text()
    assert not list(folder.glob("*.*"))


def test_a_diagnosis_adds_a_row_for_each_fixed_step_of_models_that_have_them(ratings_path, tmp_path):
    def labels(models, steps) -> list[str]:
        made = prepare(models, "noise", fixed_steps=steps, data_path=str(ratings_path), output_dir=tmp_path)
        return [entry.label for entry in made.plan.models]

    assert labels("DGRM, MF", [5, 1]) == ["DGRM", "DGRM, t = 5", "DGRM, t = 1", "MF"]
    assert set(labels("all", [])) >= {"DGRM", "CFGAN", "MF"}
    assert labels([{"model": "CFGAN", "label": "ZR", "config": {"negatives": "ZR"}}], [5]) == ["ZR"]


@pytest.mark.slow
def test_one_line_trains_inspects_and_reports(ratings_path, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(executors, "LocalExecutor", Here)
    folder = tmp_path / "out"
    keys = ["--epochs=3", "--device=cpu", "--rating_scale=[1,5]", "--rating_step=1", "--train_batch_size=8"]
    where = [f"--data_path={ratings_path}", f"--output_dir={folder}"]
    line = ["diagnose", "--models=[DGRM, BPR]", "--dataset=noise", "--every=2", "--fixed_steps=[1]", *keys, *where]
    assert main.main(line) == 0
    out = capsys.readouterr().out
    for words in ("DGRM: ", "DGRM, t = 1: ", "BPR: not judged: the scores are not ratings; ", "diagnosis.html"):
        assert words in out
    page = (folder / "diagnosis.html").read_text()
    for words in ("Denoising steps T&#39; (Fig. 7)", "Fixed noise steps in training (Table 4)", "Recommendation lists"):
        assert words in page
    runs = diagnosed_runs(folder)
    assert [run.name for run in runs] == ["DGRM", "DGRM, t = 1", "BPR"]
    assert list(runs[0].inspections) == [1, 2]


def test_a_run_without_a_diagnosis_is_left_out_and_said(folder, caplog):
    change(folder / "Broken", diagnosis={}, error="its diagnosis failed: no room")
    assert [run.name for run in diagnosed_runs(folder)] == ["Good"]
    assert "has no diagnosis: its diagnosis failed: no room" in caplog.text
    change(folder / "Good", diagnosis={})
    with pytest.raises(DataError, match="no inspected run in"):
        diagnosed_runs(folder)
    for label in ("Good", "Broken"):
        change(folder / label, config={})
    with pytest.raises(DataError, match="was inspected during training; set diagnose_every"):
        diagnosed_runs(folder)


def test_a_diagnosis_is_about_one_thing_and_names_configurations_of_one_label(folder):
    hand_made(folder, "Good2", GIVEN, 0.1, FINE)
    change(folder / "Good2", label="Good", config={"diagnose_every": 5, "epochs": 9})
    assert [run.name for run in diagnosed_runs(folder)] == ["Broken", "Good (epochs not set)", "Good (epochs=9)"]
    before, labelled = {"dataset": "mine", "protocol": "rated"}, {"diagnose_every": 5, "eval_args": {"mode": "labeled"}}
    other = {"dataset=other": {"dataset": "other"}, "protocol=full": {"protocol": "full"}}
    for distinction, fields in {**other, "mode=labeled": {"config": labelled}}.items():
        change(folder / "Good", **{**before, **fields})
        with pytest.raises(DataError, match=rf"cannot be in one diagnosis.*{distinction}; give each an --output_dir"):
            write_diagnosis(folder)


def test_lists_that_are_not_there_and_nasty_labels_are_reported(folder):
    found = record_of(folder / "Good")["diagnosis"]
    none = dict.fromkeys(("distinct", "items", "gini", "entropy"))
    found["distribution"]["lists"] |= {**none, "users": 5, "of_users": 5}
    change(folder / "Good", diagnosis=found, label="=A $\\foo$ [/b]\x1b")
    change(folder / "Broken", label="_hidden")
    runs = diagnosed_runs(folder)
    parts = list(sections(runs))
    document = diagnosis_document(runs, parts)
    for figure in (block for block in document.blocks if isinstance(block, Figure)):
        drawn(figure.draw)
    text = to_markdown(document)
    assert "| – | – | – | – | 30.0% |" in text
    assert "5 users; 1,000 of 6,040 users, not the same for every model" in text
    for part in parts:
        assert not any(line.startswith("=") for line in to_csv(part.frame).splitlines())


def test_the_given_ratings_are_seen_on_white_and_on_black():
    def luminance(*parts: float) -> float:
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return np.dot([0.2126, 0.7152, 0.0722], linear)

    given = to_rgb(GIVEN_COLOUR)
    assert 1.05 / (luminance(*given) + 0.05) > 3
    assert (luminance(*(1 - part for part in given)) + 0.05) / (luminance(*to_rgb("#16181b")) + 0.05) > 3
