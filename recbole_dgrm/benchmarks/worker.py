"""A run in a process of its own: started, watched and ended here, on this machine or on another.

``execute`` is what an executor is given. It starts ``python -m recbole_dgrm.benchmarks.worker``, which leaves its
checkpoint and ends when the run is no longer wanted or whoever started it is dead.
"""

import math
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic, sleep
from typing import Any, Protocol

from recbole_dgrm import records
from recbole_dgrm.errors import OutputError
from recbole_dgrm.records import RECORD, RunDirectory, new_record, read_run, write_config
from recbole_dgrm.runs import experiment
from recbole_dgrm.runs.trial import Trial
from recbole_dgrm.system import processes
from recbole_dgrm.system.files import make_folder, write_json, writing

OUTPUT = "output.txt"  # what the process printed, for the post-mortem
# What travels back from another machine.
BACK = (RECORD, records.CONFIG, records.EPOCHS, records.PER_USER, records.RUN_LOG)
POLL_S = 0.1


class Flag(Protocol):
    """A ``threading.Event``, or anything else that can say whether it is set."""

    def is_set(self) -> bool: ...


@dataclass(frozen=True)
class Job:
    """A run to be made.

    Attributes:
        config: its merged keys, as in ``config.yaml``.
        run_dir: where it writes and continues; None: a temporary directory, whose files are sent back.
        time_limit: seconds.
        trial: of a search, if the run is one.
    """

    label: str
    config: dict[str, Any]
    run_dir: str | None
    threads: int
    time_limit: float = math.inf
    trial: Trial | None = None

    def lay_out(self, run_dir: Path) -> None:
        """Write into ``run_dir`` what ``recbole_dgrm.runs.experiment.make`` makes the run of."""
        make_folder(run_dir)
        write_config(run_dir, self.config)
        if self.trial:
            self.trial.save(run_dir)


def execute(job: Job, unwanted: Flag | None = None) -> dict[str, bytes]:
    """Make the run; its record says how it ended, whatever happens.

    Args:
        unwanted: set to stop the run before its end.

    Returns:
        File name to content where ``job.run_dir`` is None, else nothing.
    """
    if job.run_dir is not None:
        _run(job, Path(job.run_dir), unwanted)
        return {}
    with tempfile.TemporaryDirectory(prefix="recbole_dgrm-") as folder:
        _run(job, Path(folder), unwanted)
        return {name: (Path(folder) / name).read_bytes() for name in BACK if (Path(folder) / name).exists()}


def lost(job: Job, run_dir: Path, error: str) -> RunDirectory:
    """Record that the run failed without having written how; what the disk refused only interrupts it."""
    status = "interrupted" if OutputError.__name__ in error else "failed"
    make_folder(run_dir)
    return _close_record(job, run_dir, status, error)


def _run(job: Job, run_dir: Path, unwanted: Flag | None) -> None:
    job.lay_out(run_dir)
    with writing(run_dir / OUTPUT):
        process = processes.spawn(
            "recbole_dgrm.benchmarks.worker", [str(run_dir), job.label], run_dir / OUTPUT, job.threads
        )
    try:
        in_time = _wait(process, job.time_limit, unwanted)
    finally:
        processes.end(process)
    run = read_run(run_dir)
    if unwanted and unwanted.is_set():
        return  # what it left is continued another time
    if not in_time:
        _close_record(job, run_dir, "timed_out", f"stopped after the time limit of {job.time_limit:g} s")
    elif -process.returncode in (signal.SIGTERM, signal.SIGINT):  # before it could listen to them
        _close_record(job, run_dir, "interrupted", "stopped by the user")
    elif run is None or run.record["status"] == "running":
        lost(job, run_dir, processes.cause_of_death(process, run_dir / OUTPUT))
    else:
        with suppress(OSError):  # the record has been written, and stays
            (run_dir / OUTPUT).unlink()


def _wait(process: subprocess.Popen, time_limit: float, unwanted: Flag | None) -> bool:
    """Wait until the process has ended or is unwanted; False if it reached its time limit."""
    deadline = monotonic() + time_limit
    while process.poll() is None and not (unwanted and unwanted.is_set()):
        if monotonic() > deadline:
            return False
        sleep(POLL_S)
    return True


def _close_record(job: Job, run_dir: Path, status: str, error: str) -> RunDirectory:
    run = read_run(run_dir)
    record: Mapping[str, Any] = run.record if run else asdict(new_record(job.config, job.label))
    closed = RunDirectory(run_dir, {**record, "status": status, "error": error})
    write_json(run_dir / RECORD, closed.record)
    return closed


if __name__ == "__main__":  # python -m recbole_dgrm.benchmarks.worker RUN_DIR LABEL
    sys.exit(processes.worker_main(lambda run_dir, label: experiment.make(Path(run_dir), label=label)))
