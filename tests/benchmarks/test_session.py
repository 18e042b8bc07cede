"""Benchmarks: what is skipped, continued, stopped and lost, in processes of this machine and on a cluster."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import pandas as pd
import psutil
import pytest
from helpers import ENDLESS, MF, QUICK, ROOT, SIZES, Here, random_ratings, record_of, wait_for, write_ratings
from reports_helpers import report_text

from recbole_dgrm.benchmarks import executors, session
from recbole_dgrm.benchmarks.plan import make_plan
from recbole_dgrm.benchmarks.session import Benchmark, run_directory
from recbole_dgrm.cli import main
from recbole_dgrm.errors import OptionError, UserError
from recbole_dgrm.records import read_run, read_runs
from recbole_dgrm.reports.benchmark_report import results_frame
from recbole_dgrm.reports.statistics import summarise
from recbole_dgrm.system.files import plain, write_json
from recbole_dgrm.system.processes import locked_folder

DGRM = {"model": "DGRM", "config": SIZES}
TINY = {"models": [MF, DGRM], "datasets": ["board"], "seeds": [1], "baseline": "MF", "time_limit": 120, "threads": 1}


@pytest.fixture
def made(tmp_path, ratings_path):
    """``made(folder, **keys)``: the benchmark of a plan on the data of the tests; the plan is in ``tiny.yaml``."""

    def make(folder="out", config=QUICK, **keys) -> Benchmark:
        content = {**TINY, **keys, "config": {**config, "data_path": str(ratings_path)}}
        (tmp_path / "tiny.yaml").write_text(json.dumps(plain(content)))
        return Benchmark(make_plan(content), tmp_path / folder)

    return make


def results(folder: Path) -> dict[str, dict]:
    """Test result by run directory, seconds aside."""
    files = sorted(folder.rglob("record.json"))
    return {str(file.parent.relative_to(folder)): json.loads(file.read_text())["test"] for file in files}


def processes_of(folder: Path) -> list[psutil.Process]:
    """The other processes that have a file in a folder open, such as a worker its output."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid != os.getpid() and any(str(folder) in file.path for file in process.open_files()):
                found.append(process)
    return found


@contextmanager
def meanwhile(work):
    """Within the block ``work()`` is done in a thread, and it has ended after it."""
    done = []
    thread = Thread(target=lambda: done.append(work()))
    thread.start()
    yield
    thread.join()
    assert done


def test_what_is_finished_stays_and_what_has_changed_is_run_again(made, tmp_path):
    first = made()
    assert first.run(executor=Here()).count("finished") == 2
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("record.json")}
    assert first.run(executor=Here()).count("finished") == 2
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("record.json")} == times
    changed = made(models=[{"model": "MF", "config": {"factors": 3}}, DGRM])
    assert {run.label for run in changed.finished_runs()} == {"DGRM"}
    assert not any(session.done(tmp_path / "out", replace(run, source="other")) for run in first.runs)


def test_results_of_data_that_has_changed_or_by_other_code_are_put_aside(made, tmp_path, ratings_path, caplog):
    """Those of the plan and those that are no longer in it; each time anew, nothing is lost and nothing is mixed."""
    data, folder = tmp_path / "data", tmp_path / "out"
    shutil.copytree(ratings_path, data)
    models = [{"model": "MF", "config": {"factors": 2, "data_path": str(data)}}]
    made(models=models, seeds=[1, 2]).run(executor=Here())
    (folder / next(iter(results(folder))) / "mine.txt").write_text("a note")

    def drop_a_rating() -> None:
        lines = (data / "board" / "board.inter").read_text().splitlines()
        (data / "board" / "board.inter").write_text("\n".join(lines[:-1]) + "\n")

    def mark_as_of_other_code() -> None:
        (run,) = read_runs(folder)
        write_json(run.path / "record.json", {**run.record, "code": 0})

    for round_, change in enumerate((drop_a_rating, drop_a_rating, mark_as_of_other_code)):
        change()
        caplog.clear()
        assert made(models=models).run(executor=Here()).count("finished") == 1
        assert any("it is made again" in record.message for record in caplog.records)
        assert len(read_runs(folder)) == 1
        assert len(list((folder / ".aside").rglob("record.json"))) == 2 + round_
    assert [path.read_text() for path in folder.rglob("mine.txt")] == ["a note"]
    reasons = "".join(path.read_text() for path in folder.rglob("reason.txt"))
    assert "the files of its data set have changed since" in reasons
    assert "code that gives other results" in reasons
    kept = next((folder / ".aside").rglob("record.json"))
    assert len(read_runs(kept.parents[1])) >= 1  # asked for by name they are still there


