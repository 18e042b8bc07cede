"""Searches: no trial lost, none made twice, the test part never there, whoever is killed."""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, replace
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from helpers import ROOT, Here, checkerboard, random_ratings, wait_for, write_ratings
from optuna.trial import TrialState

from recbole_dgrm.benchmarks import executors
from recbole_dgrm.benchmarks.executors import Job
from recbole_dgrm.cli import main
from recbole_dgrm.errors import CheckpointError, DataError, OptionError, UserError
from recbole_dgrm.records import RECORD, find_runs, new_record, read_run, write_epochs
from recbole_dgrm.runs import experiment
from recbole_dgrm.runs.trained_run import load_run
from recbole_dgrm.runs.trial import Trial
from recbole_dgrm.system.files import write_json
from recbole_dgrm.tuning.plan import SearchPlan, plan_search
from recbole_dgrm.tuning.search import best_against_defaults, run_search, write_search
from recbole_dgrm.tuning.study import Search

SCALE = {"rating_scale": [1, 5], "rating_step": 1}
FIXED = {"epochs": 2, "eval_step": 1, "device": "cpu", "valid_metric": "RatedNDCG@5", **SCALE}
SPACE = {"factors": {"choice": [2, 3, 4]}, "regularization": {"choice": [0.1, 0.01]}, "regularize_by": "count"}
WIDE = {"factors": {"int": [2, 50]}, "regularization": {"loguniform": [1e-3, 1]}, "conditions": ["factors > 5"]}
TWO = {"factors": {"choice": [2, 3]}}
LONG = {"epochs": 40, "stopping_step": 40, "eval_step": 1, "checkpoint_interval": 0}
LOST = {"status": "failed", "error": "killed by SIGKILL"}


@pytest.fixture
def plan(tmp_path, ratings_path):
    """``plan(model, space, **options)``: a checked search on the data of the tests."""

    def make(model="MF", space=SPACE, config=FIXED, **options) -> SearchPlan:
        given = {"model": model, "dataset": "board", "protocol": "rated", "seed": 7, "data_path": str(ratings_path)}
        return plan_search({**given, **config}, space, **{"sampler": "grid", **options})

    return make


class Scored(Here):
    """Trains nothing: a trial has the validation scores that ``curve(config)`` gives, or ends as it says."""

    def __init__(self, curve: Callable[[dict], list[float] | dict] = lambda config: [config["regularization"]]):
        super().__init__()
        self.curve, self.made = curve, list[str]()

    def start(self, job: Job, run_dir: Path) -> Future:
        self.made.append(run_dir.name)
        source = json.loads((run_dir.parents[1] / "search.json").read_text())["data"]
        record, scores = asdict(new_record(job.config, source=source)), self.curve(job.config)
        ending = scores if isinstance(scores, dict) else {"status": "validated"}
        scores = [] if isinstance(scores, dict) else scores
        for epoch, score in enumerate(scores):
            if job.trial.falls_behind(epoch, score, bigger=True):
                scores, ending = scores[: epoch + 1], {"status": "pruned"}
                break
        lines = [{"stage": "select", "epoch": e, "seconds": 0.1, "valid_ratedndcg@5": s} for e, s in enumerate(scores)]
        write_epochs(run_dir, lines)
        valid = {"ratedndcg@5": max(scores)} if ending["status"] == "validated" else {}
        timing = {"best_epoch": len(scores), "epochs": len(scores)}
        write_json(run_dir / RECORD, {**record, "parameters": 9, "valid": valid, "timing": timing, **ending})
        return self._threads.submit(dict)


def states(search: Search) -> Counter:
    return Counter(trial.state for trial in search.by_number.values())


def result(search: Search) -> list[tuple]:
    return [(number, trial.params, trial.value, trial.state) for number, trial in search.by_number.items()]


def test_a_grid_is_every_point_once_and_the_best_is_the_best(plan, tmp_path):
    search = run_search(plan(), tmp_path / "out", Scored(), timeout=1e-9)
    assert (search.by_number, search.waiting()) == ({}, [0, 1, 2, 3, 4, 5])  # left for another time
    search = run_search(plan(), tmp_path / "out", Here())
    assert len({tuple(trial.params.items()) for trial in search.by_number.values()}) == 6
    assert list(search.by_number) == list(range(6))
    assert search.finished()[0].value == max(trial.value for trial in search.by_number.values())
    again = Scored()
    assert result(run_search(plan(), tmp_path / "out", again)) == result(search)
    assert again.made == []
    assert find_runs(tmp_path / "out") == []  # trials are no runs of a report
    for taken in (experiment.resume, load_run):
        with pytest.raises(CheckpointError, match="is a trial of a search, and a trial is never tested"):
            taken(tmp_path / "out" / "trials" / "0")


