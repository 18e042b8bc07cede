"""Executors of runs: processes of this machine, or an existing Dask cluster."""

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
CONNECT_S = 10  # timeout for connecting to a scheduler, in seconds
REFRESH_S = 0.5


class LocalExecutor:
    """Makes up to ``workers`` runs at a time on this machine, each in its own process and directory.

    At the end of a ``with`` block the active runs are stopped, and write their checkpoints.
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
            LOG.warning("stopped; the same command continues from here")

    def __len__(self) -> int:
        return len(self._active)

    def submit(self, key: Any, job: Job, run_dir: Path) -> None:
        """Make a run as soon as a worker is free; files of a run that cannot be continued are removed first.

        Args:
            key: identifies the run for the caller.

        Raises:
            UserError: another process is working in the directory.
        """
        if run_dir.exists():  # the child of a killed parent ends soon, so wait for it
            with locked_folder(run_dir, "process", "wait for its end", self.patience):
                if not _can_continue(run_dir, job):
                    clear(run_dir)
        if job.trial:  # a search finds its trials by their directories
            job.lay_out(run_dir)
        self._active[self.start(job, run_dir)] = key, job, run_dir

    def ended(self) -> Iterator[tuple[Any, RunDirectory]]:
        """Wait at most ``REFRESH_S`` seconds, and yield the runs that have ended; their records say how.

        Raises:
            UserError: the connection to the cluster is lost.
        """
        for future in wait(self._active, REFRESH_S, FIRST_COMPLETED).done:
            key, job, run_dir = self._active.pop(future)
            try:
                files = future.result()  # those that another machine sends back
                make_folder(run_dir)
                for name in sorted(files, key=lambda name: name == RECORD):  # if the record exists, all are complete
                    write_bytes(run_dir / name, files[name])
            except CancelledError:
                raise UserError("the cluster is gone; the same command continues where it stopped") from None
            except Exception as error:
                LOG.info("%s", job.label, exc_info=True)
                job.record_end(run_dir, f"{type(error).__name__}: {error}")
            yield key, read_run(run_dir) or job.record_end(run_dir, "the run left no record")

    def start(self, job: Job, run_dir: Path) -> Future:
        """Start a run; the future has the result of ``recbole_dgrm.benchmarks.worker.execute``."""
        return self._threads.submit(execute, job, run_dir, self._unwanted.is_set)

    def stop(self) -> None:
        """End the active runs and start no others."""
        self._unwanted.set()
        self._threads.shutdown(cancel_futures=True)


class DaskExecutor(LocalExecutor):
    """Sends runs to the workers of a Dask cluster, which send the files of each run back.

    A worker needs this package, and the data under the same ``data_path``, but no shared disk. If a worker dies, Dask
    starts its run again on another one, until ``allowed-failures`` workers have died with it.

    Raises:
        OptionError: the library is not installed, or no scheduler answers at the address.
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


def _execute_remotely(job: Job, unwanted: str) -> dict[str, bytes]:
    from distributed import Event

    return execute(job, None, Event(unwanted).is_set)


def _can_continue(run_dir: Path, job: Job) -> bool:
    """Whether a run can continue from its checkpoint; for RecBole's models that is not always exact, so they cannot."""
    run = read_run(run_dir)
    ours = registry.declares_options(job.config["model"])
    return run is not None and (run.unfinished or run.lost) and (run_dir / CHECKPOINT).exists() and ours
