"""Run a benchmark: make every run of a plan that is not done yet, each in its own process.

``<output_dir>/<dataset>/<protocol>/<label>-<seed>-<hash>/`` is one run. Finished runs are not repeated, interrupted
ones are continued, and a run that fails does not stop the others. Runs of other data are moved into
``<output_dir>/.aside/``, which reports do not read.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from recbole_dgrm.benchmarks.executors import Job, LocalExecutor, executor_for
from recbole_dgrm.benchmarks.plan import Plan, PlannedRun, find_plan, make_plan, planned_runs
from recbole_dgrm.benchmarks.progress import State
from recbole_dgrm.config.values import read_yaml
from recbole_dgrm.data.convert import as_dataset
from recbole_dgrm.identity import Identity, put_aside_unless
from recbole_dgrm.records import PLAN, RunDirectory, find_runs, read_run
from recbole_dgrm.reports.benchmark_report import Report, write_report
from recbole_dgrm.system.files import check_writable, write_json
from recbole_dgrm.system.processes import locked_folder
from recbole_dgrm.system.texts import in_file_name

LOG = logging.getLogger(__name__)
Source = str | Mapping[str, Any] | None  # a plan's file or name, its content, or None
Show = Callable[[State], object]


def benchmark(
    config: Source = None,
    output_dir: Path | str | None = None,
    workers: int = 1,
    scheduler: str | None = None,
    retry: bool = False,
    data_path: str | None = None,
    show: Show = lambda state: None,
    **changes: Any,
) -> Report:
    """Make the missing runs of a plan, and write the report.

    Args:
        config: a YAML file, the name of a plan in the package, the content of a plan, or None for a plan that
            consists of ``changes``.
        output_dir: the folder for runs and report; by default ``runs/<name of the plan>``, or ``runs/benchmark`` for a
            plan without a file.
        workers, scheduler, retry, show: see ``Benchmark.run``.
        data_path: the folder of the data sets, for every run.
        changes: keys of the plan, for example ``seeds=[2020, 2021]``. ``datasets`` may be or contain DataFrames of
            ratings, see ``recbole_dgrm.runs.trained_run.train``.
    """
    made = Benchmark.read(config, output_dir, changes, data_path)
    made.run(workers, scheduler, retry, show)
    return made.report()


class Benchmark:
    """A checked plan with its runs and their folder; nothing is written until ``run`` is called."""

    def __init__(self, plan: Plan, folder: Path):
        check_writable(folder)
        self.plan, self.folder = plan, folder
        self.runs, left_out = planned_runs(plan)
        for dataset, reason in left_out.items():
            LOG.warning("%s is left out: %s", dataset, reason)

    @classmethod
    def read(
        cls, config: Source, output_dir: Path | str | None, changes: Mapping[str, Any], data_path: str | None
    ) -> "Benchmark":
        """The benchmark of a plan, from the arguments of ``benchmark``."""
        content: Mapping[str, Any] = config if isinstance(config, Mapping) else {}
        path = find_plan(config) if config and not isinstance(config, Mapping) else None
        folder = Path(output_dir or Path("runs") / (path.stem if path else "benchmark"))
        plan = {**(read_yaml(path) if path else content), **changes}
        plan["datasets"] = _written(plan.get("datasets"), folder)
        if data_path is not None:
            plan["config"] = {**(plan.get("config") or {}), "data_path": data_path}
        return cls(make_plan(plan, path), folder)

    def run(
        self,
        workers: int = 1,
        scheduler: str | None = None,
        retry: bool = False,
        show: Show = lambda state: None,
        executor: LocalExecutor | None = None,
    ) -> State:
        """Make the runs that are not done yet; their records say how they ended.

        Args:
            workers: the number of simultaneous runs on this machine.
            scheduler: address of a Dask cluster that makes the runs instead.
            retry: make failed, diverged and timed-out runs again.
            show: called often with the state.
            executor: makes the runs instead of ``workers`` or ``scheduler``.

        Raises:
            UserError: another benchmark is working in the folder, another process in one of its runs, or the connection
                to the cluster is lost.
        """
        if executor is None:  # an executor without runs is false
            executor = executor_for(workers, scheduler)
        threads = self.plan.threads or executor.threads
        with executor, locked_folder(self.folder, "benchmark"):
            write_json(self.folder / PLAN, asdict(self.plan))
            self._put_others_aside()
            state = State(dict.fromkeys(self.runs, "waiting"))
            for run in self.runs:
                if saved := done(self.folder, run, retry):
                    state.end(run, saved)
                else:
                    job = Job(run.label, run.config, threads, self.plan.time_limit)
                    executor.submit(run, job, run_directory(self.folder, run))
            show(state)
            while executor:
                for run, saved in executor.ended():
                    state.end(run, saved)
                    show(replace(state, just=(run, saved, state.seconds[run])))
                active = [run for run, status in state.runs.items() if status in ("waiting", "running")]
                for run in active[: executor.workers]:
                    state.begin(run)
                show(state)
        return state

    def report(self) -> Report:
        """Write the report on the runs in the folder."""
        return Report(write_report(self.folder, self.folder))

    def finished_runs(self, retry: bool = False) -> set[PlannedRun]:
        """The runs that have ended; with ``retry`` only those that have a result."""
        return {run for run in self.runs if done(self.folder, run, retry)}

    def _put_others_aside(self) -> None:
        """Move runs to ``.aside`` that were made with other data of the same name or by code with other results.

        This includes runs that the plan no longer has, because a report would compare them with the new ones.
        """
        wanted: dict[str, list[Identity]] = {}
        for run in self.runs:
            wanted.setdefault(run.config["dataset"], []).append(run.identity)
        for saved in find_runs(self.folder):
            wanted_here = wanted.get(saved.record["dataset"], [])
            put_aside_unless(saved.path, saved.identity, self.folder, wanted_here)


def _written(datasets: Any, folder: Path) -> Any:
    """The data sets of a plan; DataFrames among them are first written as data sets into the folder."""
    if datasets is None or isinstance(datasets, str):  # the check of the plan raises an error
        return datasets
    rows = datasets if isinstance(datasets, (list, tuple)) else [datasets]
    pairs = [(row, {}) if isinstance(row, Mapping) and "dataset" in row else as_dataset(row, folder) for row in rows]
    return [{"dataset": name, "config": place} if place else name for name, place in pairs]


def run_directory(output_dir: Path, run: PlannedRun) -> Path:
    """The directory of ``run``; different configs have different directories."""
    names = run.config["dataset"], run.config["protocol"], run.label
    dataset, protocol, label = (in_file_name(name).strip(".") for name in names)
    return output_dir / dataset / protocol / f"{label}-{run.config['seed']}-{run.identity.config[:8]}"


def done(output_dir: Path, run: PlannedRun, retry: bool = False) -> RunDirectory | None:
    """The finished directory of a run, if its identity is the same; None if the run has to be made."""
    saved = read_run(run_directory(output_dir, run))
    if saved is None or saved.unfinished or run.identity.difference(saved.identity) or (retry and not saved.finished):
        return None
    return saved
