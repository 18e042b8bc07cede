"""What happens when something breaks: kills, full and read-only disks, damaged and forged files, too little memory.

    python measurements/faults/run_faults.py --output=docs/reliability.md [--times=20] [--only=training,disk]

Moments and sizes come from seeds. Disks are small ones in memory, which only root may mount on Linux.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import attacks
import damage
import disk
import kills
import starved
from jobs import JOBS

from recbole_dgrm.system.files import write_text

TEXT = """\
# When something breaks

What a user may rely on, tried by `python measurements/faults/run_faults.py` (table below) and by
`tests/test_faults.py`:

- **A file is whole or absent.** Records, configurations, vectors and checkpoints are written beside their place and
  renamed; a checkpoint that cannot be written leaves the one before it. `metrics.jsonl` alone grows by lines; half a
  line is dropped.
- **A job that was stopped goes on**, whoever stopped it: a run with `--resume=RUN`, a benchmark and a search with the
  same command. The result is exactly the one without the stop; what was finished is not made again. A run loses the
  seconds since its last checkpoint (`checkpoint_interval`), before the first all of them; RecBole's own models begin
  again.
- **SIGTERM is treated as Ctrl-C**: the record says interrupted, the command how to go on, the status is 130. Both wait
  until a checkpoint that is being written is whole. Where all
  was written and said before, the status is the system's.
- **Whatever the disk refuses is a sentence** that names the file and the remedy: a full or read-only disk, and also an
  input/output error, a stale handle of a network disk or too many open files. It counts as a stop, not as a failure:
  the record says interrupted where it can be written, and the run goes on to the same end. If several files are
  refused, the first is the one that is named.
- **A damaged or foreign file is a sentence** that names the file and what to do.
- **Nothing in a file runs code or crashes the process.** Weights and arrays are plain data, also where RecBole reads
  them (`tests/test_untrusted.py` names each of its calls); YAML has no references, and sizes and depths are
  bounded; sparse matrices are checked entirely before C code sees them. Records, epochs, vectors and plans have a form
  (`record_types.py`): a value that departs from it is named with its place. Weights that are no finite numbers are
  refused.
- **Processes run this package**, not what lies in the working directory.
- **One run is made by one process**: a second `--resume` is refused; the lock of a killed process is free at once. A
  run whose directory is removed ends with a sentence, and so does one on a disk without locks. The file `.lock` stays
  in the directory: if it were removed, two processes could hold two locks of one name.
- **Too little memory ends one run**, with the keys that save memory; a benchmark goes on with the next.

Not covered: a machine that loses power may lose what its disk had not yet written (files are renamed, not synced);
values of the right form are believed, so that a file changed by hand may give a wrong result; a Dask cluster, whose
scheduler and workers exchange pickles, must be one's own.

Small jobs on ML-100K, broken at moments from a seed; a stopped job is continued until it ends between two stops, and
its result compared. Made in several calls on two busy cores, so the seconds say little.

