"""Benchmark: every run of a plan that is not done yet, each in a process of its own.

``<output_dir>/<dataset>/<protocol>/<label>-<seed>-<hash>/`` is one run. What is finished stays, what was
interrupted goes on, and a run that fails stops no other. What was made with other data is put into
``<output_dir>/.aside/``, where no report looks.
"""

import logging
import re
import shutil
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from statistics import mean
from time import monotonic

from recbole_dgrm.benchmark import worker
from recbole_dgrm.benchmark.executors import DaskExecutor, LocalExecutor
from recbole_dgrm.benchmark.plan import Plan, PlannedRun
from recbole_dgrm.errors import UserError
from recbole_dgrm.models import registry
from recbole_dgrm.records import ASIDE, CHECKPOINT, PLAN, RECORD, SavedRun, find_runs, read_run
from recbole_dgrm.system.files import write_json, write_whole
from recbole_dgrm.system.processes import alone_in

LOG = logging.getLogger(__name__)
CONTINUED = ("running", "interrupted")
REFRESH_S = 0.5


@dataclass
class State:
    """How far a benchmark is, for a display.

    Attributes:
        runs: label, dataset, protocol and seed of each run of the plan, with its status: ``waiting``,
            ``running`` or what its record says.
        just: the run that has ended since the last call, if any, with its seconds in this session.
        left_s: expected seconds to the end; None before anything is known.
    """

    runs: dict[PlannedRun, str]
    started: dict[PlannedRun, float]
    just: tuple[PlannedRun, SavedRun, float] | None = None
    left_s: float | None = None

    def count(self, *status: str) -> int:
        """Number of runs with one of these."""
        return sum(value in status for value in self.runs.values())


def run_directory(output_dir: Path, run: PlannedRun) -> Path:
    """Where ``run`` is written; two configs never share a directory."""
    dataset, protocol, label = (re.sub(r"[^\w.+-]+", "-", name).strip(".") for name in (*run.cell, run.label))
    return output_dir / dataset / protocol / f"{label}-{run.config['seed']}-{run.hash[:8]}"


def run_benchmark(
    plan: Plan, runs: list[PlannedRun], output_dir: Path, executor: LocalExecutor | DaskExecutor, threads: int,
    retry: bool = False, show: Callable[[State], None] = lambda state: None,
) -> State:  # fmt: skip
    """Make what is missing of ``runs``; the end of each is in its record.

    Args:
        plan: written to ``benchmark.json`` for the report.
        threads: of each run.
        retry: make failed, diverged and timed-out runs again.
        show: called often with the state.

    Raises:
        UserError: another benchmark is at work in ``output_dir``, or the cluster is gone.
    """
    with alone_in(output_dir, "benchmark"):
        write_json(output_dir / PLAN, asdict(plan))
        return _Session(plan, runs, output_dir, executor, threads, retry, show).go()


def done(output_dir: Path, run: PlannedRun, retry: bool = False) -> SavedRun | None:
    """The run as saved if nothing is left to do: same config, same data, and it came to an end."""
    saved = read_run(run_directory(output_dir, run))
    if saved is None or saved.record["hash"] != run.hash or saved.record["status"] in CONTINUED:
        return None
    if saved.record["data"].get("source", run.source) != run.source or (retry and not saved.finished):
        return None
    return saved


