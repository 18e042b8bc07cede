"""Benchmarks: what is skipped, continued, stopped and lost, in processes of this machine and on a cluster."""

import json
import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest
from helpers import ROOT, Here, random_ratings, wait_for, write_ratings

from recbole_dgrm.benchmarks import executors, queue, session, worker
from recbole_dgrm.benchmarks.executors import DaskExecutor
from recbole_dgrm.benchmarks.plan import planned_runs, read_plan_file
from recbole_dgrm.benchmarks.session import Benchmark, run_directory
from recbole_dgrm.cli import main
from recbole_dgrm.errors import OptionError, UserError
from recbole_dgrm.records import read_run, read_runs
from recbole_dgrm.reports.benchmark_report import write_report
from recbole_dgrm.system.files import plain, write_json
from recbole_dgrm.system.processes import alone_in

SIZES = {"generator_hidden": [8], "critic_hidden": [4], "latent_size": 2}
TINY = {
    "models": [{"model": "MF", "config": {"factors": 2}}, {"model": "DGRM", "config": SIZES}],
    "datasets": ["board"],
    "seeds": [1, 2],
    "baseline": "MF",
    "time_limit": 120,
    "config": {"epochs": 4, "eval_step": 1, "checkpoint_interval": 0, "device": "cpu"},
}
ENDLESS = {"model": "DGRM", "label": "endless", "config": {**SIZES, "epochs": 100_000, "stopping_step": 100_000}}


@pytest.fixture
def plan(tmp_path, ratings_path):
    """``plan(**keys)``: a plan and its runs on the data of the tests."""

    def make(**keys):
        path = tmp_path / "tiny.yaml"
        path.write_text(json.dumps(plain({**TINY, **keys})))
        plan = read_plan_file(path, config={"data_path": str(ratings_path)})
        return plan, planned_runs(plan)[0]

    return make


def run_all(plan_and_runs, folder: Path, workers: int = 2, **options):
    plan, runs = plan_and_runs
    return Benchmark(replace(plan, threads=1), folder, runs).run(workers, **options)


def run_here(plan_and_runs, folder: Path):
    return run_all(plan_and_runs, folder, executor=Here())


def results(folder: Path) -> dict[str, dict]:
    """Test result by run directory, seconds aside."""
    return {
        str(file.parent.relative_to(folder)): json.loads(file.read_text())["test"]
        for file in sorted(folder.rglob("record.json"))
    }


