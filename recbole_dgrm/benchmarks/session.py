"""Run a benchmark: every run of a plan that is not done yet, each in a process of its own.

``<output_dir>/<dataset>/<protocol>/<label>-<seed>-<hash>/`` is one run. What is finished stays, what was
interrupted goes on, and a run that fails stops no other. What was made with other data is put into
``<output_dir>/.aside/``, where no report looks.
"""

import logging
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

from recbole_dgrm.benchmarks import worker
from recbole_dgrm.benchmarks.executors import DaskExecutor, LocalExecutor
from recbole_dgrm.benchmarks.plan import Plan, PlannedRun, find_plan, planned_runs, read_plan_file
from recbole_dgrm.benchmarks.progress import State
from recbole_dgrm.data.convert import as_dataset
from recbole_dgrm.errors import UserError
from recbole_dgrm.models import registry
from recbole_dgrm.records import ASIDE, CHECKPOINT, PLAN, RECORD, RunDirectory, find_runs, read_run
from recbole_dgrm.reports.benchmark_report import Report, write_report
from recbole_dgrm.system.files import check_writable, write_bytes, write_json
from recbole_dgrm.system.processes import alone_in, threads_of_each
from recbole_dgrm.system.texts import in_file_name

LOG = logging.getLogger(__name__)
CONTINUED = ("running", "interrupted")
REFRESH_S = 0.5
Show = Callable[[State], None]


def unseen(state: State) -> None:
    """The display of a benchmark that nobody looks at."""


def benchmark(
    config: str | Mapping[str, Any] | None = None,
    output_dir: Path | str | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    retry: bool = False,
    data_path: str | None = None,
    show: Show = unseen,
    **changes: Any,
) -> Report:
    """Make the missing runs of a plan, and write the report.

    Args:
        config: a YAML file, the name of a plan that comes with the package, the content of a plan, or None for a plan
            of ``changes`` alone.
        output_dir: where runs and report go; ``runs/<name of the plan>`` by default, else ``runs/benchmark``.
        workers, scheduler, retry, show: see ``Benchmark.run``.
        data_path: folder that holds the data sets, for every run.
        changes: keys of the plan, for example ``seeds=[2020, 2021]``; among ``datasets``, or in their place, may be
            DataFrames of ratings, see ``recbole_dgrm.runs.trained_run.train``.
    """
    made = Benchmark.read(config, output_dir, changes, data_path)
    made.run(workers, scheduler, retry, show)
    return made.report()


@dataclass(frozen=True, eq=False)
class Benchmark:
    """A plan, its checked runs, and the folder that they are written into."""

    plan: Plan
    folder: Path
    runs: list[PlannedRun]

    @classmethod
    def read(
        cls,
        config: str | Mapping[str, Any] | None,
        output_dir: Path | str | None,
        changes: Mapping[str, Any],
        data_path: str | None,
    ) -> "Benchmark":
        """The benchmark of a plan's file or content; the arguments are those of ``benchmark``."""
        if isinstance(config, Mapping):
            changes, config = {**config, **changes}, None
        path = find_plan(config) if config else None
        folder = Path(output_dir or Path("runs") / (path.stem if path else "benchmark"))
        changes = {key: _written(value, folder) if key == "datasets" else value for key, value in changes.items()}
        return cls.of(read_plan_file(path, changes, {} if data_path is None else {"data_path": data_path}), folder)

    @classmethod
    def of(cls, plan: Plan, folder: Path) -> "Benchmark":
        """The benchmark of a plan; everything is checked and nothing is written."""
        check_writable(folder)
        runs, left_out = planned_runs(plan)
        for dataset, reason in left_out.items():
            LOG.warning("%s is left out: %s", dataset, reason)
        return cls(plan, folder, runs)

    def run(self, workers: int = 1, scheduler: str | None = None, retry: bool = False, show: Show = unseen) -> State:
        """Make the missing runs.

        Args:
            workers: runs at a time on this machine.
            scheduler: address of a Dask cluster that makes the runs instead.
            retry: make failed, diverged and timed-out runs again.
            show: called often with the state.
        """
        threads = self.plan.threads or (1 if scheduler else threads_of_each(workers))
        executor = DaskExecutor(scheduler) if scheduler else LocalExecutor(workers)
        return run_benchmark(self.plan, self.runs, self.folder, executor, threads, retry, show)

    def report(self) -> Report:
        """Write the report on the runs in the folder."""
        return Report(write_report(self.folder, self.folder))

    def finished_runs(self, retry: bool = False) -> set[PlannedRun]:
        """The runs that have come to their end; with ``retry`` those alone that have a result."""
        return {run for run in self.runs if done(self.folder, run, retry)}


def _written(datasets: Any, folder: Path) -> Any:
    """The data sets of a plan, after DataFrames among them are written as data sets in the folder."""
    if datasets is None or isinstance(datasets, str):  # the plan says what is wrong with it
        return datasets
    rows = datasets if isinstance(datasets, (list, tuple)) else [datasets]
    found = [(row, {}) if isinstance(row, Mapping) and "dataset" in row else as_dataset(row, folder) for row in rows]
    return [{"dataset": name, "config": place} if place else name for name, place in found]