@pytest.mark.slow
def test_an_interrupted_and_continued_benchmark_gives_the_unbroken_report(made, tmp_path):
    """Killed without warning in the middle of a run; the second call goes on and nothing is different."""
    config = {**QUICK, "epochs": 25, "stopping_step": 100}
    whole, broken = made("unbroken/bench", config), made("broken/bench", config)
    where = [f"--config={tmp_path / 'tiny.yaml'}", f"--output_dir={broken.folder}", "--workers=2"]
    command = [sys.executable, "run_recbole_dgrm.py", "benchmark", *where]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    whole.run(executor=Here())
    checkpoint = wait_for(lambda: list(broken.folder.glob("board/rated/DGRM-*/checkpoint.pt")))[0]
    process.kill()
    process.wait()
    wait_for(lambda: not processes_of(broken.folder))  # a run outlives nobody who wants it
    assert read_run(checkpoint.parent).record["status"] in ("interrupted", "running")
    assert broken.run(executor=Here()).count("finished") == 2
    assert results(broken.folder) == results(whole.folder)
    assert len({report_text(each.folder).split("**Cost")[0] for each in (whole, broken)}) == 1
    frames = [results_frame(summarise(each.folder)).loc[:, :"best_epoch"] for each in (whole, broken)]
    pd.testing.assert_frame_equal(*frames, check_exact=True)


@pytest.mark.slow
def test_a_run_that_fails_is_killed_or_takes_too_long_is_recorded_and_stops_no_other(made, tmp_path, monkeypatch):
    alone = Event()  # the endless run is: until then the clock of the time limits stands still
    monkeypatch.setattr(executors, "monotonic", lambda: 1000.0 * alone.is_set())

    def kill() -> bool:
        (checkpoint,) = wait_for(lambda: list(tmp_path.glob("*/*/*/killed-1-*/checkpoint.pt")))
        (process,) = processes_of(checkpoint.parent)
        os.kill(process.pid, signal.SIGKILL)
        return True

    def show(state) -> None:
        if state.count("waiting", "running") == 1:
            alone.set()

    implicit = {"feedback": "implicit", "metrics": ["RatedNDCG"], "rating_threshold": 3}
    failing = {"model": "MF", "label": "broken", "config": {"unrated_weight": 0.0, **implicit}}
    killed = {**ENDLESS, "label": "killed", "config": {**ENDLESS["config"], "latent_size": 3}}
    benchmark = made(models=[failing, killed, ENDLESS, MF], time_limit=30)
    with meanwhile(kill):
        state = benchmark.run(3, show=show)
    ends = {run.label: status for run, status in state.runs.items()}
    assert ends == {"broken": "failed", "killed": "failed", "endless": "timed_out", "MF": "finished"}
    failed, killed, late, _ = (record_of(run_directory(benchmark.folder, run)) for run in benchmark.runs)
    assert failed["error"].startswith("OptionError: unrated_weight=0")
    assert failed["traceback"].startswith("Traceback")
    assert (killed["status"], killed["label"]) == ("failed", "killed")
    assert "killed by SIGKILL" in killed["error"]
    assert late["error"] == "stopped after the time limit of 30 s"
    assert {run.label for run in benchmark.finished_runs(retry=True)} == {"MF"}
    assert benchmark.finished_runs() == {*benchmark.runs}
    assert "| endless | board | rated | 1 | timed_out | stopped after" in report_text(benchmark.folder)