def test_a_given_test_file_may_be_missing_from_the_search_and_is_no_part_of_its_identity(plan, tmp_path):
    table = checkerboard()
    cut = np.random.default_rng(0).random(len(table)) < 0.8
    for part, rows in (("train", table[cut]), ("test", table[~cut])):
        path = write_ratings(tmp_path / "data", "board", rows)
        path.rename(path.with_name(f"board.{part}.inter"))
    config = {**FIXED, "data_path": str(tmp_path / "data"), "benchmark_filename": ["train", "test"]}
    before = plan(config=config, trials=1)
    (tmp_path / "data" / "board" / "board.test.inter").unlink()
    assert plan(config=config, trials=1) == before
    assert run_search(before, tmp_path / "out", Here()).finished()
    data = read_run(tmp_path / "out" / "trials" / "0").record["data"]
    assert ({"n_train", "n_valid"} <= set(data), "n_test" in data) == (True, False)


def test_trials_that_fail_are_recorded_and_the_search_goes_on(plan, tmp_path):
    broken = {"status": "failed", "error": "ValueError: =cmd|' /C calc'!A0", "traceback": "Traceback ..."}

    def curve(config: dict) -> list[float] | dict:
        return broken if config["factors"] == 2 else [0.2, 0.5]

    search = run_search(plan(), tmp_path / "out", Scored(curve))
    assert states(search) == {TrialState.FAIL: 2, TrialState.COMPLETE: 4}
    write_search(search)
    table = pd.read_csv(tmp_path / "out" / "trials.csv")
    assert {"number", "state", "value", "params_factors", "params_regularization"} <= set(table)
    assert Counter(table["state"]) == {"FAIL": 2, "COMPLETE": 4}
    assert table["user_attrs_error"].dropna().str.startswith("ValueError").all()
    assert table["params_regularization"].dtype == table["value"].dtype == float
    again = Scored(curve)
    assert result(run_search(plan(), tmp_path / "out", again)) == result(search)
    assert again.made == []  # a failure of its own is not tried again


def test_a_trial_that_falls_behind_the_median_ends_early(plan, tmp_path):
    space = {"regularization": {"choice": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]}}

    def curve(config: dict) -> list[float]:
        return [(0.1 if config["regularization"] == 0.9 else 0.5) + epoch / 1000 for epoch in range(13)]

    search = run_search(plan(space=space), tmp_path / "out", Scored(curve))
    (late,) = [number for number, trial in search.by_number.items() if trial.params["regularization"] == 0.9]
    pruned = [number for number, trial in search.by_number.items() if trial.state == TrialState.PRUNED]
    assert pruned == ([] if late < 5 else [late])  # five finish before any is judged
    for number in pruned:
        assert max(search.by_number[number].intermediate_values) == 10
    off = run_search(plan(space=space, prune=False), tmp_path / "off", Scored(curve))
    assert states(off) == {TrialState.COMPLETE: 9}


def test_tpe_begins_with_the_defaults_and_a_random_search_grows_by_the_trials_that_are_missing(plan, tmp_path):
    search = run_search(plan(space=WIDE, sampler="tpe", trials=15), tmp_path / "tpe", Scored(lambda config: [0.1, 0.2]))
    assert states(search) == {TrialState.COMPLETE: 15}
    assert set(search.shown()["epoch"]) == {"2, still improving"}
    assert all(trial.params["factors"] > 5 for trial in search.by_number.values())
    assert len({trial.params["regularization"] for trial in search.by_number.values()}) == 15
    assert search.by_number[0].params == {"factors": 12, "regularization": 0.08}
    planned, executor = partial(plan, space=WIDE, sampler="random"), Scored()
    first = result(run_search(planned(trials=2), tmp_path / "random", Scored()))
    more = result(run_search(planned(trials=4), tmp_path / "random", executor))
    assert (more[:2], executor.made) == (first, ["2", "3"])
    assert len({tuple(params.items()) for _, params, *_ in more}) == 4


