"""Searches: nothing lost, nothing twice, the test part never there, whoever is killed."""

import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import optuna
import pandas as pd
import psutil
import pytest
import yaml
from helpers import checkerboard, random_ratings, wait_for, write_ratings
from matplotlib import pyplot, rcParams, style
from optuna.distributions import CategoricalDistribution, FloatDistribution
from optuna.trial import TrialState
from recbole_dgrm.tuning.workers import run_search, work
from sqlalchemy.exc import OperationalError

from recbole_dgrm.benchmarks import executors
from recbole_dgrm.cli import main
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.errors import OptionError, UserError
from recbole_dgrm.records import config_hash, write_config
from recbole_dgrm.reports import figures
from recbole_dgrm.runs import experiment
from recbole_dgrm.system import processes
from recbole_dgrm.tuning import search_figures, search_report, workers
from recbole_dgrm.tuning import study as studies
from recbole_dgrm.tuning.plan import SearchPlan, plan_search
from recbole_dgrm.tuning.study import Study, worker_of

FIXED = {"epochs": 3, "eval_step": 1, "device": "cpu", "rating_scale": [1, 5], "rating_step": 1}
KINDS = ("png", "svg")
SPACE = {"factors": {"choice": [2, 3, 4]}, "regularization": {"choice": [0.1, 0.01]}, "regularize_by": "count"}


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """A search looks after its workers more often."""
    monkeypatch.setattr(workers, "REFRESH_S", 0.2)


@pytest.fixture
def plan(tmp_path, ratings_path):
    """``plan(model, space, **options)``: a checked search in ``tmp_path/out``, on the data of the tests."""

    def make(model="MF", space=SPACE, config=FIXED, folder=tmp_path / "out", **options) -> SearchPlan:
        given = {"model": model, "dataset": "board", "protocol": "rated", "seed": 7, "data_path": str(ratings_path)}
        options = {"sampler": "grid", **options}
        return plan_search({**given, **config}, space, folder, **options)

    return make


@pytest.fixture
def in_process(monkeypatch):
    """Trials are run in this process, one after the other; only ``claim`` decides which."""

    def search(planned: SearchPlan, folder: Path) -> Study:
        folder.mkdir(exist_ok=True)
        planned.save(folder)
        study = Study(planned, folder)
        study.fill()
        work(folder)
        return study

    return search


def points(study: Study, *states: TrialState) -> list[tuple]:
    return [
        tuple(sorted(trial.params.items()))
        for trial in study.optuna.get_trials(deepcopy=False)
        if trial.state in (states or (TrialState.COMPLETE,))
    ]


def test_a_grid_is_every_point_once_and_the_best_is_the_best(plan, in_process, tmp_path):
    study = in_process(plan(), tmp_path / "out")
    assert Counter(points(study)) == dict.fromkeys(points(study), 1)
    assert len(points(study)) == 6
    trials = study.counted()
    assert list(trials) == list(range(6))
    assert study.best().value == max(trial.value for trial in trials.values())
    assert study.is_over()
    study.fill()
    assert study.is_over()  # nothing is put in again


def test_the_score_is_the_validation_score_of_the_same_run(plan, in_process, tmp_path):
    planned = plan(trials=1)
    (trial,) = in_process(planned, tmp_path / "out").counted().values()
    config = load_config(config_dict={**planned.config, **trial.params, "output_dir": str(tmp_path / "runs")})
    record, _ = experiment.run_one(config)
    assert trial.user_attrs["metrics"] == record.valid
    assert trial.value == record.valid["ratedndcg@5"]
    assert trial.user_attrs["best_epoch"] == record.timing["best_epoch"]


def test_the_test_part_is_never_there(plan, in_process, tmp_path, monkeypatch):
    """Whatever the test ratings say, the search is the same; a test file is not even opened."""
    found = []
    for scramble in (False, True):
        table = random_ratings()
        write_ratings(tmp_path / "data", "board", table)
        config = {**FIXED, "data_path": str(tmp_path / "data")}
        if scramble:
            splits = build_splits(load_config(config_dict=plan(config=config).config))
            user, item, _ = splits.triples("test")
            tokens = zip(splits.test.id2token("user_id", user), splits.test.id2token("item_id", item), strict=True)
            tested = set(tokens)
            assert len(tested) > 50
            rows = [(str(u), str(i)) in tested for u, i in zip(table.user_id, table.item_id, strict=True)]
            table.loc[rows, "rating"] = 6 - table.loc[rows, "rating"]
            write_ratings(tmp_path / "data", "board", table)
        folder = tmp_path / f"out{scramble}"
        study = in_process(plan(config=config, folder=folder, trials=2), folder)
        found.append([(trial.params, trial.value, trial.user_attrs["metrics"]) for trial in study.counted().values()])
    assert found[0] == found[1]