@pytest.mark.slow
def test_an_unwanted_run_leaves_its_checkpoint_and_goes_on_later(made, tmp_path):
    (run,) = made(models=[ENDLESS], baseline=None).runs
    unwanted, path = Event(), tmp_path / "run"
    with meanwhile(lambda: executors.execute(executors.Job(run.label, run.config, 1, 60), path, unwanted.is_set)):
        wait_for((path / "checkpoint.pt").exists)
        unwanted.set()
    assert read_run(path).record["status"] == "interrupted"
    assert "KeyboardInterrupt" in (path / "output.txt").read_text()


def test_a_benchmark_leaves_a_folder_and_a_run_alone_that_another_process_works_in(made, tmp_path):
    benchmark, executor = made(models=[MF], baseline=None), Here()
    with (
        locked_folder(tmp_path / "out", "benchmark"),
        pytest.raises(UserError, match="another benchmark is working in"),
    ):
        benchmark.run()
    executor.patience = 0.2
    path = run_directory(benchmark.folder, benchmark.runs[0])
    with locked_folder(path, "process"):
        (path / "mine.txt").write_text("a note")
        with pytest.raises(UserError, match=f"another process is working in {path}; wait for its end"):
            benchmark.run(executor=executor)
    assert (path / "mine.txt").exists()


@pytest.mark.parametrize("seeds", [[1], [2]])
def test_two_data_sets_of_one_name_are_refused_before_the_first_run(made, tmp_path, seeds):
    for name, rows in (("a", 0), ("b", 1)):
        write_ratings(tmp_path / name, "mine", random_ratings().iloc[rows:])
    paths = [{"data_path": str(tmp_path / name)} for name in "ab"]
    datasets = [{"dataset": "mine", "config": paths[0]}, {"dataset": "mine", "config": paths[1], "seeds": seeds}]
    with pytest.raises(OptionError, match=r"mine names two data sets, in data_path=.*a and .*b;"):
        made(datasets=datasets, models=["MF"])


def test_odd_names_stay_in_the_folder(made, tmp_path):
    (run,) = made(models=[{"model": "MF", "label": "../../a b|c"}], baseline=None).runs
    for each in (run, replace(run, config={**run.config, "dataset": "../up"})):
        path = run_directory(tmp_path, each)
        assert path.resolve().is_relative_to(tmp_path)
        assert len(path.relative_to(tmp_path).parts) == 3


@pytest.mark.slow
def test_the_command_plans_runs_and_reports(made, tmp_path, ratings_path, capsys, monkeypatch):
    monkeypatch.setattr(executors, "LocalExecutor", Here)
    made(seeds=[1, 2], config={**QUICK, "valid_metric": "RatedNDCG@5"})
    out = tmp_path / "runs"
    line = ["benchmark", f"--config={tmp_path / 'tiny.yaml'}", f"--output_dir={out}", "--seeds=[1]"]
    line.append(f"--data_path={ratings_path}")
    assert main.main([*line, "--dry_run"]) == 0
    assert not out.exists()
    assert "0/1" in capsys.readouterr().out
    assert main.main(line) == 0
    text = capsys.readouterr().out
    assert "[2/2] DGRM on board, rated, seed 1: RatedNDCG@5" in text
    assert "2 runs: 2 finished" in text
    for name in ("report.md", "report.csv", "report.tex", "report.html", "figures/board-rated-metrics.svg"):
        assert (out / name).stat().st_size > 0
    assert main.main(["report", str(out), "--baseline=DGRM", f"--output_dir={tmp_path / 'again'}"]) == 0
    assert "Differences to DGRM" in (tmp_path / "again" / "report.md").read_text()
    assert main.main(["report", str(tmp_path)[:-1] + "x"]) == 2
    assert "there is no run in" in capsys.readouterr().err
