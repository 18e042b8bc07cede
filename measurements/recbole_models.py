"""Which of RecBole's general recommenders run here: one epoch each on ML-100K, in a process of its own.

python measurements/recbole_models.py --output=docs/recbole_models.md [--timeout=180]
"""

import argparse
import subprocess
import sys
import tempfile
import time
from inspect import isclass
from pathlib import Path

import recbole.model.general_recommender as family

from recbole_dgrm.models import registry

CODE = """
import json, sys, torch
torch.set_num_threads(1)
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.errors import UserError
from recbole_dgrm.runs.experiment import run_one
name, protocol, folder = sys.argv[1:]
keys = {"model": name, "dataset": "ml-100k", "protocol": protocol, "epochs": 1, "refit": False, "output_dir": folder}
try:
    record, _ = run_one(load_config(config_dict=keys))
except UserError as error:
    print("RESULT", str(error))
else:
    key = "ratedndcg@5" if protocol == "rated" else "ndcg@10"
    print("RESULT", f"{record.test[key]:.3f}")
"""


def names() -> list[str]:
    """RecBole's general recommenders by class name, without those that are ours."""
    return sorted(name for name, value in vars(family).items() if isclass(value) and name not in registry.MODELS)


def attempt(name: str, protocol: str, timeout: int) -> tuple[str, float]:
    """The metric after one epoch, or why there is none; and the seconds it took, start included."""
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", CODE, name, protocol, folder]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            return f"not done in {timeout} s", time.monotonic() - start
    results = [line.removeprefix("RESULT ") for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if results:
        return results[-1], time.monotonic() - start
    lines = done.stderr.strip().splitlines() or ["no message"]
    return f"fails: {lines[-1]}", time.monotonic() - start


def main() -> None:
    """Run all, write the table as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--timeout", type=int, default=180, help="seconds per run")
    parser.add_argument("--models", nargs="*", default=names(), help="only these; all without it")
    given = parser.parse_args()
    rows = []
    for name in given.models:
        (rated, seconds), (full, more) = (attempt(name, protocol, given.timeout) for protocol in ("rated", "full"))
        rows.append(f"| {name} | {rated} | {full} | {seconds + more:.0f} |")
        print(rows[-1], flush=True)
    header = [
        "# RecBole's general recommenders on this harness",
        "",
        "One epoch each with RecBole's default parameters on ML-100K, seed 2020, one thread: whether a model runs,"
        " not how good it is. Made by `python measurements/recbole_models.py --output=docs/recbole_models.md`.",
        "",
        "RaCT trains in three stages, each a run of its own that writes files for the next; this harness runs one.",
        "",
        "| model | rated: RatedNDCG@5 | full: NDCG@10 | seconds, start included |",
        "|---|---|---|---|",
    ]
    given.output.write_text("\n".join([*header, *rows]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
