"""Benchmarks and searches on a Dask cluster whose workers die: nothing is lost, and nothing is counted twice."""

from contextlib import suppress
from threading import Thread

import psutil
import pytest
from helpers import ENDLESS, MF, QUICK, SIZES, Here, wait_for

from recbole_dgrm.benchmarks import executors
from recbole_dgrm.benchmarks.executors import DaskExecutor
from recbole_dgrm.benchmarks.plan import make_plan
from recbole_dgrm.benchmarks.session import Benchmark, run_directory
from recbole_dgrm.errors import OptionError
from recbole_dgrm.records import read_run
from recbole_dgrm.tuning.plan import plan_search
from recbole_dgrm.tuning.search import run_search

distributed = pytest.importorskip("distributed", reason="the extra 'distributed' is not installed")
dask = pytest.importorskip("dask")  # comes with it
AGAIN = {"model": "DGRM", "label": "again", "config": SIZES}


@pytest.fixture(scope="module")
def cluster():
    """Two worker processes on this machine, one run at a time each; a run may take one worker down, not two."""
    dask.config.set({"distributed.scheduler.allowed-failures": 1})
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "silence_logs": 50}
    with distributed.LocalCluster(processes=True, **options) as cluster:
        yield cluster


@pytest.fixture
def made(tmp_path, ratings_path):
    """``made(folder, *models)``: the benchmark of these models on the data of the tests."""

    def make(folder: str, *models: dict) -> Benchmark:
        plan = {"models": [*models], "datasets": ["board"], "seeds": [1], "threads": 1}
        return Benchmark(make_plan({**plan, "config": {**QUICK, "data_path": str(ratings_path)}}), tmp_path / folder)

    return make


def records(benchmark: Benchmark) -> dict[str, dict]:
    return {run.label: read_run(run_directory(benchmark.folder, run)).record for run in benchmark.runs}


def kill_a_worker_at_work_on(label: str, cluster, spared: frozenset[int] = frozenset()) -> int:
    """Kill the worker of the cluster, and no other process, that has started the run ``label``."""

    def at_work() -> psutil.Process | None:
        for pid in {nanny.pid for nanny in cluster.workers.values()} - spared - {None}:  # None: not yet restarted
            with suppress(psutil.NoSuchProcess):
                worker = psutil.Process(pid)
                if any(label in child.cmdline() for child in worker.children()):
                    return worker
        return None

    victim = wait_for(at_work)
    victim.kill()
    return victim.pid


@pytest.mark.slow
def test_trials_of_a_search_have_the_same_scores(cluster, ratings_path, tmp_path):
    config = {"model": "MF", "dataset": "board", "protocol": "rated", "seed": 7, "data_path": str(ratings_path)}
    plan = plan_search({**config, **QUICK}, {"factors": {"choice": [2, 3]}}, "grid", trials=1)
    (remote,) = run_search(plan, tmp_path / "out", DaskExecutor(cluster.scheduler_address)).finished()
    (here,) = run_search(plan, tmp_path / "here", Here()).finished()
    assert (remote.value, remote.params) == (here.value, here.params)


@pytest.mark.slow
def test_records_are_sent_back_and_the_run_of_a_lost_worker_is_made_again(made, cluster):
    """The worker of one run is killed once: the run is made again elsewhere, the others do not notice."""
    benchmark, local = made("out", AGAIN, MF), made("local", AGAIN, MF)
    killer = Thread(target=kill_a_worker_at_work_on, args=("again", cluster))
    killer.start()
    assert benchmark.run(executor=DaskExecutor(cluster.scheduler_address)).count("finished") == 2
    killer.join()
    for run in benchmark.runs:
        names = {path.name for path in run_directory(benchmark.folder, run).iterdir()}
        assert names == {"record.json", "config.yaml", "metrics.jsonl", "per_user.npz", "run.log"}
    local.run(executor=Here())
    results = [{label: record["test"] for label, record in records(each).items()} for each in (benchmark, local)]
    assert results[0] == results[1]


@pytest.mark.slow
def test_a_run_that_takes_its_workers_down_is_recorded_as_failed(made, cluster):
    benchmark = made("out", ENDLESS, MF)

    def kill_twice() -> None:
        wait_for(lambda: [*benchmark.folder.glob("*/*/MF-*/record.json")])
        first = kill_a_worker_at_work_on("endless", cluster)
        kill_a_worker_at_work_on("endless", cluster, frozenset({first}))

    killer = Thread(target=kill_twice)
    killer.start()
    benchmark.run(executor=DaskExecutor(cluster.scheduler_address))
    killer.join()
    found = records(benchmark)
    assert {label: record["status"] for label, record in found.items()} == {"endless": "failed", "MF": "finished"}
    assert found["endless"]["error"].startswith("KilledWorker")


def test_a_scheduler_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(executors, "CONNECT_S", 0.5)
    with pytest.raises(OptionError, match="no Dask scheduler answers at 'tcp:"):
        DaskExecutor("tcp://127.0.0.1:9")