def run_directory(output_dir: Path, run: PlannedRun) -> Path:
    """Where ``run`` is written; two configs never share a directory."""
    dataset, protocol, label = (in_file_name(name).strip(".") for name in (*run.cell, run.label))
    return output_dir / dataset / protocol / f"{label}-{run.config['seed']}-{run.hash[:8]}"


def run_benchmark(
    plan: Plan,
    runs: list[PlannedRun],
    output_dir: Path,
    executor: LocalExecutor | DaskExecutor,
    threads: int,
    retry: bool = False,
    show: Show = unseen,
) -> State:
    """Make the runs that are not done yet; how each ended is in its record.

    Args:
        plan: written to ``benchmark.json`` for the report.
        threads: of each run.
        retry, show: see ``Benchmark.run``.

    Raises:
        UserError: another benchmark is at work in ``output_dir``, or the cluster is gone.
    """
    with alone_in(output_dir, "benchmark"):
        write_json(output_dir / PLAN, asdict(plan))
        state = State(dict.fromkeys(runs, "waiting"))
        for run in runs:
            if saved := done(output_dir, run, retry):
                state.end(run, saved)
        return _Session(plan, output_dir, executor, threads, show, state).go()


def done(output_dir: Path, run: PlannedRun, retry: bool = False) -> RunDirectory | None:
    """The directory of a run that has ended with this very config and data; None if it is still to be made."""
    saved = read_run(run_directory(output_dir, run))
    if saved is None or saved.record["hash"] != run.hash or saved.record["status"] in CONTINUED:
        return None
    if saved.record["data"].get("source", run.source) != run.source or (retry and not saved.finished):
        return None
    return saved


@dataclass(frozen=True)
class _Session:
    """One call of ``run_benchmark``: the state that its steps share."""

    plan: Plan
    output_dir: Path
    executor: LocalExecutor | DaskExecutor
    threads: int
    show: Show
    state: State

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
        path, config = run_directory(self.output_dir, run), run.config
        saved = read_run(path)
        goes_on = saved and saved.record["status"] in CONTINUED and saved.record["data"].get("source") == run.source
        if not (goes_on and (path / CHECKPOINT).exists() and registry.declares_options(config["model"])):
            shutil.rmtree(path, ignore_errors=True)  # RecBole's own models may not resume exactly
        where = None if self.executor.remote else str(path)
        return worker.Job(run.label, config, where, self.threads, self.plan.time_limit)

    def _put_aside(self) -> None:
        """Move runs that were made with other data of the same name into ``.aside/``, each under a number."""
        sources: dict[str, set[str]] = {}
        for run in self.state.runs:
            sources.setdefault(run.cell[0], set()).add(run.source)
        old = []
        for saved in find_runs(self.output_dir):
            source, now = saved.record["data"].get("source"), sources.get(saved.record["dataset"])
            if source and now and source not in now:
                old.append(saved)
        for saved in old:
            place = self.output_dir / ASIDE / saved.path.relative_to(self.output_dir)
            place.parent.mkdir(parents=True, exist_ok=True)
            numbered = (place.with_name(f"{place.name}-{number}") for number in count(1))
            saved.path.rename(next(path for path in numbered if not path.exists()))
        if old:
            said = "%d runs in %s were made with data that has changed since; they are kept in %s"
            LOG.warning(said, len(old), self.output_dir, self.output_dir / ASIDE)

    def _watch(self, futures: dict[Future, tuple[PlannedRun, worker.Job]]) -> None:
        pending = set(futures)
        while True:
            for future in pending:
                if future.running():
                    self.state.begin(futures[future][0])
            self.show(self.state)
            if not pending:
                return
            ended, pending = wait(pending, REFRESH_S, FIRST_COMPLETED)
            for future in ended:
                self._settle(future, *futures[future])

    def _settle(self, future: Future, run: PlannedRun, job: worker.Job) -> None:
        path = run_directory(self.output_dir, run)
        try:
            self._keep(path, future.result())
        except CancelledError:
            raise UserError("the cluster is gone; the same command continues where it was") from None
        except Exception as error:
            LOG.info("%s", run.label, exc_info=True)
            worker.lost(job, path, f"{type(error).__name__}: {error}")
        saved = read_run(path) or worker.lost(job, path, "the run left no record")
        self.state.end(run, saved)
        self.state.just = run, saved, self.state.seconds[run]
        self.show(self.state)
        self.state.just = None

    def _keep(self, path: Path, files: dict[str, bytes]) -> None:
        """Write the files that came back from another machine, the record last: it vouches for the others."""
        path.mkdir(parents=True, exist_ok=True)
        for name in sorted(files, key=lambda name: name == RECORD):
            write_bytes(path / name, files[name])
