"""The runs that are at work for a benchmark or a search: submitted to an executor, and settled in their directories."""

import logging
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from dataclasses import replace
from pathlib import Path
from typing import Generic, TypeVar

from recbole_dgrm.benchmarks import worker
from recbole_dgrm.benchmarks.executors import DaskExecutor, LocalExecutor
from recbole_dgrm.errors import UserError
from recbole_dgrm.models import registry
from recbole_dgrm.records import CHECKPOINT, RECORD, RunDirectory, read_run
from recbole_dgrm.system.files import make_folder, write_bytes
from recbole_dgrm.system.processes import EXIT_S, alone_in, clear

LOG = logging.getLogger(__name__)
REFRESH_S = 0.5
Key = TypeVar("Key")  # what the owner of a queue knows a run by


class Queue(Generic[Key]):
    """Runs at work; each has a directory of its own, whatever machine makes it.

    Within a ``with`` block the executor works. At the end it is stopped: runs at work leave their checkpoints.
    """

    def __init__(self, executor: LocalExecutor | DaskExecutor):
        self._executor = executor
        self._jobs: dict[Future, tuple[Key, worker.Job, Path]] = {}

    def __enter__(self) -> "Queue[Key]":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._executor.stop()
        if kind is KeyboardInterrupt:
            LOG.warning("stopped; the same command goes on from here")

    def __len__(self) -> int:
        return len(self._jobs)

    @property
    def has_room(self) -> bool:
        """Whether a worker is free."""
        return len(self) < self._executor.workers

    def submit(self, key: Key, job: worker.Job) -> None:
        """Give a run to the executor, after what cannot be continued in its directory is removed.

        Raises:
            UserError: another process is at work in the directory.
        """
        assert job.run_dir
        path = Path(job.run_dir)
        if path.exists():
            with alone_in(path, "process", "wait for its end", EXIT_S):  # a child of a killed parent soon ends
                if not _goes_on(path, job):
                    clear(path)
        if job.trial:  # a search knows its trials by their directories
            job.lay_out(path)
        sent = replace(job, run_dir=None) if self._executor.remote else job
        self._jobs[self._executor.submit(sent)] = key, job, path

    def begun(self) -> Iterator[Key]:
        """The runs that workers are making now."""
        return (key for future, (key, *_) in self._jobs.items() if future.running())

    def ended(self) -> Iterator[tuple[Key, RunDirectory]]:
        """Wait a moment, and give the runs that have ended meanwhile; how each ended is in its record.

        Raises:
            UserError: the cluster is gone.
        """
        for future in wait(self._jobs, REFRESH_S, FIRST_COMPLETED).done:
            key, job, path = self._jobs.pop(future)
            try:
                _keep(path, future.result())
            except CancelledError:
                raise UserError("the cluster is gone; the same command continues where it was") from None
            except Exception as error:
                LOG.info("%s", job.label, exc_info=True)
                worker.lost(job, path, f"{type(error).__name__}: {error}")
            yield key, read_run(path) or worker.lost(job, path, "the run left no record")


def _goes_on(path: Path, job: worker.Job) -> bool:
    """Whether the run in ``path`` continues from its checkpoint; RecBole's own models may not do that exactly."""
    saved = read_run(path)
    ours = registry.declares_options(job.config["model"])
    return saved is not None and (saved.unfinished or saved.lost) and (path / CHECKPOINT).exists() and ours


def _keep(path: Path, files: dict[str, bytes]) -> None:
    """Write the files that came back from another machine, the record last: it vouches for the others."""
    make_folder(path)
    for name in sorted(files, key=lambda name: name == RECORD):
        write_bytes(path / name, files[name])
