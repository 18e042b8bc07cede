"""Seconds and memory as users, items and ratings grow, on generated sets; each is doubled four times.

    python measurements/growth.py --output=docs/scale

Writes ``growth.csv`` and ``growth.png``, and prints the fitted exponents: the slope of log seconds (or memory above
that of an empty process) over log size. Every measurement is a process of its own with ``--threads`` threads.
"""

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from recbole_dgrm.system.files import write_whole

START = {"users": 5_000, "items": 2_000, "ratings": 100_000}
DOUBLINGS = 4
MODELS = {
    "DGRM, dense": {"model": "DGRM"},
    "DGRMPlus": {"model": "DGRMPlus", "train_batch_size": 512, "noise_support": "rated", "states": "entries"},
    "MF": {"model": "MF"},
}
RUN = """
import json, resource, sys, time, torch
from pathlib import Path
from recbole.utils import init_seed
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.data import dataset, loaders
from recbole_dgrm.models import registry
from recbole_dgrm.training.trainers import trainer_class
empty = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
config = load_config(config_dict=json.loads(sys.argv[1]))
config = config.writing_to(Path("."))
splits = dataset.build(config)
init_seed(1, True)
model = registry.model_class(config["model"])(config, splits.train)
trainer = trainer_class(type(model))(config, model)
loader = loaders.train_loader(config, splits, "train")
trainer._train_epoch(loader, 0)
start = time.perf_counter()
trainer._train_epoch(loader, 1)
epoch = time.perf_counter() - start
test = loaders.eval_loader(config, splits, "test")
start = time.perf_counter()
trainer.evaluate(test)
print(json.dumps({"epoch_s": epoch, "evaluate_s": time.perf_counter() - start,
                  "memory_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - empty}))
"""


def generate(folder: Path, users: int, items: int, ratings: int) -> None:
    """Ratings of random pairs, items by a power law, every user and item at least once, as ``folder/grown``."""
    rng = np.random.default_rng(0)
    share = 1 / (np.arange(items) + 10.0)
    item = rng.choice(items, size=ratings, p=share / share.sum())
    user = rng.integers(0, users, size=ratings)
    user[:users], item[-items:] = np.arange(users), np.arange(items)
    pairs = np.unique(np.stack([user, item]), axis=1)
    path = folder / "grown" / "grown.inter"
    path.parent.mkdir(parents=True, exist_ok=True)
    table = np.concatenate([pairs, rng.integers(1, 6, size=(1, pairs.shape[1]))]).T
    np.savetxt(path, table, "%d", "\t", header="user_id:token\titem_id:token\trating:float", comments="")


def measure(keys: dict, folder: Path, threads: int) -> dict[str, float]:
    """One model on the set in ``folder``."""
    config = {"dataset": "grown", "data_path": str(folder), "rating_scale": [1, 5], "rating_step": 1, "device": "cpu"}
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    line = [sys.executable, "-c", RUN, json.dumps(config | keys)]
    done = subprocess.run(line, capture_output=True, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Parse the command line, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for grown in START:
        for doubling in range(DOUBLINGS + 1):
            size = START | {grown: START[grown] * 2**doubling}
            with tempfile.TemporaryDirectory() as folder:
                generate(Path(folder), **size)
                for model, keys in MODELS.items():
                    rows.append({"grown": grown, **size, "model": model, **measure(keys, Path(folder), given.threads)})
                    print(rows[-1], file=sys.stderr, flush=True)
    write_whole(given.output / "growth.csv", lambda path: write_csv(path, rows))
    draw(rows, given.output / "growth.png")
    print("| grown | model | epoch | evaluation | memory |\n|---|---|---:|---:|---:|")
    for grown in START:
        for model in MODELS:
            chosen = [row for row in rows if (row["grown"], row["model"]) == (grown, model)]
            x = np.log([row[grown] for row in chosen])
            slopes = [np.polyfit(x, np.log([row[key] for row in chosen]), 1)[0] for key in VALUES]
            print(f"| {grown} | {model} | " + " | ".join(f"{slope:.2f}" for slope in slopes) + " |")


VALUES = {"epoch_s": "seconds of an epoch", "evaluate_s": "seconds of an evaluation", "memory_mib": "memory, MiB"}


def write_csv(path: Path, rows: list[dict]) -> None:
    """All measurements."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def draw(rows: list[dict], path: Path) -> None:
    """A panel per value and grown size, a line per model."""
    figure = Figure(figsize=(10, 8), layout="constrained")
    for index, (key, label) in enumerate(VALUES.items()):
        for column, grown in enumerate(START):
            axes = figure.add_subplot(3, 3, 3 * index + column + 1)
            for model in MODELS:
                chosen = [row for row in rows if (row["grown"], row["model"]) == (grown, model)]
                axes.plot([row[grown] for row in chosen], [row[key] for row in chosen], "o-", markersize=3, label=model)
            axes.set(xscale="log", yscale="log", xlabel=grown, ylabel=label if column == 0 else "")
            axes.set_xticks([row[grown] for row in chosen], [f"{row[grown] / 1000:g}k" for row in chosen])
            axes.minorticks_off()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    write_whole(path, lambda partial: figure.savefig(partial, format="png", dpi=120))


if __name__ == "__main__":
    main()