def processes_of(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "recbole_dgrm.benchmarks.worker" in line and any(str(folder) in word for word in line):
            found.append(process)
    return found


@pytest.mark.slow
def test_what_is_finished_stays_and_what_has_changed_is_run_again(plan, tmp_path):
    given = plan(seeds=[1])
    assert run_all(given, tmp_path / "out").count("finished") == 2
    times = {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("record.json")}
    assert run_all(given, tmp_path / "out").count("finished") == 2
    assert {file: file.stat().st_mtime_ns for file in (tmp_path / "out").rglob("record.json")} == times
    _, changed = plan(seeds=[1], models=[{"model": "MF", "config": {"factors": 3}}, TINY["models"][1]])
    done = {run.label: bool(session.done(tmp_path / "out", run)) for run in changed}
    assert done == {"MF": False, "DGRM": True}
    assert not any(session.done(tmp_path / "out", replace(run, source="other")) for run in given[1])


@pytest.mark.slow
def test_results_of_data_that_has_changed_are_put_aside(plan, tmp_path, ratings_path, caplog):
    """Those of the plan and those that are no longer in it; each time anew, nothing is lost and nothing is mixed."""
    data = tmp_path / "data"
    shutil.copytree(ratings_path, data)
    models = [{"model": "MF", "config": {"factors": 2, "data_path": str(data)}}]
    folder = tmp_path / "out"
    run_here(plan(models=models, seeds=[1, 2]), folder)
    (folder / "board" / "rated" / next(iter(results(folder))).split("/")[-1] / "mine.txt").write_text("a note")
    for round_ in (1, 2):
        lines = (data / "board" / "board.inter").read_text().splitlines()
        (data / "board" / "board.inter").write_text("\n".join(lines[:-1]) + "\n")
        caplog.clear()
        state = run_here(plan(models=models, seeds=[1]), folder)
        assert state.count("finished") == 1
        assert any("it is made again" in record.message for record in caplog.records)
        assert len(read_runs(folder)) == 1
        kept = list((folder / ".aside").rglob("record.json"))
        assert len(kept) == 1 + round_
    assert [path.read_text() for path in folder.rglob("mine.txt")] == ["a note"]
    assert "the files of its data set have changed since" in next(folder.rglob("reason.txt")).read_text()
    write_report(folder, folder)
    assert len(read_runs(kept[0].parents[1])) >= 1  # asked for by name they are still there


@pytest.mark.slow
def test_an_interrupted_and_continued_benchmark_gives_the_unbroken_report(plan, tmp_path):
    """Killed without warning in the middle of a run; the second call goes on and nothing is different."""
    given = plan(config={**TINY["config"], "epochs": 25, "stopping_step": 100}, seeds=[1])
    broken, data_path = tmp_path / "broken" / "bench", given[0].config["data_path"]
    command = [
        sys.executable,
        "run_recbole_dgrm.py",
        "benchmark",
        f"--config={tmp_path / 'tiny.yaml'}",
        f"--output_dir={broken}",
        f"--data_path={data_path}",
        "--workers=2",
    ]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    run_here(given, tmp_path / "unbroken" / "bench")
    checkpoint = wait_for(lambda: list(broken.glob("board/rated/DGRM-*/checkpoint.pt")))[0]
    process.kill()
    process.wait()
    wait_for(lambda: not processes_of(broken))  # a run outlives nobody who wants it
    assert read_run(checkpoint.parent).record["status"] in ("interrupted", "running")
    assert run_here(given, broken).count("finished") == 2
    assert results(broken) == results(tmp_path / "unbroken" / "bench")
    reports = []
    for folder in (tmp_path / "unbroken" / "bench", broken):
        write_report(folder, folder)
        csv = (folder / "report.csv").read_text().splitlines()
        seconds = csv[0].split(",").index("build_s")
        reports.append([line.split(",")[:seconds] for line in csv])
    assert reports[0] == reports[1]
    tables = [
        (folder / "report.md").read_text().split("**Cost")[0] for folder in (tmp_path / "unbroken" / "bench", broken)
    ]
    assert tables[0] == tables[1]


@pytest.mark.slow
def test_a_killed_run_is_lost_alone(plan, tmp_path):
    folder = tmp_path / "out"
    killed = []

    def kill() -> None:
        (process,) = wait_for(lambda: [p for p in processes_of(folder) if "endless" in p.cmdline()])
        wait_for(lambda: list(folder.glob("*/*/endless-1-*/checkpoint.pt")))
        os.kill(process.pid, signal.SIGKILL)
        killed.append(process.pid)

    thread = Thread(target=kill)
    thread.start()
    state = run_all(plan(models=[ENDLESS, *TINY["models"]], seeds=[1]), folder)
    thread.join()
    assert killed
    assert state.count("finished") == 2
    (path,) = folder.glob("board/rated/endless-1-*")
    record = read_run(path).record
    assert (record["status"], record["label"]) == ("failed", "endless")
    assert "killed by SIGKILL" in record["error"]


@pytest.mark.slow
def test_a_run_that_fails_or_takes_too_long_is_recorded_and_stops_no_other(plan, tmp_path, monkeypatch):
    implicit = {"feedback": "implicit", "metrics": ["RatedNDCG"], "rating_threshold": 3}
    failing = {"model": "MF", "label": "broken", "config": {"unrated_weight": 0.0, **implicit}}
    given = plan(models=[failing, ENDLESS, TINY["models"][0]], seeds=[1], time_limit=30)
    alone = Event()  # the endless run is: until then the clock of the time limits stands still
    monkeypatch.setattr(worker, "monotonic", lambda: 1000.0 * alone.is_set())

    def show(state) -> None:
        if state.count("waiting", "running") == 1:
            alone.set()

    state = run_all(given, tmp_path / "out", workers=3, show=show)
    ends = {run.label: status for run, status in state.runs.items()}
    assert ends == {"broken": "failed", "endless": "timed_out", "MF": "finished"}
    paths = {run.label: run_directory(tmp_path / "out", run) for run in given[1]}
    failed, late = (read_run(paths[label]).record for label in ("broken", "endless"))
    assert failed["error"].startswith("OptionError: unrated_weight=0")
    assert failed["traceback"].startswith("Traceback")
    assert late["error"] == "stopped after the time limit of 30 s"
    assert not any(session.done(tmp_path / "out", run, retry=True) for run in given[1][:2])
    assert all(session.done(tmp_path / "out", run) for run in given[1])
    write_report(tmp_path / "out", tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "| endless | board | rated | 1 | timed_out | stopped after the time limit" in text


@pytest.mark.slow
def test_an_unwanted_run_leaves_its_checkpoint_and_goes_on_later(plan, tmp_path):
    _, (run,) = plan(models=[ENDLESS], seeds=[1], baseline=None)
    unwanted = Event()
    job = worker.Job(run.label, run.config, str(tmp_path / "run"), 1, 60)
    thread = Thread(target=worker.execute, args=(job, unwanted))
    thread.start()
    wait_for(lambda: (tmp_path / "run" / "checkpoint.pt").exists())
    unwanted.set()
    thread.join(30)
    assert not thread.is_alive()
    assert read_run(tmp_path / "run").record["status"] == "interrupted"
    assert "KeyboardInterrupt" in (tmp_path / "run" / "output.txt").read_text()


def test_runs_by_code_that_gave_other_results_are_put_aside_and_made_again(plan, tmp_path):
    given = plan(models=TINY["models"][:1], seeds=[1])
    run_here(given, tmp_path / "out")
    (path,) = (tmp_path / "out").rglob("record.json")
    record = json.loads(path.read_text())
    write_json(path, {**record, "code": 0})
    run_here(given, tmp_path / "out")
    assert json.loads(path.read_text())["code"] == record["code"]
    assert "code that gives other results" in next((tmp_path / "out").rglob("reason.txt")).read_text()


def test_a_benchmark_leaves_a_run_alone_that_another_process_makes(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(queue, "EXIT_S", 0.2)
    given = plan(models=TINY["models"][:1], seeds=[1])
    path = run_directory(tmp_path / "out", given[1][0])
    with alone_in(path, "process"):
        (path / "mine.txt").write_text("a note")
        with pytest.raises(UserError, match=f"another process is at work in {path}; wait for its end"):
            run_here(given, tmp_path / "out")
    assert (path / "mine.txt").exists()


@pytest.mark.parametrize("seeds", [[1], [2]])
def test_two_data_sets_of_one_name_are_refused_before_the_first_run(plan, tmp_path, seeds):
    for name, rows in (("a", 0), ("b", 1)):
        write_ratings(tmp_path / name, "mine", random_ratings().iloc[rows:])
    paths = [{"data_path": str(tmp_path / name)} for name in "ab"]
    datasets = [{"dataset": "mine", "config": paths[0]}, {"dataset": "mine", "config": paths[1], "seeds": seeds}]
    with pytest.raises(OptionError, match=r"mine names two data sets, in data_path=.*a and .*b;"):
        plan(datasets=datasets, seeds=[1], models=["MF"])


def test_two_benchmarks_do_not_share_a_folder(plan, tmp_path):
    with alone_in(tmp_path / "out", "benchmark"), pytest.raises(UserError, match="another benchmark is at work in"):
        run_all(plan(), tmp_path / "out")


def test_odd_names_stay_in_the_folder(plan, tmp_path):
    _, runs = plan(models=[{"model": "MF", "label": "../../a b|c"}], baseline=None)
    odd = replace(runs[0], config={**runs[0].config, "dataset": "../up"})
    for run in (runs[0], odd):
        path = run_directory(tmp_path, run)
        assert path.resolve().is_relative_to(tmp_path)
        assert len(path.relative_to(tmp_path).parts) == 3


@pytest.mark.slow
def test_the_command_plans_runs_and_reports(plan, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(executors, "LocalExecutor", Here)
    made, _ = plan(seeds=[1], config={**TINY["config"], "valid_metric": "RatedNDCG@5"})
    arguments = [
        "benchmark",
        f"--config={tmp_path / 'tiny.yaml'}",
        f"--output_dir={tmp_path / 'out'}",
        "--seeds=[1]",
        f"--data_path={made.config['data_path']}",
    ]
    assert main.main([*arguments, "--dry_run"]) == 0
    assert not (tmp_path / "out").exists()
    assert "0/1" in capsys.readouterr().out
    assert main.main(arguments) == 0
    out = capsys.readouterr().out
    assert "[2/2] DGRM on board, rated, seed 1: RatedNDCG@5" in out
    assert "2 runs: 2 finished" in out
    for name in ("report.md", "report.csv", "report.tex", "report.html", "figures/board-rated-metrics.svg"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    assert main.main(["report", str(tmp_path / "out"), "--baseline=DGRM", f"--output_dir={tmp_path / 'again'}"]) == 0
    assert "Differences to DGRM" in (tmp_path / "again" / "report.md").read_text()
    assert main.main(["report", str(tmp_path)[:-1] + "x"]) == 2
    assert "there is no run in" in capsys.readouterr().err


def test_python_runs_a_plan_and_has_its_report(plan, tmp_path, monkeypatch):
    monkeypatch.setattr(executors, "LocalExecutor", Here)
    made, _ = plan(seeds=[1])
    where = {"output_dir": tmp_path / "out", "data_path": made.config["data_path"]}
    report = session.benchmark(str(tmp_path / "tiny.yaml"), **where, seeds=[3], models=TINY["models"][:1])
    assert report.path == tmp_path / "out" / "report.html"
    table = report.table().set_index(["model", "metric"])
    (result,) = results(tmp_path / "out").values()
    assert {metric: table["mean"]["MF", metric] for metric in result} == pytest.approx(result)
    assert r"\begin{tabular}" in report.to_latex()


def test_a_scheduler_that_is_not_there_is_an_error(monkeypatch):
    pytest.importorskip("distributed", reason="the extra 'distributed' is not installed")
    monkeypatch.setattr("recbole_dgrm.benchmarks.executors.CONNECT_S", 0.5)
    with pytest.raises(OptionError, match="no Dask scheduler answers at 'tcp:"):
        DaskExecutor("tcp://127.0.0.1:9")


@pytest.fixture
def cluster():
    """Two worker processes of a Dask cluster on this machine, one run at a time each."""
    distributed = pytest.importorskip("distributed", reason="the extra 'distributed' is not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
    ) as cluster:
        yield cluster


def workers_at_work_on(label: str, cluster) -> list[psutil.Process]:
    """The worker processes of the cluster, and no other, that have started the run ``label``."""
    pids = {nanny.pid for nanny in cluster.workers.values()}
    runs = [process for process in psutil.process_iter(["cmdline"]) if label in (process.info["cmdline"] or [])]
    found = []
    for run in runs:
        with suppress(psutil.NoSuchProcess):
            found.append(run.parent())
    return [parent for parent in found if parent and parent.pid in pids]


@pytest.mark.slow
def test_a_cluster_sends_the_records_back_and_a_lost_workers_run_is_retried(plan, tmp_path, cluster):
    """The worker of one run is killed once: the run is made again elsewhere, the others do not notice."""
    again = {"model": "DGRM", "label": "again", "config": SIZES}
    given, killed = plan(models=[again, TINY["models"][0]], seeds=[1]), []

    def kill() -> None:
        (victim,) = wait_for(lambda: workers_at_work_on("again", cluster))
        victim.kill()
        killed.append(victim.pid)

    thread = Thread(target=kill)
    thread.start()
    state = run_all(given, tmp_path / "out", executor=DaskExecutor(cluster.scheduler_address))
    thread.join()
    assert killed
    assert state.count("finished") == 2
    for run in given[1]:
        names = {path.name for path in run_directory(tmp_path / "out", run).iterdir()}
        assert names == {"record.json", "config.yaml", "metrics.jsonl", "per_user.npz", "run.log"}
    run_here(given, tmp_path / "local")
    assert results(tmp_path / "out") == results(tmp_path / "local")


@pytest.mark.slow
def test_a_run_that_takes_its_workers_down_is_recorded_as_failed(plan, tmp_path, cluster):
    given = plan(models=[ENDLESS, TINY["models"][0]], seeds=[1])
    killed: set[int] = set()

    def kill_each() -> None:
        while len(killed) < 4:  # as many as Dask allows by default, and one more
            (victim,) = wait_for(
                lambda: [one for one in workers_at_work_on("endless", cluster) if one.pid not in killed]
            )
            killed.add(victim.pid)
            victim.kill()

    thread = Thread(target=kill_each)
    thread.start()
    state = run_all(given, tmp_path / "out", executor=DaskExecutor(cluster.scheduler_address))
    thread.join()
    assert {run.label: status for run, status in state.runs.items()} == {"endless": "failed", "MF": "finished"}
    record = read_run(run_directory(tmp_path / "out", given[1][0])).record
    assert record["error"].startswith("KilledWorker")