def test_a_given_test_file_may_be_missing_from_the_search(plan, in_process, tmp_path):
    table = checkerboard()
    cut = np.random.default_rng(0).random(len(table)) < 0.8
    for part, rows in (("train", table[cut]), ("test", table[~cut])):
        path = write_ratings(tmp_path / "data", "board", rows)
        path.rename(path.with_name(f"board.{part}.inter"))
    config = {**FIXED, "data_path": str(tmp_path / "data"), "benchmark_filename": ["train", "test"]}
    splits = build_splits(load_config(config_dict=plan(config=config).config), with_test=False)
    assert splits.test is None
    assert set(splits.sizes()) == {"n_users", "n_items", "n_train", "n_valid"}
    (tmp_path / "data" / "board" / "board.test.inter").unlink()
    study = in_process(plan(config=config, trials=1), tmp_path / "out")
    assert study.best() is not None


def test_pruned_failed_and_invalid_trials_are_recorded_and_the_search_goes_on(plan, in_process, tmp_path, monkeypatch):
    real = experiment.validate_one

    def sometimes(config, run_dir, callback):
        if config["factors"] == 2:
            raise ValueError("no factors today")
        if config["factors"] == 3:
            callback(0, 0.1)
            raise optuna.TrialPruned
        return real(config, run_dir, callback)

    monkeypatch.setattr(experiment, "validate_one", sometimes)
    study = in_process(plan(), tmp_path / "out")
    states = Counter(trial.state for trial in study.counted().values())
    assert states == {TrialState.FAIL: 2, TrialState.PRUNED: 2, TrialState.COMPLETE: 2}
    failed = [trial for trial in study.counted().values() if trial.state == TrialState.FAIL]
    assert {trial.user_attrs["error"] for trial in failed} == {"ValueError: no factors today"}
    assert failed[0].user_attrs["traceback"].startswith("Traceback")
    search_report.write_search(study, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "trials.csv")
    assert {"number", "state", "value", "params_factors", "params_regularization"} <= set(table)
    assert Counter(table["state"]) == {"FAIL": 2, "PRUNED": 2, "COMPLETE": 2}
    study.requeue_silent()
    assert study.is_over()  # a failure of its own is not tried again


def test_the_pruner_stops_a_trial_that_falls_behind(plan, in_process, tmp_path, monkeypatch):
    def curve(config, run_dir, callback):
        level = 0.1 if config["regularization"] == 0.9 else 0.5
        for epoch in range(13):
            callback(epoch, level + epoch / 1000)
        return experiment.Validation(level, 13, {})

    monkeypatch.setattr(experiment, "validate_one", curve)
    space = {"regularization": {"choice": [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]}}
    study = in_process(plan(space=space), tmp_path / "out")
    pruned = [trial for trial in study.counted().values() if trial.state == TrialState.PRUNED]
    late = [trial.number for trial in study.counted().values() if trial.params["regularization"] == 0.9]
    assert [trial.number for trial in pruned] == ([] if late[0] < 5 else late)  # five finish before any is judged
    for trial in pruned:
        assert 10 <= max(trial.intermediate_values) < 12
    off = in_process(plan(space=space, folder=tmp_path / "off", prune=False), tmp_path / "off")
    assert all(trial.state == TrialState.COMPLETE for trial in off.counted().values())


def test_tpe_fills_its_trials_with_valid_points_and_workers_do_not_repeat_each_other(
    plan, in_process, tmp_path, monkeypatch
):
    monkeypatch.setattr(experiment, "validate_one", lambda config, *_: experiment.Validation(config["factors"], 1, {}))
    space = {"factors": {"int": [1, 20]}, "regularization": {"loguniform": [1e-3, 1]}, "conditions": ["factors > 5"]}
    study = in_process(plan(space=space, sampler="tpe", trials=15), tmp_path / "out")
    counted = study.counted()
    assert len(counted) == 15
    assert all(trial.state == TrialState.COMPLETE and trial.params["factors"] > 5 for trial in counted.values())
    invalid = [trial for trial in study.optuna.trials if trial.state == TrialState.FAIL]
    assert invalid
    assert all("no valid point: factors > 5.0 is broken" in trial.user_attrs["error"] for trial in invalid)
    assert len({trial.params["regularization"] for trial in counted.values()}) == 15


