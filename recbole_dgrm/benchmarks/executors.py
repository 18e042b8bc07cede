"""Executors of runs: processes of this machine, or an existing Dask cluster.

Each run has its own process, ``python -m recbole_dgrm.benchmarks.executors`` or a fork that does the same, which writes
its checkpoint and ends if the run is no longer wanted or its parent is dead.
"""

import logging
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any, Self
from uuid import uuid4

import torch

from recbole_dgrm import records
from recbole_dgrm.errors import OptionError, OutputError, UserError
from recbole_dgrm.models import registry
from recbole_dgrm.records import CHECKPOINT, RECORD, RunDirectory, new_record, read_run, write_config
from recbole_dgrm.runs import experiment
from recbole_dgrm.runs.trial import Trial
from recbole_dgrm.system import processes
from recbole_dgrm.system.files import make_folder, write_json, write_whole, writing
from recbole_dgrm.system.forks import CAN_FORK, Forks
from recbole_dgrm.system.processes import EXIT_S, clear, locked_folder

LOG = logging.getLogger(__name__)
Start = Callable[[str, list[str], Path, int], processes.Process]
OUTPUT = "output.txt"  # the output of the process; removed unless the run fails
# the files that another machine sends back
BACK = (RECORD, records.CONFIG, records.EPOCHS, records.PER_USER, records.RUN_LOG)
POLL_S = 0.5  # seconds between two checks of the time limit and of whether the run is still wanted
CONNECT_S = 10  # timeout for connecting to a scheduler, in seconds
REFRESH_S = 0.5


@dataclass(frozen=True)
class Job:
    """A run to be made: ``config`` has its merged keys, ``time_limit`` is in seconds, ``trial`` that of a search."""

    label: str
    config: dict[str, Any]
    threads: int
    time_limit: float = math.inf
    trial: Trial | None = None

    def lay_out(self, run_dir: Path) -> None:
        """Write the files that ``recbole_dgrm.runs.experiment.make`` reads into ``run_dir``."""
        make_folder(run_dir)
        write_config(run_dir, self.config)
        if self.trial:
            self.trial.save(run_dir)

    def record_end(self, run_dir: Path, error: str, status: str = "failed") -> RunDirectory:
        """Record the end of a run whose process could not; after an error of the disk the status is interrupted."""
        make_folder(run_dir)
        run = read_run(run_dir)
        record: Mapping[str, Any] = run.record if run else asdict(new_record(self.config, self.label))
        status = "interrupted" if OutputError.__name__ in error else status
        ended = RunDirectory(run_dir, {**record, "status": status, "error": error})
        write_json(run_dir / RECORD, ended.record)
        return ended


def execute(
    job: Job, run_dir: Path, unwanted: Callable[[], bool] = lambda: False, start: Start = processes.spawn
) -> None:
    """Make the run in its directory; in any case its record says how it ended.

    If ``unwanted()``, which is called regularly, returns true, the run is stopped and writes its checkpoint. ``start``
    starts its process, as ``processes.spawn`` does.
    """
    job.lay_out(run_dir)
    output = run_dir / OUTPUT
    with writing(output):
        process = start("recbole_dgrm.benchmarks.executors", [str(run_dir), job.label], output, job.threads)
    try:
        in_time = _wait(process, job.time_limit, unwanted)
    finally:
        processes.end(process)
    run = read_run(run_dir)
    if unwanted():
        return  # the next call continues the run
    if not in_time:
        job.record_end(run_dir, f"stopped after the time limit of {job.time_limit:g} s", "timed_out")
    elif -process.returncode in (signal.SIGTERM, signal.SIGINT):  # killed before it could handle the signal
        job.record_end(run_dir, "stopped by the user", "interrupted")
    elif run is None or run.record["status"] == "running":
        job.record_end(run_dir, processes.cause_of_death(process, output))
    else:
        with suppress(OSError):  # the record has been written
            output.unlink()


def _wait(process: processes.Process, time_limit: float, unwanted: Callable[[], bool]) -> bool:
    """Wait until the process has ended or is unwanted; False if it reached its time limit."""
    deadline = monotonic() + time_limit
    while not unwanted():
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)
            return True
        if monotonic() > deadline:
            return False
    return True


