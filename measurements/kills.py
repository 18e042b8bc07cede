"""Jobs that are killed or asked to end at random moments, and continued: the result must be that of the unbroken job.

    python measurements/kills.py [--times=20] [--jobs=training,benchmark,search]

Three small jobs on ML-100K. Each is stopped again and again until it comes to its end between two stops, in turn by
``kill -9`` of its main process, by ``kill -9`` of all its processes, by SIGTERM to all and by Ctrl-C twice. After each
stop every file must parse or be absent and no process may be left; what was finished must not be made again; a job that
was asked to end has status 130 and prints no traceback. Prints a Markdown table; the exit status is 1 if anything was
not as it must be. The moments follow from a seed.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import commands
import psutil
import torch
import yaml

from recbole_dgrm.records import RECORD, read_epochs, read_json, read_run
from recbole_dgrm.training.checkpoints import read_checkpoint

ORPHANS_S = 15  # in which what a dead process has started must be gone
PATIENCE_S = 300  # for a job that nobody disturbs any more
LAST_WORDS = ("files of this run:", "report:")  # all is written; Python leaves, and handles no signal any more
SMALL = {"generator_hidden": [32], "critic_hidden": [16], "latent_size": 8}
TIMES = ("seconds", "validate_s", "diagnose_s")  # of an epoch, which no run repeats
ALWAYS = {"checkpoint_interval": 0, "device": "cpu"}
KEYS = SMALL | ALWAYS | {"epochs": 8, "stopping_step": 8, "eval_step": 1}
MODELS = [{"model": "MF", "config": ALWAYS | {"epochs": 5}}, {"model": "DGRM", "config": KEYS}]
PLAN = {"models": MODELS, "datasets": ["ml-100k"], "seeds": [1], "threads": 1}
SPACE = SMALL | {"sampler": "grid", "epochs": 5, "learning_rate": {"choice": [0.01, 0.003]}}
SPACE["critic_iterations"] = {"choice": [1, 2]}


def training(folder: Path) -> list[str]:
    """One run: the command that begins it, or continues it if it is there."""
    if runs := [path.parent for path in folder.glob("*/config.yaml")]:
        return [*commands.PROGRAM, f"--resume={runs[0]}"]
    return commands.training(folder, model="DGRM", dataset="ml-100k", **KEYS)


def benchmark(folder: Path) -> list[str]:
    """Two runs at a time."""
    plan = folder.with_suffix(".plan.yaml")
    plan.write_text(yaml.safe_dump(PLAN))
    return [*commands.PROGRAM, "benchmark", f"--config={plan}", f"--output_dir={folder}", "--workers=2"]


def search(folder: Path) -> list[str]:
    """Four trials, two at a time."""
    space = folder.with_suffix(".space.yaml")
    space.write_text(yaml.safe_dump(SPACE))
    given = [f"--space={space}", f"--output_dir={folder}", "--workers=2", "--no_pruning", "--test_seeds=[]"]
    keys = ["--model=DGRM", "--dataset=ml-100k", "--checkpoint_interval=0", "--device=cpu"]
    return [*commands.PROGRAM, "tune", *keys, *given]


JOBS = {job.__name__: job for job in (training, benchmark, search)}


def result(folder: Path) -> list[Any]:
    """All numbers of the runs below ``folder``, but how long they took: records, epochs, vectors and weights."""
    found = []
    for run in (read_run(file.parent) for file in sorted(folder.rglob(RECORD))):
        lines = [{key: line[key] for key in line if key not in TIMES} for line in run.epochs()]
        weights = read_checkpoint(run.path / "checkpoint.pt", torch.device("cpu"))["state_dict"].values()
        arrays = [*run.per_user().values(), *(weight.numpy() for weight in weights)]
        digest = hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()
        record = [run.record[key] for key in ("config", "status", "test", "valid", "skill")]
        found.append([{**record[0], "output_dir": ""}, record[1:], lines, digest])
    return sorted(found, key=lambda run: json.dumps(run[0], sort_keys=True))


def finished(folder: Path) -> dict[Path, int]:
    """The records of runs that have come to their end, with the moment at which they were written."""
    runs = [read_run(file.parent) for file in folder.rglob(RECORD)]
    return {run.path: (run.path / RECORD).stat().st_mtime_ns for run in runs if run.ended}


READERS: dict[str, Callable[[Path], object]] = {
    ".json": lambda path: read_json(path, "", ""),
    ".jsonl": lambda path: read_epochs(path.parent),
    ".yaml": lambda path: yaml.safe_load(path.read_text(encoding="utf-8")),
    ".npz": lambda path: read_run(path.parent).per_user() if (path.parent / RECORD).exists() else None,
    ".pt": lambda path: read_checkpoint(path, torch.device("cpu")),
}


def damaged(folder: Path) -> Iterator[str]:
    """The files below ``folder`` that do not parse; nobody reads the temporary ones that a killed process has left."""
    for path in sorted(folder.rglob("*")):
        if path.suffix in READERS and path.is_file() and not path.name.startswith("."):
            try:
                READERS[path.suffix](path)
            except Exception as error:
                yield f"{path}: {type(error).__name__}: {error}"


def ended(process: psutil.Popen, seconds: float) -> bool:
    """Whether the process ends within so many seconds."""
    with suppress(psutil.TimeoutExpired):
        process.wait(seconds)
    return process.poll() is not None


def kill_all(process: psutil.Popen, members: list[psutil.Process]) -> None:
    """Kill the command and its workers, as a machine that goes down does."""
    for member in members:
        with suppress(psutil.NoSuchProcess):
            member.kill()


def interrupt_twice(process: psutil.Popen, members: list[psutil.Process]) -> None:
    """Press Ctrl-C, and again a moment later."""
    os.killpg(process.pid, signal.SIGINT)
    time.sleep(0.3)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGINT)


STOPS: tuple[Callable[[psutil.Popen, list[psutil.Process]], None], ...] = (
    lambda process, members: process.kill(),  # its workers must end by themselves
    kill_all,
    lambda process, members: os.killpg(process.pid, signal.SIGTERM),  # as a cluster does when it ends a job
    interrupt_twice,
)
ASKED = STOPS[2:]  # the command is asked to end


@dataclass
class Kills:
    """A job that is stopped ``times`` times; ``problems`` are what was not as it must be."""

    job: Callable[[Path], list[str]]
    folder: Path
    times: int

    def __post_init__(self) -> None:
        self.problems: list[str] = []
        self.stops = self.ends = 0
        self.chance = random.Random(self.job.__name__)
        begun = time.monotonic()
        log = self.folder / "unbroken.log"
        if commands.start(self.job(self.folder / "unbroken"), log).wait():
            sys.exit(f"the unbroken {self.job.__name__} fails: {log.read_text()}")
        self.seconds, self.unbroken = time.monotonic() - begun, result(self.folder / "unbroken")

    def run(self) -> None:
        """Stop and continue until all stops are done and the last job has come to its end."""
        while self.stops < self.times:
            place = self.folder / str(self.ends)
            while not self.stopped(place):
                pass
            self.ends += 1
            if result(place) != self.unbroken:
                self.problems.append(f"{place}: another result than that of the unbroken job")
            self.problems += [f"{path} is left" for path in place.rglob("*.partial")]

    def stopped(self, place: Path) -> bool:
        """Begin or continue the job and stop it at a random moment; returns whether it came to its end before."""
        done, log = finished(place), self.folder / f"{self.ends}.{self.stops}.log"
        process = commands.start(self.job(place), log, start_new_session=True)
        over = ended(process, self.chance.uniform(0, self.seconds) if self.stops < self.times else PATIENCE_S)
        if not over:
            members = [process, *process.children(recursive=True)]
            stop = STOPS[self.stops % len(STOPS)]
            self.stops += 1
            stop(process, members)
            self.check_end(process, stop, log)
            _, left = psutil.wait_procs(members[1:], ORPHANS_S)
            self.problems += [f"{log}: process {member.pid} is left" for member in left]
        elif process.returncode:
            self.problems.append(f"{log}: status {process.returncode}")
        self.problems += damaged(place)
        self.problems += [f"{path} was made again" for path, _ in done.items() - finished(place).items()]
        return over

    def check_end(self, process: psutil.Popen, stop: Callable[..., None], log: Path) -> None:
        """Check how the command ended after a stop: what was asked to end has status 130 and prints no traceback."""
        if not ended(process, PATIENCE_S):
            self.problems.append(f"{log}: still there after {PATIENCE_S} s")
        text = log.read_text(errors="replace")
        if stop in ASKED and not any(words in text for words in LAST_WORDS):
            status = 128 - process.returncode if process.returncode < 0 else process.returncode
            self.problems += [f"{log}: status {status} instead of 130"] if status != 130 else []
            self.problems += [f"{log}: a traceback"] if "Traceback" in text else []


def main() -> int:
    """Stop the jobs, print the table and what was wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=20, help="stops of each job (default 20)")
    parser.add_argument("--jobs", default=",".join(JOBS), help="some of %(default)s")
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would hand down that it ignores SIGINT
    problems = []
    print("| job | stops | ends | problems |\n|---|---:|---:|---:|", flush=True)
    with tempfile.TemporaryDirectory(prefix="kills-") as temporary:
        for name in given.jobs.split(","):
            (folder := Path(temporary) / name).mkdir()
            kills = Kills(JOBS[name], folder, given.times)
            kills.run()
            print(f"| {name} | {kills.stops} | {kills.ends} | {len(kills.problems)} |", flush=True)
            problems += kills.problems
    print(*problems, sep="\n")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
