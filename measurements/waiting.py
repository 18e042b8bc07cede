"""How threads that wait should wait: seconds of training, alone and beside programs that keep all cores busy.

    python measurements/waiting.py [--times=5]

A short training of DGRM on ML-100K, each way in turn and in random order, so that what else the machine does meets all.
Prints medians, and the load under which they were measured.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

from recbole_dgrm.start import WAITING

WAYS = {
    "spin: libgomp's default": {"KMP_BLOCKTIME": "200"},  # unknown to libgomp; with it the package sets nothing
    "sleep: OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "spin briefly: GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "spin longer: GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
}
KEYS = ["--epochs=6", "--eval_step=3", "--stopping_step=10", "--refit=false", "--diagnose_every=0", "--device=cpu"]
ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def busy(processes: int) -> Iterator[None]:
    """Inside, so many processes compute."""
    others = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)]
    try:
        yield
    finally:
        for other in others:
            other.kill()
            other.wait()


def seconds(way: str) -> float:
    """Of a training."""
    environment = {name: value for name, value in os.environ.items() if name not in (*WAITING, "OMP_NUM_THREADS")}
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, ROOT / "run_recbole_dgrm.py", "--model=DGRM", "--dataset=ml-100k", *KEYS]
        subprocess.run(
            [*command, f"--output_dir={folder}"], env={**environment, **WAYS[way]}, check=True, capture_output=True
        )
        (record,) = Path(folder).glob("*/record.json")
        return json.loads(record.read_text(encoding="utf-8"))["timing"]["train_s"]


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=5)
    times, cores = parser.parse_args().times, os.cpu_count() or 1
    print(
        "| other programs | threads that wait | median s | least | most | load before |\n|---|---|---:|---:|---:|---:|"
    )
    for others in (0, cores):
        found: dict[str, list[float]] = {way: [] for way in WAYS}
        loads = []
        for _ in range(times):
            for way in random.sample(list(WAYS), len(WAYS)):
                loads.append(os.getloadavg()[0])
                with busy(others):
                    found[way].append(seconds(way))
        for way, values in found.items():
            print(
                f"| {others} | {way} | {median(values):.1f} | {min(values):.1f} | {max(values):.1f} | "
                f"{median(loads):.1f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
