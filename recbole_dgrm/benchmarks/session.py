"""Run a benchmark: every run of a plan that is not done yet, each in a process of its own.

``<output_dir>/<dataset>/<protocol>/<label>-<seed>-<hash>/`` is one run. What is finished stays, what was
interrupted goes on, and a run that fails stops no other. What was made with other data is put into
``<output_dir>/.aside/``, where no report looks.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from recbole_dgrm.benchmarks.executors import DaskExecutor, LocalExecutor, executor_of
from recbole_dgrm.benchmarks.plan import Plan, PlannedRun, find_plan, planned_runs, read_plan_file
from recbole_dgrm.benchmarks.progress import State
from recbole_dgrm.benchmarks.queue import Queue
from recbole_dgrm.benchmarks.worker import Job
from recbole_dgrm.data.convert import as_dataset
from recbole_dgrm.records import PLAN, Identity, RunDirectory, find_runs, put_aside, read_run
from recbole_dgrm.reports.benchmark_report import Report, write_report
from recbole_dgrm.system.files import check_writable, write_json
from recbole_dgrm.system.processes import EXIT_S, alone_in, threads_of_each
from recbole_dgrm.system.texts import in_file_name

LOG = logging.getLogger(__name__)
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

    def run(
        self,
        workers: int = 1,
        scheduler: str | None = None,
        retry: bool = False,
        show: Show = unseen,
        executor: LocalExecutor | DaskExecutor | None = None,
    ) -> State:
        """Make the runs that are not done yet; how each ended is in its record.

        Args:
            workers: runs at a time on this machine.
            scheduler: address of a Dask cluster that makes the runs instead.
            retry: make failed, diverged and timed-out runs again.
            show: called often with the state.
            executor: makes the runs, if workers and scheduler do not say what does.

        Raises:
            UserError: another benchmark is at work in the folder, another process in one of its runs, or the cluster is
                gone.
        """
        threads = self.plan.threads or (1 if scheduler else threads_of_each(workers))
        with (
            Queue[PlannedRun](executor or executor_of(workers, scheduler)) as queue,
            alone_in(self.folder, "benchmark"),
        ):
            write_json(self.folder / PLAN, asdict(self.plan))
            put_others_aside(self.folder, self.runs)
            state = State(dict.fromkeys(self.runs, "waiting"))
            for run in self.runs:
                if saved := done(self.folder, run, retry):
                    state.end(run, saved)
                else:
                    path = str(run_directory(self.folder, run))
                    queue.submit(run, Job(run.label, run.config, path, threads, self.plan.time_limit))
            show(state)
            while queue:
                for run, saved in queue.ended():
                    state.end(run, saved)
                    show(replace(state, just=(run, saved, state.seconds[run])))
                for run in queue.begun():
                    state.begin(run)
                show(state)
        return state

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


def done(output_dir: Path, run: PlannedRun, retry: bool = False) -> RunDirectory | None:
    """The directory of a run of this very identity that has ended; None if the run is still to be made."""
    saved = read_run(run_directory(output_dir, run))
    if saved is None or saved.unfinished or run.identity.difference(saved.identity) or (retry and not saved.finished):
        return None
    return saved


def put_others_aside(output_dir: Path, runs: list[PlannedRun]) -> None:
    """Move runs into ``.aside/`` that were made with other data of the same name, or by code with other results.

    Also those that the plan does not have any more, because a report would compare them with the new ones.

    Raises:
        UserError: another process is at work in one of them.
    """
    wanted: dict[str, list[Identity]] = {}
    for run in runs:
        wanted.setdefault(run.cell[0], []).append(run.identity)
    for saved in find_runs(output_dir):
        known = wanted.get(saved.record["dataset"], [])
        reasons = [replace(one, config=saved.identity.config).difference(saved.identity) for one in known]
        if reasons and all(reasons):
            with alone_in(saved.path, "process", "wait for its end", EXIT_S):
                put_aside(saved.path, output_dir, str(saved.path.relative_to(output_dir)), str(reasons[0]))