class _Session:
    """One call of ``run_benchmark``; what its steps share."""

    def __init__(
        self, plan: Plan, runs: list[PlannedRun], output_dir: Path, executor: LocalExecutor | DaskExecutor,
        threads: int, retry: bool, show: Callable[[State], None],
    ):  # fmt: skip
        self.plan, self.output_dir, self.executor, self.threads, self.show = plan, output_dir, executor, threads, show
        self.state = State(dict.fromkeys(runs, "waiting"), {})
        self.paths = {run: run_directory(output_dir, run) for run in runs}
        self.seconds: dict[PlannedRun, float] = {}
        for run in runs:
            if saved := done(output_dir, run, retry):
                self.state.runs[run] = saved.record["status"]
                self.seconds[run] = _seconds(saved)

    def go(self) -> State:
        futures: dict[Future, tuple[PlannedRun, worker.Job]] = {}
        self._put_aside()
        try:
            for run in [run for run, status in self.state.runs.items() if status == "waiting"]:
                job = self._job(run)
                futures[self.executor.submit(job)] = (run, job)
            self._watch(futures)
        except KeyboardInterrupt:
            LOG.warning("stopped; the same command goes on from here")
            raise
        finally:
            self.executor.stop()
        return self.state

    def _job(self, run: PlannedRun) -> worker.Job:
        path, config = self.paths[run], run.config
        saved = read_run(path)
        goes_on = saved and saved.record["status"] in CONTINUED and saved.record["data"].get("source") == run.source
        if not (goes_on and (path / CHECKPOINT).exists() and registry.declares_options(config["model"])):
            shutil.rmtree(path, ignore_errors=True)  # RecBole's own models may not resume exactly
        where = None if self.executor.remote else str(path)
        return worker.Job(run.label, config, where, self.threads, self.plan.time_limit)

    def _put_aside(self) -> None:
        """Move what was made with other data of the plan's sets to ``.aside/``, in its folders and with a number."""
        sources: dict[str, set[str]] = {}
        for run in self.state.runs:
            sources.setdefault(run.cell[0], set()).add(run.source)
        old = [saved for saved in find_runs(self.output_dir)
               if saved.record["data"].get("source") and saved.record["dataset"] in sources
               and saved.record["data"]["source"] not in sources[saved.record["dataset"]]]  # fmt: skip
        for saved in old:
            place = self.output_dir / ASIDE / saved.path.relative_to(self.output_dir)
            place.parent.mkdir(parents=True, exist_ok=True)
            saved.path.rename(
                next(free for n in count(1) if not (free := place.with_name(f"{place.name}-{n}")).exists())
            )
        if old:
            LOG.warning("%d runs in %s were made with data that has changed since; they are kept in %s", len(old),
                        self.output_dir, self.output_dir / ASIDE)  # fmt: skip

    def _watch(self, futures: dict[Future, tuple[PlannedRun, worker.Job]]) -> None:
        pending = set(futures)
        while True:
            for future in pending:
                run, _ = futures[future]
                if future.running() and run not in self.state.started:
                    self.state.runs[run] = "running"
                    self.state.started[run] = monotonic()
            self.state.left_s = self._left()
            self.show(self.state)
            if not pending:
                return
            ended, pending = wait(pending, REFRESH_S, FIRST_COMPLETED)
            for future in ended:
                self._settle(future, *futures[future])

    def _settle(self, future: Future, run: PlannedRun, job: worker.Job) -> None:
        path = self.paths[run]
        try:
            self._keep(path, future.result())
        except CancelledError:
            raise UserError("the cluster is gone; the same command continues where it was") from None
        except Exception as error:
            LOG.info("%s", run.label, exc_info=True)
            worker.lost(job, path, f"{type(error).__name__}: {error}")
        saved = read_run(path)
        if saved is None:
            worker.lost(job, path, "the run left no record")
            saved = read_run(path)
        self.state.runs[run] = saved.record["status"]
        self.seconds[run] = monotonic() - self.state.started[run] if run in self.state.started else _seconds(saved)
        self.state.just = run, saved, self.seconds[run]
        self.show(self.state)
        self.state.just = None

    def _keep(self, path: Path, files: dict[str, bytes]) -> None:
        """Lay down what came back from another machine; the record last, so that it speaks of files that are there."""
        path.mkdir(parents=True, exist_ok=True)
        for name in sorted(files, key=lambda name: name == RECORD):
            write_whole(path / name, lambda partial, name=name: partial.write_bytes(files[name]))

    def _left(self) -> float | None:
        """Runs of one label on one data set are taken to need alike; unknown ones the mean of all."""
        if not self.seconds:
            return None
        known: dict[tuple, list[float]] = {}
        for run, seconds in self.seconds.items():
            known.setdefault((run.label, *run.cell), []).append(seconds)
        usual = mean(self.seconds.values())
        now, left, active = monotonic(), [], 0
        for run, status in self.state.runs.items():
            if status in ("waiting", "running"):
                expected = mean(known.get((run.label, *run.cell), [usual]))
                spent = now - self.state.started[run] if run in self.state.started else 0.0
                left.append(max(expected - spent, 0.0))
                active += status == "running"
        return sum(left) / max(active, 1)


def _seconds(saved: SavedRun) -> float:
    timing = saved.record["timing"]
    return timing.get("train_s", 0.0) + timing.get("evaluate_s", 0.0)
