"""Where runs are executed: processes of this machine, or an existing Dask cluster."""

from concurrent.futures import Future, ThreadPoolExecutor
from threading import Event
from time import monotonic
from uuid import uuid4

from recbole_dgrm.benchmarks.worker import Job, execute
from recbole_dgrm.errors import OptionError

CONNECT_S = 10  # how long to wait for a scheduler
ASK_S = 2  # how long an answer of the cluster counts


class LocalExecutor:
    """Makes up to ``workers`` runs at a time; each is a process of its own that writes into its run directory."""

    remote = False

    def __init__(self, workers: int):
        self.workers = workers
        self._unwanted = Event()
        self._threads = ThreadPoolExecutor(workers)

    def submit(self, job: Job) -> Future:
        """Start the run when a worker is free."""
        return self._threads.submit(execute, job, self._unwanted)

    def stop(self) -> None:
        """End the runs at work, which leave their checkpoints, and begin no other."""
        self._unwanted.set()
        self._threads.shutdown(cancel_futures=True)


class DaskExecutor:
    """Hands runs to the workers of a Dask cluster; the future of a run holds the run's files.

    A worker needs this package, and the data under the same ``data_path``; no disk is shared. When a worker dies, Dask
    starts its run again on another one, until ``allowed-failures`` workers of the cluster have died of it.

    Raises:
        OptionError: the library is not installed, or nobody answers at the address.
    """

    remote = True

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
        self.workers = max(1, sum(self._client.nthreads().values()))  # runs at a time
        self._name = f"recbole_dgrm-{uuid4().hex}"
        self._unwanted = distributed.Event(self._name, client=self._client)
        self._tasks = self._client.get_executor(pure=False)

    def submit(self, job: Job) -> Future:
        """Give the run to the cluster; its future holds what ``recbole_dgrm.benchmarks.worker.execute`` returns."""
        return self._tasks.submit(_execute, job, self._name)

    def stop(self) -> None:
        """End the runs at work and begin no other."""
        self._unwanted.set()
        self._tasks.shutdown(wait=False)
        self._client.close()


def executor_of(workers: int, scheduler: str | None) -> LocalExecutor | DaskExecutor:
    """An executor for ``workers`` runs at a time on this machine, or for the Dask cluster at an address."""
    return DaskExecutor(scheduler) if scheduler else LocalExecutor(workers)


class _Unwanted:
    """A flag that the cluster keeps; it is asked for once in a few seconds at most."""

    def __init__(self, name: str):
        from distributed import Event

        self._event, self._set, self._asked = Event(name), False, 0.0

    def is_set(self) -> bool:
        if not self._set and monotonic() - self._asked > ASK_S:
            self._set, self._asked = self._event.is_set(), monotonic()
        return self._set


def _execute(job: Job, unwanted_name: str) -> dict[str, bytes]:
    return execute(job, _Unwanted(unwanted_name))