def test_a_random_search_grows_by_the_trials_that_are_missing(plan, in_process, tmp_path):
    space = {"regularization": {"loguniform": [1e-3, 1]}}
    first = points(in_process(plan(space=space, sampler="random", trials=2), tmp_path / "out"))
    more = points(in_process(plan(space=space, sampler="random", trials=4), tmp_path / "out"))
    assert more[:2] == first
    assert len(set(more)) == 4


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_sampler_begins_with_the_defaults_so_its_best_is_not_worse(plan, in_process, tmp_path, sampler):
    space = {
        "factors": {"int": [2, 20]},
        "regularization": {"loguniform": [1e-3, 1]},
        "regularize_by": {"choice": ["plain"]},
    }
    first = in_process(plan(space=space, sampler=sampler, trials=2), tmp_path / "out").counted()[0]
    assert (first.params["factors"], first.params["regularization"]) == (12, 0.08)
    assert first.params["regularize_by"] == "plain"  # the default lies outside the space


def test_another_search_does_not_get_into_the_same_study(plan, in_process, tmp_path):
    in_process(plan(trials=1), tmp_path / "out")
    other = plan(space={**SPACE, "factors": {"choice": [9]}}, trials=1)
    with pytest.raises(OptionError, match="was made with another space or other keys"):
        in_process(other, tmp_path / "out")


def test_a_queue_that_two_machines_filled_at_one_time_is_run_once(plan, tmp_path):
    planned = plan()
    (tmp_path / "out").mkdir()
    planned.save(tmp_path / "out")
    study = Study(planned, tmp_path / "out")
    for index, labels in enumerate(study._points()):
        study._enqueue(index, labels)
    for index, labels in enumerate(study._points()):
        study._enqueue(index, labels)
    work(tmp_path / "out")
    assert Counter(points(study)) == dict.fromkeys(points(study), 1)
    assert len(points(study)) == 6


def test_a_point_that_another_worker_is_at_is_tried_elsewhere(plan, in_process, tmp_path):
    search = plan(space={"factors": {"choice": [2]}})
    config = load_config(config_dict={**search.config, "factors": 2}).given
    with processes.alone_in(tmp_path / "out" / "trials" / config_hash(config), "trial"):
        study = in_process(search, tmp_path / "out")
    assert points(study) == [(("factors", 2),)]


def test_a_sampled_trial_whose_worker_died_is_made_at_its_own_point(plan, tmp_path):
    space = {"factors": {"int": [2, 50]}, "regularization": {"loguniform": [1e-3, 1]}}
    (tmp_path / "out").mkdir()
    study = Study(plan(space=space, sampler="tpe", trials=2), tmp_path / "out")
    study.fill()
    study.optuna.tell(study.claim().number, 0.5)
    trial = study.claim()
    point = study.space.suggest(trial)
    study.requeue_lost(study.running()[0])
    again = study.claim()
    assert again.number != trial.number
    assert study.space.suggest(again) == point


def test_a_search_that_is_killed_again_and_again_gives_no_trial_up(plan, tmp_path):
    run_search(plan(trials=1), tmp_path / "out", timeout=1e-9)  # no worker begins
    for _ in range(5):
        study = Study(plan(trials=1), tmp_path / "out")
        trial = study.claim()
        assert trial is not None
        trial.set_user_attr("worker", f"{study.search.place}:1")  # and everything is killed
        run_search(plan(trials=1), tmp_path / "out", timeout=1e-9)
    assert not study.is_over()
    assert [trial.state for trial in study.counted().values()] == [TrialState.WAITING]


def test_a_trial_that_takes_its_workers_down_is_given_up(plan, tmp_path):
    (tmp_path / "out").mkdir()
    study = Study(plan(trials=1), tmp_path / "out")
    study.fill()
    for _ in range(3):
        assert study.claim() is not None  # and the worker dies
        study.requeue_lost(study.running()[0])
    assert study.claim() is None
    assert study.is_over()
    assert study.best() is None


