"""The public face: what a program in Python calls."""

import json
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from helpers import Here, random_ratings

import recbole_dgrm as rd
from recbole_dgrm.benchmarks import executors
from recbole_dgrm.data.convert import as_dataset
from recbole_dgrm.data.ratings import read_ratings
from recbole_dgrm.records import read_run

START = """
import os, sys

class NoRecBole:
    def find_spec(name, path=None, target=None):
        if name == "recbole":
            raise ModuleNotFoundError("No module named 'recbole'", name="recbole")

def loaded(*names):
    return sorted(set(names) & set(sys.modules))

import recbole_dgrm
assert set(recbole_dgrm.__all__) <= set(dir(recbole_dgrm))
assert not loaded("torch", "recbole", "pandas", "numpy")
sys.meta_path.insert(0, NoRecBole)
try:
    recbole_dgrm.train
except recbole_dgrm.UserError as error:
    print(error, file=sys.stderr)
from recbole_dgrm.cli.main import main
assert main(["--model=MF", "--dataset=ml-100k"]) == 2
sys.meta_path.remove(NoRecBole)
for given, expected in [({"OMP_WAIT_POLICY": "ACTIVE"}, None), ({"GOMP_SPINCOUNT": "5"}, "5"), ({}, "1000")]:
    for name in recbole_dgrm.start.WAITING:
        os.environ.pop(name, None)
    os.environ.update(given)
    recbole_dgrm.start.own_process()
    assert os.environ.get("GOMP_SPINCOUNT") == expected  # threads that wait spin briefly, unless the user has chosen
import recbole_dgrm.cli.main, recbole_dgrm.cli.display, recbole_dgrm.runs.trained_run, recbole_dgrm.benchmarks.executors
late = loaded("sklearn", "scipy.stats", "matplotlib", "optuna", "sqlalchemy", "plotly", "ray")
assert not late, late
"""
UNCHANGED = """
import gc, os, sys, warnings
import torch, recbole.config, scipy.stats, matplotlib
def settings():
    return dict(os.environ), gc.get_threshold(), list(warnings.filters), matplotlib.rcParams.copy()
before = settings()
import recbole_dgrm
[getattr(recbole_dgrm, name) for name in recbole_dgrm.__all__]
assert settings() == before
assert sys.modules["sklearn.metrics"].__file__  # the real one
"""
KEYS = {"epochs": 1, "device": "cpu"}


@pytest.fixture
def frame():
    table = random_ratings()
    return table.rename(columns={"user_id": "user", "item_id": "item"}).assign(timestamp=range(len(table)))


