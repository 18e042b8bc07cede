"""Models that somebody else has written, named by module and class."""

import json
import os
import sys

import pytest
from helpers import ROOT, blocks, interrupted

from recbole_dgrm.benchmarks.plan import make_plan
from recbole_dgrm.benchmarks.session import Benchmark
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.errors import CheckpointError, OptionError, UnknownModel
from recbole_dgrm.models import registry
from recbole_dgrm.records import read_run
from recbole_dgrm.runs.experiment import resume, run_one, saved_config
from recbole_dgrm.runs.trained_run import load_run

OF_RECBOLE = "from recbole.model.general_recommender import BPR\n\n\nclass Mine(BPR):\n    pass\n"


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package ``others`` with the model of docs/own_model.md and one that is written as RecBole's are."""
    (code, _), (defaults,) = (blocks(ROOT / "docs" / "own_model.md", language) for language in ("python", "yaml"))
    folder = tmp_path / "place" / "others"
    folder.mkdir(parents=True)
    files = {"__init__.py": "", "linear.py": code, "Linear.yaml": defaults, "mine.py": OF_RECBOLE}
    broken = {"broken.py": "1 / 0\n", "Broken.yaml": "", "NoModel.yaml": "", "Mine.yaml": "embedding_size: 4\n"}
    for name, text in {**files, **broken}.items():
        (folder / name).write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(folder.parent)
    yield folder
    for name in [name for name in sys.modules if name.split(".")[0] == "others"]:
        del sys.modules[name]


def test_a_run_of_it_is_called_by_its_class_and_taken_up_by_its_full_name(package, make_config):
    record, path = run_one(make_config("others.linear:Linear"))
    assert (record.model, record.label) == ("others.linear:Linear", "Linear")
    assert path.name.startswith("Linear-noise-")
    saved = json.loads((path / "record.json").read_text(encoding="utf-8"))
    again, _ = resume(interrupted(path))
    assert again.test == saved["test"]
    assert load_run(path).evaluate()["test"] == saved["test"]


def test_its_keys_are_checked_as_those_of_ours(package, make_config):
    with pytest.raises(OptionError, match="corruption=2"):
        make_config("others.linear:Linear", corruption=2)
    with pytest.raises(OptionError, match="did you mean 'corruption'"):
        make_config("others.linear:Linear", corruptio=0.5)


def test_a_model_written_as_those_of_recbole_runs_as_they_do(package, make_config):
    config = make_config("others.mine:Mine")
    assert not config.predicts_ratings
    assert "rmse" not in config["metrics"]
    assert run_one(config)[0].status == "finished"
    with pytest.raises(OptionError, match="embedding_size='wide'"):
        make_config("others.mine:Mine", embedding_size="wide")


@pytest.mark.slow
def test_child_processes_find_it_on_the_path_of_python(package, ratings_path, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(package.parent), prepend=os.pathsep)
    keys = {"data_path": str(ratings_path), "device": "cpu", "epochs": 1}
    plan = make_plan({"models": ["others.linear:Linear"], "datasets": ["noise"], "seeds": [1], "config": keys})
    made = Benchmark(plan, tmp_path / "runs")
    assert [run.label for run in made.runs] == ["Linear"]
    assert list(made.run().runs.values()) == ["finished"]
    (path,) = (tmp_path / "runs" / "noise").glob("*/Linear-1-*")
    assert read_run(path).record["model"] == "others.linear:Linear"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("others.missing:Linear", "no module others.missing .* PYTHONPATH"),
        ("others.linear:Other", r"needs a file .*Other\.yaml"),
        ("others.linear.deep:Linear", "no module others.linear.deep"),
        ("others:NoModel", "others has no model NoModel: it must be a class"),
        ("others.broken:Broken", "cannot be imported .*ZeroDivisionError"),
        ("__main__:Linear", "no module __main__|no file .*Linear"),  # of pytest or of a worker of it
    ],
)
def test_a_name_that_leads_to_no_model_is_an_error_with_its_remedy(package, name, said):
    with pytest.raises(UnknownModel, match=said):
        load_config(config_dict={"model": name, "dataset": "ml-100k"})


@pytest.mark.parametrize("name", ["../others/linear.py:Linear", "others.linear:Linear:x", ":Linear", "others.linear:"])
def test_what_is_no_module_and_class_is_no_name(package, name):
    with pytest.raises(OptionError, match="is not a plain name"):
        load_config(config_dict={"model": name, "dataset": "ml-100k"})
    with pytest.raises(UnknownModel, match="a model of your own is named by module and class"):
        registry.model_class(name)


@pytest.mark.parametrize("name", ["others.gadget:Gadget", "others.gadget.inner:Gadget"])
def test_a_module_that_a_strange_run_names_is_not_imported_without_its_yaml_file(package, tmp_path, name):
    (package / "gadget").mkdir()
    for file in ("__init__.py", "inner.py"):
        (package / "gadget" / file).write_text("raise SystemExit('imported')", encoding="utf-8")
    (tmp_path / "config.yaml").write_text(f"model: {name}\ndataset: ml-100k\n", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"needs a file .*Gadget\.yaml"):
        saved_config(tmp_path)
    assert not [module for module in sys.modules if module.startswith("others")]


@pytest.mark.parametrize("name", ["others.linear:Linear", "BPR"])
def test_a_model_without_a_search_space_says_how_to_give_one(package, name):
    with pytest.raises(UnknownModel, match=f"no search space comes with {name}; .*--space=FILE"):
        registry.space_file(name)