@pytest.mark.parametrize(
    ("model", "space", "said"),
    [
        ("MF", {"latent_size": {"choice": [8, 16]}}, "unknown key 'latent_size'"),
        ("MF", {"factors": {"choice": [8, 0]}}, "factors=0 is out of range"),
        ("MF", {"factors": {"choice": [8, "many"]}}, "factors='many' is not a whole number"),
        ("MF", {"factors": {"uniform": [1, 2]}}, "factors=.* is not a whole number"),
        ("DGRM", {"noise_min": {"choice": [0.5]}, "noise_max": {"choice": [0.1]}}, "must be below noise_max"),
    ],
)
def test_a_space_that_does_not_fit_the_model_is_an_error_before_anything_runs(plan, tmp_path, model, space, said):
    with pytest.raises(OptionError, match=said):
        plan(model=model, space=space)
    assert not (tmp_path / "out").exists()


def command(tmp_path: Path, space: dict, *arguments: str, folder: str = "out") -> list[str]:
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(space))
    return [
        "tune",
        "--dataset=board",
        f"--space={tmp_path / 'space.yaml'}",
        f"--output_dir={tmp_path / folder}",
        "--device=cpu",
        "--rating_scale=[1,5]",
        "--rating_step=1",
        *arguments,
    ]


def start(line: list[str]) -> multiprocessing.Process:
    """The command in a process of its own, which has imported everything already."""
    process = multiprocessing.get_context("fork").Process(target=lambda: sys.exit(main.main(line)))
    process.start()
    return process


@pytest.fixture
def paused(monkeypatch, tmp_path):
    """A file; until it is there, every worker makes one trial and stays in the midst of its next."""
    monkeypatch.setattr(workers, "MODULE", "paused_worker")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent))
    monkeypatch.setenv("GO", str(tmp_path / "go"))
    return tmp_path / "go"


@pytest.mark.slow
def test_a_search_killed_in_the_middle_goes_on_and_its_trials_are_the_grid(tmp_path, ratings_path, paused):
    """kill -9 of everything, at a moment when trials are at work and others are done."""
    line = command(
        tmp_path,
        {"sampler": "grid", **SPACE},
        "--model=MF",
        f"--data_path={ratings_path}",
        "--workers=2",
        "--epochs=3",
        "--eval_step=1",
        "--test_seeds=[]",
        "--checkpoint_interval=0",
    )
    process = start(line)
    wait_for(psutil.Process(process.pid).children)  # its database is made, and the queue is filled
    found = Study(SearchPlan.load(tmp_path / "out"), tmp_path / "out")

    def in_the_middle() -> bool:
        states = Counter(trial.state for trial in found.counted().values())
        claimed = all(worker_of(trial) for trial in found.running())  # else the trial waits for its heartbeat to fail
        return claimed and states == {TrialState.COMPLETE: 2, TrialState.RUNNING: 2, TrialState.WAITING: 2}

    wait_for(in_the_middle)
    family = psutil.Process(process.pid).children(recursive=True)
    for member in (process, *family):  # the command first, or it would start another worker
        member.kill()
    process.join()
    psutil.wait_procs(family, timeout=10)
    done = points(found)
    assert len(done) == 2
    paused.touch()
    assert main.main(line) == 0
    assert Counter(points(found)) == dict.fromkeys(points(found), 1)
    assert len(points(found)) == 6
    assert set(done) <= set(points(found))
    assert not (tmp_path / "out" / "trials").exists()


@pytest.fixture
def runs_made_here(monkeypatch):
    """The final test trains in this process; that benchmarks start processes is tested with them."""

    def execute(job, unwanted) -> dict:
        Path(job.run_dir).mkdir(parents=True)
        write_config(Path(job.run_dir), job.config)
        experiment.resume(Path(job.run_dir), label=job.label)
        return {}

    monkeypatch.setattr(executors, "execute", execute)