def test_a_search_that_dies_at_any_step_goes_on_as_if_nothing_had_happened(plan, tmp_path, monkeypatch):
    planned = plan(space=WIDE, sampler="tpe", trials=5)
    whole = run_search(planned, tmp_path / "whole", Scored())
    for owner, name in ((Search, "job"), (Trial, "save"), (Scored, "start"), (Search, "settle")):
        for turn in (1, 4):
            folder, real, calls = tmp_path / f"{name}-{turn}", getattr(owner, name), count(1)

            def dies(*arguments, real=real, calls=calls, turn=turn):
                if next(calls) == turn:
                    raise SystemExit
                return real(*arguments)

            with monkeypatch.context() as patch:
                patch.setattr(owner, name, dies)
                with pytest.raises(SystemExit):
                    run_search(planned, folder, Scored())
            assert result(run_search(planned, folder, Scored())) == result(whole), (name, turn)


def test_a_search_over_other_data_or_by_other_code_begins_anew_and_the_old_one_is_put_aside(plan, tmp_path):
    write_ratings(tmp_path / "data", "board", random_ratings())
    config = {**FIXED, "data_path": str(tmp_path / "data")}
    run_search(plan(config=config, trials=2), tmp_path / "out", Scored())
    (tmp_path / "out" / "best.yaml").write_text("factors: 2")
    write_ratings(tmp_path / "data", "board", random_ratings().iloc[1:])
    executor = Scored()
    run_search(plan(config=config, trials=2), tmp_path / "out", executor)
    assert executor.made == ["0", "1"]
    assert not (tmp_path / "out" / "best.yaml").exists()  # it was of other data
    assert (tmp_path / "out" / ".aside" / "search-1" / "best.yaml").is_file()
    assert "data set have changed" in (tmp_path / "out" / ".aside" / "search-1" / "reason.txt").read_text()
    file = tmp_path / "out" / "trials" / "1" / "record.json"  # of other data, alone among the others
    record = json.loads(file.read_text())
    write_json(file, {**record, "data": {**record["data"], "source": "other"}})
    executor = Scored()
    run_search(plan(config=config, trials=2), tmp_path / "out", executor)
    assert executor.made == ["1"]
    assert list((tmp_path / "out" / ".aside" / "trials").glob("1-*/reason.txt"))
    run_search(replace(plan(config=config, trials=1), code=99), tmp_path / "out", Scored())
    assert "code that gives other results" in (tmp_path / "out" / ".aside" / "search-2" / "reason.txt").read_text()
    (tmp_path / "data" / "board" / "board.yaml").write_text("rating_scale: [1, 5]\n")
    assert plan(config=config).data != plan().data


def test_another_search_does_not_get_into_the_same_folder(plan, tmp_path):
    run_search(plan(trials=1), tmp_path / "out", Scored())
    for key, other in {"space": plan(space=TWO), "epochs": plan(config={**FIXED, "epochs": 4})}.items():
        with pytest.raises(OptionError, match=f"the search in .* has {key}=.*; give the same keys"):
            run_search(other, tmp_path / "out", Scored())
    (tmp_path / "out" / "search.json").write_text("{}")
    with pytest.raises(DataError, match=r"search.json is not the plan of a search"):
        run_search(plan(), tmp_path / "out", Scored())


def test_a_space_that_does_not_fit_the_model_is_an_error_before_anything_runs(plan):
    for model, space, message in [
        ("MF", {"latent_size": {"choice": [8, 16]}}, "unknown key 'latent_size'"),
        ("MF", {"factors": {"choice": [8, 0]}}, "factors=0 is out of range"),
        ("MF", {"factors": {"uniform": [1, 2]}}, "factors=.* is not a whole number"),
        ("DGRM", {"noise_min": {"choice": [0.5]}, "noise_max": {"choice": [0.1]}}, "must be below noise_max"),
    ]:
        with pytest.raises(OptionError, match=message):
            plan(model=model, space=space)


def test_a_space_cannot_change_what_is_measured(plan):
    for key in ("seed", "rating_threshold", "val_interval", "eval_args", "known_share", "topk", "metrics", "data_path"):
        for value in ({"choice": [1, 5]}, 5):
            with pytest.raises(OptionError, match=f"{key} cannot be part of .*: it changes the data or the evaluation"):
                plan(space={**SPACE, key: value})


