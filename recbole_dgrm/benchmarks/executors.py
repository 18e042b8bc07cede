"""Where runs are made: in processes of this machine, or on an existing Dask cluster."""

import logging
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import Any, Self
from uuid import uuid4

from recbole_dgrm.benchmarks.worker import Job, execute
from recbole_dgrm.errors import OptionError, UserError
from recbole_dgrm.models import registry
from recbole_dgrm.records import CHECKPOINT, RECORD, RunDirectory, read_run
from recbole_dgrm.system.files import make_folder, write_bytes
from recbole_dgrm.system.processes import EXIT_S, clear, locked_folder

LOG = logging.getLogger(__name__)
CONNECT_S = 10  # how long to wait for a scheduler
REFRESH_S = 0.5


class LocalExecutor:
    """Makes up to ``workers`` runs at a time, each in a process of its own on this machine and in its own directory.

    At the end of a ``with`` block the active runs are stopped, and leave their checkpoints.
    """

    patience = EXIT_S  # seconds to wait for another process to leave the directory of a run

    def __init__(self, workers: int):
        self.workers = workers
        self._unwanted: Any = Event()
        self._threads = ThreadPoolExecutor(workers)
        self._active: dict[Future, tuple[Any, Job, Path]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.stop()
        if kind is KeyboardInterrupt:
            LOG.warning("stopped; the same command goes on from here")

    def __len__(self) -> int:
        return len(self._active)

    def submit(self, key: Any, job: Job, run_dir: Path) -> None:
        """Make a run as soon as a worker is free, after whatever cannot be continued is removed from its directory.

        Args:
            key: by which the caller knows the run.

        Raises:
            UserError: another process is at work in the directory.
        """
        if run_dir.exists():  # the child of a killed parent ends soon, so it is waited for
            with locked_folder(run_dir, "process", "wait for its end", self.patience):
                if not _can_continue(run_dir, job):
                    clear(run_dir)
        if job.trial:  # a search knows its trials by their directories
            job.lay_out(run_dir)
        self._active[self.start(job, run_dir)] = key, job, run_dir

    def ended(self) -> Iterator[tuple[Any, RunDirectory]]:
        """Wait a moment, and yield the runs that have ended meanwhile; how each ended is in its record.

        Raises:
            UserError: the cluster is gone.
        """
        for future in wait(self._active, REFRESH_S, FIRST_COMPLETED).done:
            key, job, run_dir = self._active.pop(future)
            try:
                _write_files(run_dir, future.result())
            except CancelledError:
                raise UserError("the cluster is gone; the same command continues where it was") from None
            except Exception as error:
                LOG.info("%s", job.label, exc_info=True)
                job.record_end(run_dir, f"{type(error).__name__}: {error}")
            yield key, read_run(run_dir) or job.record_end(run_dir, "the run left no record")

    def start(self, job: Job, run_dir: Path) -> Future:
        """Start a run; the future holds what ``recbole_dgrm.benchmarks.worker.execute`` returns."""
        return self._threads.submit(execute, job, run_dir, self._unwanted.is_set)

    def stop(self) -> None:
        """End the active runs and start no other."""
        self._unwanted.set()
        self._threads.shutdown(cancel_futures=True)


class DaskExecutor(LocalExecutor):
    """Hands runs to the workers of a Dask cluster, which send the files of each run back.

    A worker needs this package, and the data under the same ``data_path``; no disk is shared. When a worker dies, Dask
    starts its run again on another one, until ``allowed-failures`` workers of the cluster have died of it.

    Raises:
        OptionError: the library is not installed, or nobody answers at the address.
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
        self._unwanted = distributed.Event(f"recbole_dgrm-{uuid4().hex}", client=self._client)
        self._tasks = self._client.get_executor(pure=False)

    def start(self, job: Job, run_dir: Path) -> Future:
        return self._tasks.submit(_execute_remotely, job, self._unwanted.name)

    def stop(self) -> None:
        self._unwanted.set()
        self._tasks.shutdown(wait=False)
        self._client.close()


def executor_of(workers: int, scheduler: str | None) -> LocalExecutor:
    """An executor for ``workers`` runs at a time on this machine, or for the Dask cluster at an address."""
    return DaskExecutor(scheduler) if scheduler else LocalExecutor(workers)


def _execute_remotely(job: Job, unwanted: str) -> dict[str, bytes]:
    from distributed import Event

    return execute(job, None, Event(unwanted).is_set)


def _can_continue(run_dir: Path, job: Job) -> bool:
    """Whether a run continues from its checkpoint; RecBole's own models cannot always do that exactly."""
    run = read_run(run_dir)
    ours = registry.declares_options(job.config["model"])
    return run is not None and (run.unfinished or run.lost) and (run_dir / CHECKPOINT).exists() and ours


def _write_files(run_dir: Path, files: dict[str, bytes]) -> None:
    """Write the files that another machine sent back, the record last, because it vouches for the others."""
    make_folder(run_dir)
    for name in sorted(files, key=lambda name: name == RECORD):
        write_bytes(run_dir / name, files[name])