@pytest.mark.slow
def test_the_command_leaves_its_files_and_tests_the_best_once(tmp_path, ratings_path, capsys, runs_made_here):
    line = command(
        tmp_path,
        {"factors": {"choice": [2, 3]}, "sampler": "grid"},
        "--model=MF",
        f"--data_path={ratings_path}",
        "--valid_metric=RatedNDCG@5",
        "--test_seeds=[1]",
    )
    assert main.main(line) == 0
    out = capsys.readouterr().out
    for words in ("[1/2] trial 0: RatedNDCG@5", "Best of 2 finished trials", "MF, defaults", "MF, tuned"):
        assert words in out
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"best.yaml", "trials.csv", "report.html", "report.md", "figures", "study.db", "test"} <= names
    assert not [name for name in names if name.startswith("worker")]
    for name in ("history", "slices"):
        assert (tmp_path / "out" / "figures" / f"{name}.png").stat().st_size > 1000
    best = yaml.safe_load((tmp_path / "out" / "best.yaml").read_text())
    config = load_config([tmp_path / "out" / "best.yaml"], {"model": "MF", "dataset": "board"})
    assert config["factors"] == best["factors"]
    assert len(list((tmp_path / "out" / "test").rglob("record.json"))) == 2


def test_auto_is_settled_once_for_all_trials(plan, in_process, tmp_path):
    """Here every user has one item to validate, so no order differs from another."""
    pairs = [(user, (user + step) % 9) for user in range(60) for step in (0, 2, 5)]
    table = pd.DataFrame([(*pair, 1 + sum(pair) % 5) for pair in pairs], columns=["user_id", "item_id", "rating"])
    write_ratings(tmp_path / "data", "blunt", table)
    search = plan(config={**FIXED, "dataset": "blunt", "data_path": str(tmp_path / "data")})
    assert search.config["valid_metric"] == "RMSE"
    study = in_process(search, tmp_path / "out")
    assert (study.metric, study.bigger) == ("rmse", False)
    finished = list(study.counted().values())
    assert [trial.value for trial in finished] == [trial.user_attrs["metrics"]["rmse"] for trial in finished]
    assert study.best().value == min(trial.value for trial in finished)


@pytest.mark.slow
def test_defaults_that_are_the_best_are_tested_once(tmp_path, ratings_path, capsys, runs_made_here):
    line = command(
        tmp_path,
        {"factors": {"choice": [12]}, "sampler": "grid"},
        "--model=MF",
        f"--data_path={ratings_path}",
        "--test_seeds=[1]",
    )
    assert main.main(line) == 0
    out = capsys.readouterr().out
    assert "the best configuration is the default one" in out
    assert "MF, tuned" not in out
    assert len(list((tmp_path / "out" / "test").rglob("record.json"))) == 1


@pytest.mark.slow
def test_a_timeout_puts_the_trials_back(plan, tmp_path, monkeypatch):
    clock, began = SimpleNamespace(now=0.0), time.monotonic()
    monkeypatch.setattr(workers, "monotonic", lambda: clock.now)

    def show(study: Study) -> None:
        assert time.monotonic() - began < 90, "no worker has begun"
        if list((tmp_path / "out" / "trials").glob("*/checkpoint.pt")):
            clock.now = 0.02

    sizes = {"generator_hidden": [8], "critic_hidden": [4], "latent_size": 2, "checkpoint_interval": 0}
    endless = {"epochs": 100_000, "stopping_step": 100_000}
    planned = plan("DGRM", {"learning_rate": {"choice": [0.01, 0.001]}}, {**FIXED, **sizes, **endless})
    study = run_search(planned, tmp_path / "out", workers=1, timeout=0.01, show=show)
    assert Counter(trial.state for trial in study.counted().values()) == {TrialState.WAITING: 2}
    assert list((tmp_path / "out" / "trials").glob("*/checkpoint.pt"))
    assert not study.is_over()


@pytest.mark.slow
def test_workers_that_cannot_start_end_the_search(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "MODULE", "recbole_dgrm.no_such_module")
    with pytest.raises(UserError, match=r"the workers cannot work: .*No module named"):
        run_search(plan(), tmp_path / "out")