def test_a_trial_whose_process_died_is_started_once_more_and_a_third_lost_trial_ends_the_search(plan, tmp_path):
    deaths = iter([True, False, True, True])
    executor = Scored(lambda config: LOST if next(deaths, False) else [0.5])
    search = run_search(plan(), tmp_path / "out", executor)
    assert executor.made == ["0", "0", "1", "1", "2", "3", "4", "5"]
    assert states(search) == {TrialState.COMPLETE: 5, TrialState.FAIL: 1}
    with pytest.raises(UserError, match="trial 2 could not be made, and the search stops: killed by SIGKILL"):
        run_search(plan(), tmp_path / "lost", Scored(lambda config: LOST))
    full = {"status": "interrupted", "error": "record.json: No space left on device"}
    with pytest.raises(UserError, match=r"trial 0 could not be made, .*No space"):
        run_search(plan(), tmp_path / "full", Scored(lambda config: full))
    assert states(run_search(plan(), tmp_path / "full", Scored())) == {TrialState.COMPLETE: 6}


def test_auto_is_settled_once_for_all_trials(plan, tmp_path):
    """Here every user has one item to validate, so no order differs from another."""
    pairs = [(user, (user + step) % 9) for user in range(60) for step in (0, 2, 5)]
    table = pd.DataFrame([(*pair, 1 + sum(pair) % 5) for pair in pairs], columns=["user_id", "item_id", "rating"])
    write_ratings(tmp_path / "data", "few", table)
    given = {"dataset": "few", "data_path": str(tmp_path / "data"), "valid_metric": "auto"}
    planned = plan(config={**FIXED, **given}, trials=2)
    assert planned.config["valid_metric"] == "RMSE"
    search = run_search(planned, tmp_path / "out", Here())
    assert (search.metric, search.bigger) == ("rmse", False)
    assert search.finished()[0].value == min(trial.value for trial in search.by_number.values())


@pytest.mark.slow
def test_a_killed_search_goes_on_and_its_trials_are_those_of_an_unbroken_one(plan, tmp_path, ratings_path, monkeypatch):
    """kill -9 while a trial is at work and another is done."""
    (tmp_path / "space.yaml").write_text(yaml.safe_dump({"sampler": "grid", **TWO}))
    keys = {"model": "MF", "dataset": "board", "seed": 7, "space": tmp_path / "space.yaml", "test_seeds": "[]"}
    places = {"output_dir": tmp_path / "out", "data_path": ratings_path}
    line = [
        "tune",
        *(f"--{key}={value}" for key, value in {**keys, **places, **LONG, **SCALE, "device": "cpu"}.items()),
    ]
    process = subprocess.Popen([sys.executable, "-m", "recbole_dgrm", *line], cwd=ROOT, stdout=subprocess.DEVNULL)
    at_work = tmp_path / "out" / "trials" / "1"
    wait_for(lambda: (at_work / "checkpoint.pt").exists() or (at_work / "record.json").exists())
    process.kill()
    process.wait()
    done = tmp_path / "out" / "trials" / "0" / "record.json"
    time = done.stat().st_mtime_ns
    monkeypatch.setattr(executors, "LocalExecutor", Here)
    assert main.main(line) == 0
    assert done.stat().st_mtime_ns == time
    planned = plan(space=TWO, config={**FIXED, **LONG})
    whole = run_search(planned, tmp_path / "whole", Here())
    assert result(whole) == result(Search(planned, tmp_path / "out"))


def test_the_best_configuration_is_tested_as_its_trial_was_made(plan, tmp_path):
    """A key of the space goes before the same key of the caller, and the metric is that of the trials."""
    planned = plan(space={"factors": {"choice": [2]}}, config={**FIXED, "factors": 5, "valid_metric": "RMSE"})
    search = run_search(planned, tmp_path / "out", Here())
    tested = {run.label: run.config for run in best_against_defaults(search, [1]).runs}
    keys = {label: (config["factors"], config["valid_metric"], config["seed"]) for label, config in tested.items()}
    assert keys == {"MF, tuned": (2, "RMSE", 1), "MF, defaults": (5, "RMSE", 1)}
    planned = plan(space={"factors": {"choice": [5]}}, config={**FIXED, "factors": 5, "valid_metric": "RMSE"})
    same = best_against_defaults(run_search(planned, tmp_path / "same", Here()), [1])
    assert [run.label for run in same.runs] == ["MF, defaults"]
