"""Benchmark plans: what a YAML may say, and the runs that follow."""

from dataclasses import replace
from pathlib import Path

import pytest
from helpers import random_ratings, write_ratings

from recbole_dgrm.benchmarks.plan import find_plan, make_plan, planned_runs
from recbole_dgrm.config.values import read_yaml
from recbole_dgrm.errors import DataError, OptionError, UnknownModel
from recbole_dgrm.system.yaml_files import properties_dir

MINE = {"models": ["MF", "DGRM"], "datasets": ["noise"], "seeds": [1, 2]}


@pytest.fixture
def plan(tmp_path, ratings_path):
    """``plan(**keys)``: the plan with these keys changed, on the data of the tests."""

    def make(config=(), **keys):
        config = {**dict(config), "data_path": str(ratings_path)}
        return make_plan({**MINE, **keys, "config": config}, tmp_path / "mine.yaml")

    return make


def cells(runs) -> list[tuple]:
    return [(run.label, *(run.config[key] for key in ("dataset", "protocol", "seed"))) for run in runs]


def test_a_plan_is_models_times_data_sets_times_seeds_times_protocols(plan):
    planned = plan(datasets=["noise", "board"], protocols=["rated", "full"], models=["DGRM", "EASE"])
    runs, left_out = planned_runs(planned)
    assert len(runs) == len(set(cells(runs))) == 2 * 2 * 2 * 2
    assert not left_out
    first = [("DGRM", "noise", "rated", 1), ("EASE", "noise", "rated", 1), ("DGRM", "noise", "rated", 2)]
    assert cells(runs)[:3] == first
    assert len({run.identity for run in runs}) == len(runs)


def test_rows_and_data_sets_may_have_keys_seeds_and_protocols_of_their_own(plan, tmp_path):
    (tmp_path / "more.yaml").write_text("factors: 3\nregularization: 0.5\n")
    models = [
        {"model": "MF", "config_files": ["more.yaml"], "config": {"regularization": 0.7}, "protocols": ["rated"]},
        {"model": "EASE", "label": "linear"},
    ]
    datasets = [{"dataset": "noise", "seeds": [5], "protocols": ["rated", "full"], "config": {"topk": [5, 10]}}]
    runs, _ = planned_runs(plan(models=models, datasets=datasets, config={"epochs": 7}))
    assert cells(runs) == [("MF", "noise", "rated", 5), ("linear", "noise", "rated", 5), ("linear", "noise", "full", 5)]
    keys = ("factors", "regularization", "epochs", "topk")
    assert [runs[0].config[key] for key in keys] == [3, 0.7, 7, [5, 10]]


def test_a_row_may_stand_for_the_data_sets_that_it_has_a_file_for(plan, tmp_path):
    (tmp_path / "tuned-noise.yaml").write_text("factors: 3\n")
    tuned = {"model": "MF", "label": "tuned", "config_files": ["tuned-{dataset}.yaml"]}
    runs, _ = planned_runs(plan(models=["MF", tuned], datasets=["noise", "board"], seeds=[1]))
    found = [(run.label, run.config["dataset"], run.config["factors"]) for run in runs]
    assert found == [("MF", "noise", 12), ("tuned", "noise", 3), ("MF", "board", 12)]


def test_an_optional_data_set_that_is_not_there_is_left_out_with_its_reason(plan, ratings_path):
    write_ratings(ratings_path, "pairs", random_ratings()[["user_id", "item_id"]])
    entries = ["noise", {"dataset": "nowhere", "optional": True}, {"dataset": "pairs", "optional": True}]
    runs, left_out = planned_runs(plan(datasets=entries))
    assert {run.config["dataset"] for run in runs} == {"noise"}
    assert "there is no folder" in left_out["nowhere"]
    assert "no column rating:float" in left_out["pairs"]
    with pytest.raises(DataError, match="none of the data sets exists"):
        planned_runs(plan(datasets=entries[1:2]))
    with pytest.raises(DataError, match="there is no folder"):
        planned_runs(plan(datasets=["noise", "nowhere"]))


def test_a_wrong_plan_is_refused_before_any_run_is_made(plan):
    for keys, message in [
        ({"seed": [1]}, "unknown key 'seed'; did you mean 'seeds'"),
        ({"models": [{"model": "MF", "lable": "x"}]}, "models: unknown key 'lable'; did you mean 'label'"),
        ({"datasets": [{"dataset": "noise", "option": True}]}, "datasets: unknown key 'option'"),
        ({"models": [{"label": "x"}]}, "neither a name nor a mapping with 'model"),
        ({"models": []}, "names no models"),
        ({"seeds": []}, "must not be empty"),
        ({"seeds": [-1]}, "seeds=.* out of range"),
        ({"models": "MF"}, "models='MF' is not a list"),
        ({"models": ["MF", "MF"]}, "MF occurs twice"),
        ({"baseline": "BPR"}, r"baseline='BPR' is not one of the models .*; name one of them"),
        ({"time_limit": 0}, "time_limit=0.0 is out of range"),
        ({"published": {"source": "a paper", "value": {}}}, "published: unknown key 'value'; did you mean 'values'"),
        ({"published": {"source": "a paper", "values": {}}}, "protocols is not set"),
        # every run is checked, too
        ({"models": ["MF", "DRGM"]}, "DRGM on noise, protocol rated: there is no model 'DRGM'"),
        ({"models": [{"model": "MF", "config": {"factor": 1}}]}, "MF on noise.*did you mean 'factors'"),
        ({"protocols": ["rate"]}, "protocol='rate' is unknown"),
        ({"metrics": ["ratedncdg@5"]}, "there is no metric 'ratedncdg'; did you mean 'ratedndcg'"),
        ({"metrics": ["recall@10"]}, "these protocols compute none of them"),
        ({"models": ["MF", {"model": "MF", "label": "B", "config": {"factors": 12}}]}, "MF and B are the same runs"),
    ]:
        with pytest.raises((OptionError, UnknownModel), match=message):
            planned_runs(plan(**keys))


@pytest.mark.parametrize("path", sorted((properties_dir() / "benchmark").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_shipped_plans_are_good(path):
    assert find_plan(path.stem) == path
    plan = make_plan(read_yaml(path), path)
    datasets = [replace(entry, seeds=None) for entry in plan.datasets]
    runs, left_out = planned_runs(replace(plan, datasets=datasets, seeds=plan.seeds[:1]))  # other seeds are alike
    assert {run.config["dataset"] for run in runs} == {"ml-100k"}  # the others need files that are not here
    assert set(left_out) == {entry.dataset for entry in plan.datasets if entry.optional}


def test_a_plan_of_ones_own_goes_before_a_shipped_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_plan("smoke") == properties_dir() / "benchmark" / "smoke.yaml"
    (tmp_path / "smoke").mkdir()  # the default output of that plan
    assert find_plan("smoke") == properties_dir() / "benchmark" / "smoke.yaml"
    (tmp_path / "smoke").rmdir()
    (tmp_path / "smoke").write_text("models: [MF]\ndatasets: [noise]\n")
    assert find_plan("smoke") == Path("smoke")


def test_a_data_set_with_keys_is_named_with_them(plan):
    part = {"dataset": "noise", "config": {"known_share": 0.5}}
    runs, _ = planned_runs(plan(datasets=["noise", part], seeds=[1], models=["MF"]))
    assert [run.line for run in runs] == [("noise", "rated", "MF"), ("noise (known_share=0.5)", "rated", "MF")]
    runs, _ = planned_runs(plan(datasets=[part], seeds=[1]))
    assert [run.line[0] for run in runs] == ["noise (known_share=0.5)"] * 2