class LocalExecutor:
    """Makes up to ``workers`` runs at a time on this machine, each in its own process and directory.

    At the end of a ``with`` block the active runs are stopped, and write their checkpoints. ``threads`` is the number
    of threads of each run, unless its plan says otherwise.
    """

    patience = EXIT_S  # seconds to wait for another process to leave the directory of a run

    def __init__(self, workers: int):
        self.workers, self.threads = workers, max(1, (os.cpu_count() or 1) // workers)
        self._unwanted: Any = Event()
        self._threads = ThreadPoolExecutor(workers)
        self._forks = Forks("recbole_dgrm.runs.experiment")
        self._active: dict[Future, tuple[Any, Job, Path]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        if kind is KeyboardInterrupt:
            LOG.warning("stopped; the same command continues from here")

    def __len__(self) -> int:
        return len(self._active)

    def submit(self, key: Any, job: Job, run_dir: Path) -> None:
        """Make a run, which ``key`` identifies for the caller, as soon as a worker is free.

        Files of a run that cannot be continued are removed first. No other process may work in ``run_dir``.
        """
        if run_dir.exists():  # the child of a killed parent ends soon, so wait for it
            with locked_folder(run_dir, "process", "wait for its end", self.patience):
                if not _can_continue(run_dir, job):
                    clear(run_dir)
        if job.trial:  # a search finds its trials by their directories
            job.lay_out(run_dir)
        self._active[self.start(job, run_dir)] = key, job, run_dir

    def ended(self) -> Iterator[tuple[Any, RunDirectory]]:
        """Wait at most ``REFRESH_S`` seconds, and yield the runs that have ended; their records say how."""
        for future in wait(self._active, REFRESH_S, FIRST_COMPLETED).done:
            key, job, run_dir = self._active.pop(future)
            try:
                files = future.result() or {}  # those that another machine sends back
                make_folder(run_dir)
                for name in sorted(files, key=lambda name: name == RECORD):  # if the record exists, all are complete
                    write_whole(run_dir / name, partial(Path.write_bytes, data=files[name]))
            except CancelledError:
                raise UserError("the cluster is gone; the same command continues where it stopped") from None
            except Exception as error:
                LOG.info("%s", job.label, exc_info=True)
                job.record_end(run_dir, f"{type(error).__name__}: {error}")
            yield key, read_run(run_dir) or job.record_end(run_dir, "the run left no record")

    def start(self, job: Job, run_dir: Path) -> Future:
        """Start a run; its future has the files that another machine sends back."""
        on_gpu = job.config.get("device") != "cpu" and torch.cuda.is_available()  # which a fork may not be able to use
        start_process = processes.spawn if on_gpu or not CAN_FORK else self._forks.start
        return self._threads.submit(execute, job, run_dir, self._unwanted.is_set, start_process)

    def stop(self) -> None:
        """End the active runs and start no others."""
        self._unwanted.set()
        self._threads.shutdown(cancel_futures=True)
        self._forks.close()


class DaskExecutor(LocalExecutor):
    """Sends runs to the workers of a Dask cluster, which send the files of each run back.

    A worker needs this package, and the data under the same ``data_path``, but no shared disk. If a worker dies, Dask
    starts its run again on another one, until ``allowed-failures`` workers have died with it.
    """

    def __init__(self, address: str):
        try:
            import distributed
        except ImportError:
            raise OptionError(
                "a Dask cluster needs the library distributed: pip install 'recbole-dgrm[distributed]'"
            ) from None
        try:
            self._client = distributed.Client(address, timeout=CONNECT_S)
        except (OSError, ValueError) as error:
            raise OptionError(f"no Dask scheduler answers at {address!r}: {error}") from error
        super().__init__(max(1, sum(self._client.nthreads().values())))
        self.threads = 1
        self._unwanted = distributed.Event(f"recbole_dgrm-{uuid4().hex}", client=self._client)
        self._tasks = self._client.get_executor(pure=False)

    def start(self, job: Job, run_dir: Path) -> Future:
        return self._tasks.submit(_execute_remotely, job, self._unwanted.name)

    def stop(self) -> None:
        self._unwanted.set()
        self._tasks.shutdown(wait=False)
        self._client.close()


def executor_for(workers: int, scheduler: str | None) -> LocalExecutor:
    """The executor with ``workers`` processes on this machine, or that of the Dask cluster at ``scheduler``."""
    return DaskExecutor(scheduler) if scheduler else LocalExecutor(workers)


def _execute_remotely(job: Job, unwanted: str) -> dict[str, bytes]:
    from distributed import Event

    with tempfile.TemporaryDirectory(prefix="recbole_dgrm-") as folder:
        execute(job, Path(folder), Event(unwanted).is_set)
        return {name: (Path(folder) / name).read_bytes() for name in BACK if (Path(folder) / name).exists()}


def _can_continue(run_dir: Path, job: Job) -> bool:
    """Whether a run can continue from its checkpoint; for RecBole's models that is not always exact, so they cannot."""
    run = read_run(run_dir)
    ours = registry.declares_options(job.config["model"])
    return run is not None and (run.unfinished or run.lost) and (run_dir / CHECKPOINT).exists() and ours


if __name__ == "__main__":  # python -m recbole_dgrm.benchmarks.executors RUN_DIR LABEL
    sys.exit(processes.worker_main(lambda run_dir, label: experiment.make(Path(run_dir), label=label)))
