"""Jobs whose processes are killed, or asked to end, at random moments, and what the continued job gives."""

import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from jobs import damaged, family, leftovers, start

ORPHANS_S = 15  # in which what a dead process has started must be gone
PATIENCE_S = 300  # for a job that nobody disturbs any more
LAST_WORDS = ("files of this run:", "report:")  # all is written; Python leaves, and handles no signal any more
Stop = Callable[[psutil.Popen, list[psutil.Process], Path], list[str]]


@dataclass
class Tally:
    """What a fault gave.

    Attributes:
        stops: how often it struck.
        jobs: how many jobs came to their end.
        problems: what was not as it must be, in sentences.
        said: what happened, where there is more to say than that all was as it must be.
    """

    stops: int = 0
    jobs: int = 0
    problems: list[str] = field(default_factory=list)
    said: str = ""


def broken(job, folder: Path, unbroken: Any, span: tuple[float, float], times: int, stops: list[Stop]) -> Tally:
    """Stop a job again and again until it comes to its end between two stops; then another, until ``times`` stops.

    Args:
        unbroken: the result without a fault.
        span: seconds after the start between which the moments lie.
        stops: taken in turn; what each returns is a problem.
    """
    tally, chance = Tally(), random.Random(f"{job.name} {stops[0].__name__}")
    while tally.stops < times:
        place, before = folder / str(tally.jobs), []
        while True:
            kept = job.finished(place)
            process, begun = (
                start(job.command(place), log := folder / f"{tally.jobs}.{tally.stops}.log"),
                time.monotonic(),
            )
            ended = wait(process, chance.uniform(*span) if tally.stops < times else PATIENCE_S)
            tally.problems += orphans(before)
            if ended and not before:  # undisturbed: how long a job takes on this machine at this hour
                span = span[0], min(span[1], time.monotonic() - begun)
            if ended:
                break
            before = family(process)
            stop = stops[tally.stops % len(stops)]
            tally.stops += 1
            tally.problems += stop(process, before, log) + damaged(place) + repeated(job, place, kept)
        tally.jobs += 1
        tally.problems += judged(job, place, unbroken, process, log) + repeated(job, place, kept)
    return tally


def judged(job, place: Path, unbroken: Any, process: psutil.Popen, log: Path) -> list[str]:
    """What is wrong with a job that has ended."""
    if process.returncode:
        return [f"{log}: status {process.returncode}: {log.read_text(errors='replace')[-500:]}"]
    different = [] if job.result(place) == unbroken else [f"{place}: another result than without faults"]
    return damaged(place) + leftovers(place) + different


def repeated(job, place: Path, kept: dict[str, Any]) -> list[str]:
    """What was finished before and has been made again."""
    now = job.finished(place)
    return [f"{place}: {name} was made again" for name, stamp in kept.items() if now.get(name) != stamp]


def orphans(members: list[psutil.Process]) -> list[str]:
    """Processes that outlive whoever has started them."""
    found = []
    for process in psutil.wait_procs(members, ORPHANS_S if members else 0)[1]:
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:  # dead, and not yet counted by the system's first process
                found.append(f"process {process.pid} is still there: {process.cmdline()}")
    return found


def wait(process: psutil.Popen, seconds: float) -> bool:
    """Whether the process has ended by then."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    return process.poll() is not None


def kill_main(process: psutil.Popen, members: list[psutil.Process], log: Path) -> list[str]:
    """kill -9 of the command; what it has started must notice."""
    process.kill()
    process.wait()
    return []


def kill_all(process: psutil.Popen, members: list[psutil.Process], log: Path) -> list[str]:
    """kill -9 of the command and of all that it has started, as a machine that goes down."""
    for member in members:
        with suppress(psutil.NoSuchProcess):
            member.kill()
    process.wait()
    return []


def terminate(process: psutil.Popen, members: list[psutil.Process], log: Path) -> list[str]:
    """SIGTERM to all of them, as a cluster ends a job."""
    os.killpg(process.pid, signal.SIGTERM)
    return _orderly(process, log)


def interrupt_twice(process: psutil.Popen, members: list[psutil.Process], log: Path) -> list[str]:
    """Ctrl-C, and again by somebody impatient."""
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.3)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)
    return _orderly(process, log)


def _orderly(process: psutil.Popen, log: Path) -> list[str]:
    if not wait(process, 30):
        process.kill()
        process.wait()
        return [f"{log}: still there after 30 s"]
    said = log.read_text(errors="replace")
    as_a_shell_says = 128 - process.returncode if process.returncode < 0 else process.returncode
    too_late = process.returncode == -signal.SIGTERM and any(words in said for words in LAST_WORDS)
    status = [] if as_a_shell_says == 130 or too_late else [f"{log}: status {process.returncode} instead of 130"]
    return status + ([f"{log}: a traceback: {said[-300:]}"] if "Traceback" in said else [])


def lost_workers(job, folder: Path, unbroken: Any, span: tuple[float, float], times: int) -> Tally:
    """kill -9 of one of the processes that a benchmark or a search has started; the command itself goes on."""
    tally, chance = Tally(), random.Random(f"{job.name} workers")
    while tally.stops < times:
        place, log = folder / str(tally.jobs), folder / f"{tally.jobs}.log"
        process = start(job.command(place), log)
        if not wait(process, chance.uniform(*span)) and (children := process.children()):
            chance.choice(children).kill()
            tally.stops += 1
        tally.problems += [] if wait(process, PATIENCE_S) else [f"{log}: the command did not end"]
        tally.problems += damaged(place)
        if process.returncode and job.name == "benchmark":
            said = [run["error"] for run in job.failed(place)]
            if len(said) != 1 or "killed by SIGKILL" not in said[0]:
                tally.problems.append(f"{place}: the record says {said}")
            process = start([*job.command(place), "--retry"], log)
            wait(process, PATIENCE_S)
        tally.jobs += 1
        tally.problems += judged(job, place, unbroken, process, log)
    return tally