@pytest.fixture(scope="module")
def postgresql():
    """The address of a PostgreSQL server of this test's own."""
    pytest.importorskip("psycopg", reason="the extra 'distributed' is not installed")
    binaries = [Path(found).resolve().parent for found in [shutil.which("initdb")] if found]
    binaries += sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    binaries = [folder for folder in binaries if (folder / "initdb").exists() and (folder / "postgres").exists()]
    if not binaries:
        pytest.skip("PostgreSQL is not installed: neither initdb on the PATH nor /usr/lib/postgresql/*/bin")
    user = {"user": "postgres", "group": "postgres"} if os.geteuid() == 0 else {}  # the server refuses to be root
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = Path(tempfile.mkdtemp(prefix="recbole_dgrm-postgresql-"))
    if user:
        shutil.chown(folder, **user)
    common = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.STDOUT, **user}
    subprocess.run(
        [binaries[0] / "initdb", "-D", "data", "-U", "tuner", "--auth=trust", "-E", "UTF8"], check=True, **common
    )
    server = subprocess.Popen(
        [binaries[0] / "postgres", "-D", "data", "-p", str(port), "-h", "127.0.0.1", "-k", str(folder)], **common
    )
    try:
        ready = [binaries[0] / "pg_isready", "-h", "127.0.0.1", "-p", str(port)]
        wait_for(lambda: subprocess.run(ready, stdout=subprocess.DEVNULL).returncode == 0)
        yield f"postgresql://tuner@127.0.0.1:{port}/postgres"
    finally:
        server.send_signal(signal.SIGINT)  # the fast shutdown, which waits for no client
        server.wait()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
def test_two_machines_share_a_study_in_postgresql_and_no_trial_is_run_twice(tmp_path, ratings_path, postgresql, paused):
    """Two commands with their own output directories; a worker of the first is killed under its trial."""
    space = {**SPACE, "factors": {"choice": [2, 3, 4, 5]}}
    commands = []
    for name in ("a", "b"):
        line = command(
            tmp_path,
            space,
            "--model=MF",
            f"--storage={postgresql}",
            f"--data_path={ratings_path}",
            "--epochs=3",
            "--eval_step=1",
            "--sampler=grid",
            "--test_seeds=[]",
            folder=name,
        )
        commands.append(start(line))
        wait_for(psutil.Process(commands[-1].pid).children)  # the queue is filled
    (worker,) = psutil.Process(commands[0].pid).children()
    storage = postgresql.replace("postgresql:", "postgresql+psycopg:")
    study = Study(SearchPlan.load(tmp_path / "a", storage), tmp_path / "a")

    def each_is_in_its_second_trial() -> bool:
        return len(points(study)) == 2 and len(study.running()) == 2

    wait_for(each_is_in_its_second_trial)
    worker.kill()
    paused.touch()
    for process in commands:
        process.join(300)
    assert [process.exitcode for process in commands] == [0, 0]
    assert Counter(points(study)) == dict.fromkeys(points(study), 1)
    assert len(points(study)) == 8
    assert study.is_over()
    places = {worker_of(trial).split(":")[0] for trial in study.counted().values()}
    assert len(places) == 2  # both machines took part
    lost = [trial for trial in study.optuna.trials if trial.state == TrialState.FAIL]
    assert len(lost) == 1
    assert "postgres" not in (tmp_path / "a" / "search.json").read_text()  # an address may hold a password
    for name in ("a", "b"):
        assert (tmp_path / name / "best.yaml").read_text() == (tmp_path / "a" / "best.yaml").read_text()


@pytest.fixture
def drawn(monkeypatch):
    """The axes of the figures that are saved, in place of the files."""
    found = []
    monkeypatch.setattr(figures, "save", lambda figure, path: found.extend(figure.axes))
    return found


def study_of(*trials: optuna.trial.FrozenTrial) -> SimpleNamespace:
    """What the figures need of a study that has these trials."""
    distributions = trials[0].distributions
    found = optuna.create_study(direction="maximize")
    found.add_trials(trials)
    space = SimpleNamespace(distributions=distributions)
    return SimpleNamespace(optuna=found, metric="ratedndcg@5", seed=1, space=space)


def trial_of(distributions: dict, **rest) -> optuna.trial.FrozenTrial:
    return optuna.trial.create_trial(distributions=distributions, **rest)


def test_a_key_from_an_interval_has_a_numeric_axis_however_few_its_values(tmp_path, drawn):
    values = [0.00012, 0.0034, 0.056]
    distributions = {
        "chosen": CategoricalDistribution(values),
        "decay": FloatDistribution(0, 1),
        "rate": FloatDistribution(1e-5, 1, log=True),
    }
    full = [trial_of(distributions, params=dict.fromkeys(distributions, value), value=0.5) for value in values]
    few = trial_of({"rate": distributions["rate"]}, params={"rate": 0.9}, value=0.4)
    search_figures.slices(study_of(*full, few), ["chosen", "decay", "rate"], tmp_path / "slices")
    chosen, decay, rate, _ = drawn
    assert [axes.get_xscale() for axes in (rate, decay, chosen)] == ["log", "linear", "linear"]
    for axes, places in [(rate, [*values, 0.9]), (decay, values), (chosen, [0, 1, 2])]:
        assert axes.collections[0].get_offsets()[:, 0].tolist() == places


