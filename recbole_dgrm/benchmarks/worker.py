"""A run in its own process, which is started, monitored and ended here, on this machine or on another.

An executor calls ``execute``. It starts ``python -m recbole_dgrm.benchmarks.worker``, which writes its checkpoint and
ends if the run is no longer wanted or its parent is dead.
"""

import math
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from time import monotonic
from typing import Any

from recbole_dgrm import records
from recbole_dgrm.errors import OutputError
from recbole_dgrm.records import RECORD, RunDirectory, new_record, read_run, write_config
from recbole_dgrm.runs import experiment
from recbole_dgrm.runs.trial import Trial
from recbole_dgrm.system import processes
from recbole_dgrm.system.files import make_folder, write_json, writing

OUTPUT = "output.txt"  # the output of the process; removed unless the run fails
# the files that another machine sends back
BACK = (RECORD, records.CONFIG, records.EPOCHS, records.PER_USER, records.RUN_LOG)
POLL_S = 0.5  # seconds between two checks of the time limit and of whether the run is still wanted


@dataclass(frozen=True)
class Job:
    """A run to be made.

    Attributes:
        config: its merged keys, as in ``config.yaml``.
        threads: the number of its threads.
        time_limit: its time limit in seconds.
        trial: the trial of a search, if the run is one.
    """

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


def execute(job: Job, run_dir: Path | None, unwanted: Callable[[], bool] = lambda: False) -> dict[str, bytes]:
    """Make the run; in any case its record says how it ended.

    Args:
        run_dir: the directory of the run; None for a temporary directory, whose files are returned.
        unwanted: called regularly; if it returns true, the run is stopped and writes its checkpoint.

    Returns:
        File name to content if ``run_dir`` is None, else an empty dict.
    """
    if run_dir is not None:
        _run(job, run_dir, unwanted)
        return {}
    with tempfile.TemporaryDirectory(prefix="recbole_dgrm-") as folder:
        _run(job, Path(folder), unwanted)
        return {name: (Path(folder) / name).read_bytes() for name in BACK if (Path(folder) / name).exists()}


def _run(job: Job, run_dir: Path, unwanted: Callable[[], bool]) -> None:
    job.lay_out(run_dir)
    output = run_dir / OUTPUT
    with writing(output):
        process = processes.spawn("recbole_dgrm.benchmarks.worker", [str(run_dir), job.label], output, job.threads)
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


def _wait(process: subprocess.Popen, time_limit: float, unwanted: Callable[[], bool]) -> bool:
    """Wait until the process has ended or is unwanted; False if it reached its time limit."""
    deadline = monotonic() + time_limit
    while not unwanted():
        with suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)
            return True
        if monotonic() > deadline:
            return False
    return True


if __name__ == "__main__":  # python -m recbole_dgrm.benchmarks.worker RUN_DIR LABEL
    sys.exit(processes.worker_main(lambda run_dir, label: experiment.make(Path(run_dir), label=label)))