"""
HEADER = "| fault | times | what is checked | what happened | seconds |\n|---|---:|---|---|---:|\n"
SAME = "every file parses or is absent; continued, it gives exactly the result of the unbroken job"
CONTINUED = f"{SAME}; what was finished is not made again; no process and no temporary file is left"
NO_CODE = "status 2 within a minute, a sentence that names the file, nothing is run"
ORDERLY = f"status 130, no traceback; {SAME}"


def measured(job, folder: Path) -> tuple[Any, tuple[float, float]]:
    """The result without a fault, and the seconds to its first file and to its end."""
    place, log = folder / "unbroken", folder / "unbroken.log"
    begun = time.monotonic()
    process = kills.start(job.command(place), log)
    while not place.exists() and process.poll() is None:
        time.sleep(0.02)
    first = time.monotonic() - begun
    if process.wait():
        sys.exit(f"the unbroken {job.name} fails: {log.read_text()}")
    return job.result(place), (first, time.monotonic() - begun)


def faults(folder: Path, times: int, only: list[str]) -> Iterator[tuple[str, str, Callable[[Path], kills.Tally]]]:
    """Name, what is checked, and how it is done in a folder of its own."""
    few, known = max(1, times // 4), {}

    def unbroken(job) -> tuple[Any, tuple[float, float]]:
        if job.name not in known:
            (folder / job.name).mkdir()
            known[job.name] = measured(job, folder / job.name)
        return known[job.name]

    def stopped(job, count: int, stops: list[kills.Stop]) -> Callable[[Path], kills.Tally]:
        return lambda place: kills.broken(job, place, *unbroken(job), count, stops)

    training, benchmark, search = JOBS
    if training.name in only:
        yield "kill -9 of a training", CONTINUED, stopped(training, times, [kills.kill_main])
    if benchmark.name in only:
        yield (
            "kill -9 of a benchmark, of its main process and of all in turn",
            CONTINUED,
            stopped(benchmark, times, [kills.kill_main, kills.kill_all]),
        )
    if search.name in only:
        yield (
            "kill -9 of a search, of its main process and of all in turn",
            f"{CONTINUED}; each trial is there once",
            stopped(search, times, [kills.kill_main, kills.kill_all]),
        )
    if "workers" in only:
        yield (
            "kill -9 of one run of a benchmark",
            "the others finish, its record says so, --retry makes it again",
            lambda place: kills.lost_workers(benchmark, place, *unbroken(benchmark), times // 2),
        )
        yield (
            "kill -9 of one worker of a search",
            "the search ends by itself with the unbroken result",
            lambda place: kills.lost_workers(search, place, *unbroken(search), times // 2),
        )
    if "signals" in only:
        for job in JOBS:
            count = times if job is training else few
            yield f"SIGTERM to all processes of a {job.name}", ORDERLY, stopped(job, count, [kills.terminate])
            yield f"Ctrl-C twice in a {job.name}", ORDERLY, stopped(job, count, [kills.interrupt_twice])
    if "disk" in only and disk.REASON_NOT:
        yield "disk", "", lambda place: kills.Tally(said=disk.REASON_NOT)
    elif "disk" in only:
        for job in JOBS:
            count = times if job is training else few
            yield (
                f"disk full in a {job.name}",
                f"no traceback, the message names a file; {SAME}, once there is room",
                lambda place, job=job, count=count: disk.full(job, place, unbroken(job)[0], count),
            )
        yield (
            "read-only disk, and a file in the place of a folder",
            "no traceback, what is said names the file",
            lambda place: unbroken(benchmark) and disk.refused(place, folder / "benchmark/unbroken"),
        )
    if "files" in only:
        for job in JOBS:
            unbroken(job)
        for name, read in damage.FILES.items():
            yield (
                f"{name} empty, cut, of random bytes, another zip, a byte changed",
                "a sentence that names the file, or it reads; never another error",
                partial(damage.damaged_file, name, read, folder, times=times),
            )
    if "attacks" in only:
        unbroken(training)
        for name, checked, attack in attacked(few, times):
            yield name, checked, lambda place, attack=attack: attack(place, folder / training.name / "unbroken")
    if "memory" in only:
        yield (
            "too little memory for a run of a benchmark",
            "its record has the remedy, the other run finishes",
            lambda place: starved.memory(place, few),
        )
        yield (
            "a run of a benchmark over its time limit",
            "its record says timed_out, the other run finishes",
            lambda place: starved.time_limit(place, few),
        )


def attacked(few: int, times: int) -> Iterator[tuple[str, str, Callable[[Path, Path], kills.Tally]]]:
    """The same of what strangers give."""
    yield (
        "pickled weights for NAIS, ConvNCF, RaCT and NeuMF, pickled item embeddings for LDiffRec",
        NO_CODE,
        attacks.weights,
    )
    yield (
        "YAML that multiplies, holds itself, nests, is large or names Python: keys, plan, data set's file",
        NO_CODE,
        attacks.yaml_files,
    )
    yield (
        f"{', '.join(attacks.MODULES)} as .py in the working directory of a benchmark and a training",
        "none of it is imported, both finish",
        attacks.working_directory,
    )
    for name in ("record.json", "metrics.jsonl"):
        yield (
            f"a random place of {name} forged",
            "report and evaluate: a result, or a sentence that names the file",
            partial(attacks.forged, name, times=times),
        )
    yield (
        "checkpoint.pt with forged sparse matrices, NaN and infinity",
        "a sentence that names the file; no crash, no number",
        attacks.checkpoints,
    )
    yield ("per_user.npz, metrics.jsonl and record.json of 8 GiB", "a sentence that names the file", attacks.large)
    yield (
        "--resume of a run that is being made; kill -9, and --resume again",
        "the second is refused, the third goes on at once",
        partial(attacks.second, times=few),
    )
    yield (
        "the directory of a run removed in its training",
        "status 2, a sentence, no traceback",
        partial(attacks.removed, times=few),
    )


def kept(document: Path) -> dict[str, str]:
    """Rows of an earlier call by their fault."""
    lines = document.read_text(encoding="utf-8").splitlines(keepends=True) if document.is_file() else []
    table = [line for line in lines if line.startswith("|")][2:]
    return {line.split(" | ")[0].removeprefix("| "): line for line in table}


def main() -> int:
    """Do all, write the table; returns 1 if anything was not as it must be."""
    kinds = [*(job.name for job in JOBS), "workers", "signals", "disk", "files", "attacks", "memory"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="a Markdown file (default: the table on the terminal)")
    parser.add_argument("--times", type=int, default=20, help="of each kill (others less often; default 20)")
    parser.add_argument(
        "--only", default=",".join(kinds), help=f"some of {','.join(kinds)}; other rows stay as they are"
    )
    given = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job would hand its deafness down
    rows, problems = {}, []
    with tempfile.TemporaryDirectory(prefix="faults-") as temporary:
        folder = Path(temporary)
        for number, (name, checked, fault) in enumerate(faults(folder, given.times, given.only.split(","))):
            (folder / f"fault{number}").mkdir()
            begun = time.monotonic()
            tally = fault(folder / f"fault{number}")
            found = tally.said or (f"{len(tally.problems)} problems" if tally.problems else "as it must be")
            jobs = f", {tally.jobs} jobs" if tally.jobs else ""
            row = f"| {name} | {tally.stops} | {checked} | {found}{jobs} | {time.monotonic() - begun:.0f} |\n"
            rows[name] = row
            problems += [f"{name}: {problem}" for problem in tally.problems]
            print(row, *tally.problems, sep="\n", end="", flush=True)
    if given.output:
        write_text(given.output, TEXT + HEADER + "".join({**kept(given.output), **rows}.values()))
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