@pytest.mark.parametrize(("scores", "telling"), [([0.5], False), ([0.5, 0.5], False), ([0.1, 0.7, 0.3], True)])
def test_figures_are_drawn_of_few_and_pruned_trials_with_any_names(tmp_path, scores, telling):
    distributions = {"$a": CategoricalDistribution(["$x$ {", None, "y" * 200]), "$b^": FloatDistribution(0, 1)}
    labels = distributions["$a"].choices
    done = [
        trial_of(distributions, params={"$a": label, "$b^": score}, value=score)
        for label, score in zip(labels, scores, strict=False)
    ]
    pruned = trial_of(distributions, params=done[0].params, state=TrialState.PRUNED, intermediate_values={0: 0.1})
    study = study_of(pruned, *done, trial_of({}, state=TrialState.FAIL))
    search_figures.history(study, tmp_path / "history")
    search_figures.slices(study, ["$a", "$b^"], tmp_path / "slices")
    assert search_figures.tells_importance(study) == telling
    if telling:
        search_figures.importance(study, tmp_path / "importance")
    names = {path.name for path in tmp_path.iterdir() if path.stat().st_size > 1000}
    assert names == {f"{name}.{kind}" for name in ["history", "slices", *["importance"] * telling] for kind in KINDS}
    assert pyplot.get_fignums() == []
    assert rcParams["figure.constrained_layout.use"] is False
    assert "axes.facecolor" in style.library["ggplot"]


def test_a_search_in_an_interval_leaves_numbers(plan, in_process, tmp_path, monkeypatch):
    def scored(config, run_dir, callback):
        if config["regularization"] > 0.05:
            raise ValueError("=cmd|' /C calc'!A0")
        return experiment.Validation(config["regularization"], 3 if config["regularization"] > 0.01 else 2, {})

    monkeypatch.setattr(experiment, "validate_one", scored)
    space = {"regularization": {"loguniform": [0.001, 0.1]}}
    study = in_process(plan(space=space, sampler="random", trials=6), tmp_path / "out")
    search_report.write_search(study, tmp_path / "out")
    table = pd.read_csv(tmp_path / "out" / "trials.csv")
    assert table["params_regularization"].dtype == float
    assert table["value"].dtype == float
    errors = table["user_attrs_error"].dropna()
    assert len(errors) > 0
    assert errors.str.startswith("ValueError").all()
    shown = search_report.trials_table(study)
    best = [row[-1].text for row in shown.rows if row[1].order > 0.01]
    assert best
    assert set(best) == {"3, still improving"}
    assert "more epochs (--epochs) may do better" in shown.note


def test_a_plot_that_fails_loses_no_search(plan, in_process, tmp_path, monkeypatch):
    monkeypatch.setattr(search_figures, "slices", lambda *_: 1 / 0)
    study = in_process(plan(), tmp_path / "out")
    assert search_report.write_search(study, tmp_path / "out").is_file()
    text = (tmp_path / "out" / "report.md").read_text()
    assert "The figure Slices cannot be drawn (ZeroDivisionError" in text
    assert "![History]" in text


def test_a_database_whose_tables_another_process_is_making_is_opened_again(monkeypatch, tmp_path):
    opened = []

    def open_it(*args, **options):
        opened.append(args)
        if len(opened) == 1:
            raise OperationalError("CREATE TABLE trials", {}, Exception("table trials already exists"))
        return storage(*args, **options)

    storage = optuna.storages.RDBStorage
    monkeypatch.setattr(optuna.storages, "RDBStorage", open_it)
    monkeypatch.setattr(studies, "PAUSES_S", (0, 0))
    assert isinstance(studies._opened(f"sqlite:///{tmp_path / 'study.db'}", {}), storage)
    assert len(opened) == 2
    lost = OperationalError("SELECT 1", {}, Exception("connection refused"))
    monkeypatch.setattr(optuna.storages, "RDBStorage", Mock(side_effect=lost))
    with pytest.raises(OperationalError, match="connection refused"):
        studies._opened("sqlite://", {})
    assert optuna.storages.RDBStorage.call_count == 1