def run(code: str) -> str:
    """What a process of its own prints to standard error."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.mark.slow
def test_the_start_loads_no_library_that_is_not_needed_and_says_how_recbole_is_installed():
    lines = run(START).splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.endswith("recbole is not installed; pip install --no-deps recbole==1.2.1")


@pytest.mark.slow
def test_a_run_loads_neither_scikit_learn_nor_the_compiler_of_torch(ratings_path, tmp_path):
    arguments = ["--model=DGRM", "--dataset=board", "--epochs=1", "--generator_hidden=[4]", "--device=cpu"]
    arguments += [f"--data_path={ratings_path}", f"--output_dir={tmp_path}"]
    late = "{'sklearn', 'scipy.stats', 'torch._dynamo', 'matplotlib', 'optuna'}"
    code = f"import sys; from recbole_dgrm.cli.main import main; assert main({arguments}) == 0"
    run(f"{code}; assert not {late} & set(sys.modules), {late} & set(sys.modules)")
    assert "calibration" in read_run(next(tmp_path.iterdir())).record["diagnosis"]


def test_importing_changes_nothing_in_the_process():
    assert run(UNCHANGED) == ""


def test_every_public_name_is_documented_and_no_other_is_an_attribute():
    for name in rd.__all__:
        assert getattr(rd, name).__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = rd.trian


def test_a_run_by_the_name_of_its_data_is_taken_up_again_and_shown_as_a_table(ratings_path, tmp_path):
    run = rd.train("MF", "noise", data_path=ratings_path, output_dir=tmp_path, seed=7, **KEYS)
    assert run.record["status"] == "finished"
    assert run.record["seed"] == 7
    (path,) = tmp_path.glob("MF-noise-*")
    assert rd.load_run(path).record["test"] == rd.resume(path).record["test"] == run.record["test"]
    scores = run.evaluate()
    assert json.loads(json.dumps(scores))["test"] == scores["test"]
    assert "skill" in str(run)
    for shown in (run, scores):
        for text in (repr(shown), str(shown), shown._repr_html_()):
            assert "random" in text
            assert f"{scores['test']['rmse']:.4f}" in text
    assert run.export(tmp_path / "weights").is_file()


def test_a_dataframe_is_written_as_a_data_set_and_its_run_is_taken_up_again(frame, tmp_path):
    run = rd.train("MF", frame, output_dir=tmp_path, **KEYS)
    user, item = str(frame["user"][0]), str(frame["item"][0])
    assert len(run.recommend([user], topk=3)) == 3
    assert len(run.predict([user], [item])) == 1
    assert run.evaluate()["test"] == run.record["test"]
    again = rd.train("MF", frame.copy(), output_dir=tmp_path, **KEYS)
    assert again.record["test"] == run.record["test"]
    (written,) = (tmp_path / "data").iterdir()
    assert run.record["dataset"] == written.name
    table = pd.read_csv(written / f"{written.name}.inter", sep="\t")
    assert list(table) == ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    np.testing.assert_array_equal(table.to_numpy(float), frame.to_numpy(float))
    other = rd.train("MF", frame.assign(rating=frame["rating"] / 2), output_dir=tmp_path, **KEYS)
    assert other.splits.scale.high == 2.5
    assert len(list((tmp_path / "data").iterdir())) == 2


@pytest.fixture
def polars():
    return pytest.importorskip("polars", reason="the extra 'test' is not installed")


def test_a_dataframe_of_polars_is_the_data_set_that_one_of_pandas_is(frame, polars, tmp_path, monkeypatch):
    other = polars.DataFrame({name: frame[name].to_list() for name in frame})
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)  # an extra; nobody needs it for this
        for given in (other, other.lazy()):
            pd.testing.assert_frame_equal(read_ratings(given).table, read_ratings(frame).table)
    run = rd.train("ICDAE", other, output_dir=tmp_path, **KEYS)
    new = other.filter(polars.col("user") == other["user"][0]).with_columns(user=polars.lit("new"))
    assert set(run.with_ratings(new).recommend(["new"])["user"]) == {"new"}


def test_a_column_that_nobody_asked_for_does_no_harm_and_equal_ratings_have_one_data_set(frame, polars, tmp_path):
    expected = as_dataset(frame, tmp_path)
    nested = frame.assign(genres=[["a", "b"]] * len(frame), user=frame["user"].astype(str))
    other = polars.DataFrame({name: frame[name].to_list() for name in frame})
    for given in (nested, other.with_columns(all=polars.struct(["user", "item"])), nested.astype({"item": "category"})):
        assert as_dataset(given, tmp_path) == expected


WRONG = [np.ones((2, 3)), pd.Series([1, 2]), np.rec.fromrecords([(1, 2)]), [1, 2], {"user": [1]}, None, 3]


def test_what_is_no_dataframe_is_told_how_to_become_one_at_every_door(tmp_path):
    for data in WRONG:
        for door in (
            lambda data: rd.train("MF", data, output_dir=tmp_path),
            lambda data: rd.tune("MF", data, output_dir=tmp_path),
            lambda data: rd.split(data, tmp_path / "split"),
            lambda data: rd.diagnose("MF", data, output_dir=tmp_path),
            lambda data: rd.benchmark(models=["MF"], datasets=[data], output_dir=tmp_path),
            read_ratings,
            lambda data: read_ratings(data, value="prediction"),
        ):
            with pytest.raises(rd.UserError, match=r"build pandas\.DataFrame\(\{'user': .*'(rating|prediction)': "):
                door(data)
    assert not list(tmp_path.iterdir())


def test_a_benchmark_of_a_dataframe_with_a_plan_in_a_file(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "LocalExecutor", Here)
    plan = {"models": ["MF"], "seeds": [1, 2], "config": KEYS}
    (tmp_path / "plan.yaml").write_text(json.dumps(plan), encoding="utf-8")
    report = rd.benchmark(str(tmp_path / "plan.yaml"), datasets=frame, output_dir=tmp_path, seeds=[1])
    (written,) = (tmp_path / "data").iterdir()
    assert set(report.table()["dataset"]) == {written.name}
    assert "MF" in set(report.table()["model"])
    assert written.name in repr(report) == str(report)
    assert "MF" in rd.report(tmp_path).to_latex()
    with pytest.raises(rd.UserError, match="the plan names no models"):
        rd.benchmark(datasets=frame, output_dir=tmp_path)
    with pytest.raises(rd.UserError, match="datasets"):
        rd.benchmark(models=["MF"], datasets="noise", output_dir=tmp_path)


def test_a_diagnosis_takes_a_dataframe_and_is_a_table_that_is_harmless_and_whole(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "LocalExecutor", Here)
    found = rd.diagnose("MF", frame, epochs=1, every=1, output_dir=tmp_path / "diagnosis", device="cpu")
    assert found.path.is_file()
    assert list(found.verdicts) == ["MF"]
    assert found.verdicts["MF"] in repr(found) == str(found)
    assert "<td>" in found._repr_html_()
    long = "collapse: none, " + "and so on, " * 20
    found = rd.Diagnosis(tmp_path, {"A\x1b[31m<b>": long})
    assert "A\\x1b[31m<b>" in str(found)
    assert long.strip() in str(found)
    assert "&lt;b&gt;" in found._repr_html_()


def test_a_report_is_a_table_of_means_and_deviations(tmp_path):
    rows = [["d", "rated", model, "rmse", mean, std, ""] for model, mean, std in (("B", 0.5, 0.1), ("A", 0.25, None))]
    columns = ["dataset", "protocol", "model", "metric", "mean", "std", "definition"]
    pd.DataFrame(rows, columns=columns).to_csv(tmp_path / "report.csv", index=False)
    shown = rd.Report(tmp_path / "report.html").shown()
    assert shown["RMSE ↓"].to_dict() == {("d", "rated", "B"): "0.500 ± 0.100", ("d", "rated", "A"): "0.250"}
    assert [name for *_, name in shown.index] == ["B", "A"]


def test_a_dataframe_that_cannot_be_used_is_an_error_and_leaves_nothing(frame, tmp_path):
    with pytest.raises(rd.UserError, match="no column 'rating'; it has user, item, timestamp: name it"):
        rd.train("MF", frame.drop(columns="rating"), output_dir=tmp_path, **KEYS)
    assert not list(tmp_path.rglob("*.inter"))
    with pytest.raises(rd.UserError, match="leave it out with a DataFrame"):
        rd.train("MF", frame, data_path=tmp_path)


def test_a_search_is_a_call(frame, tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "LocalExecutor", Here)
    space = {"factors": {"choice": [2, 3]}}
    keys = {"space": space, "sampler": "grid", "trials": 1, "output_dir": tmp_path}
    search = rd.tune("MF", frame, **keys, **KEYS)
    assert search.best["factors"] in (2, 3)
    assert len(search.trials) == 1
