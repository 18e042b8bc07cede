"""Disks that are full, read-only, or have a file where a folder is needed."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jobs import Benchmark, Training, Tuning, damaged, leftovers, run
from kills import Tally

ROOM = "256m"
REASON_NOT = "" if sys.platform == "linux" and os.geteuid() == 0 else "not tried: needs Linux and root"


@contextmanager
def mounted(folder: Path, size: str) -> Iterator[Path]:
    """A disk in memory."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def remount(folder: Path, option: str) -> None:
    """Make the disk larger, or read-only."""
    subprocess.run(["mount", "-o", f"remount,{option}", folder], check=True)


def full(job, folder: Path, unbroken: Any, times: int) -> Tally:
    """The disk is full at a random point of the job; then it becomes larger, and the job is continued."""
    tally, chance = Tally(), random.Random(f"{job.name} full")
    with mounted(folder / "large", ROOM) as disk:
        run(job.command(disk / "out"), folder / "large.log")
        need = (shutil.disk_usage(disk).used) // 1024
    for number in range(times):
        with mounted(folder / str(number), f"{chance.uniform(0.02, 0.95) * need:.0f}k") as disk:
            place = disk / "out"
            small = job.command(folder / "out")  # a plan or space file lies beside the output: not on this disk
            arguments = [
                word.replace(str(folder / "out"), str(place)) if "output_dir" in word else word for word in small
            ]
            outcome = run(arguments, log := folder / f"{number}.log")
            tally.stops += 1
            tally.problems += refusal(outcome, disk, log) + damaged(disk)
            remount(disk, f"size={ROOM}")
            again = [word for word in job.command(place) if "--resume" in word] or arguments
            outcome = run(again, log)
            tally.jobs += 1
            if outcome.status:
                tally.problems.append(f"{log}: continued, it fails: {outcome.said[-500:]}")
            elif job.result(place) != unbroken:
                tally.problems.append(f"{place}: another result than without faults")
            tally.problems += damaged(disk) + leftovers(disk)
    return tally


def refused(folder: Path, runs: Path) -> Tally:
    """Every command on a disk that cannot be written, and with a file as its output directory.

    Args:
        runs: a finished benchmark, to report on.
    """
    tally = Tally()
    (folder / "file").write_text("a file\n")
    commands = {job.name: job.command(folder / job.name) for job in (Training(), Benchmark(), Tuning())}
    commands["report"] = ["report", str(runs), f"--output_dir={folder / 'report'}"]
    with mounted(folder / "disk", ROOM) as disk:
        remount(disk, "ro")
        for name, command in commands.items():
            for place in (disk / "out", folder / "file", folder / "file" / "below"):
                words = [f"--output_dir={place}" if "output_dir" in word else word for word in command]
                tally.stops += 1
                tally.problems += refusal(run(words, folder / f"{name}.log"), place, folder / f"{name}.log")
    if (folder / "file").read_text() != "a file\n":
        tally.problems.append("the file in the place of the folder was written to")
    return tally


def refusal(outcome, place: Path, log: Path) -> list[str]:
    """Whether a command ended with a sentence about ``place``, a file in it, or the folder that cannot hold it."""
    named = str(place) in outcome.said or f"{place.parent}: " in outcome.said
    if outcome.status in (1, 2) and "Traceback" not in outcome.said and named:
        return []
    return [f"{log}: status {outcome.status}: {outcome.said[-700:]}"]
