"""Seconds and memory as users, items and ratings grow, on generated sets, and of one step at a million items.

    python measurements/growth.py --output=docs/scale
    python measurements/growth.py --million

The first doubles one of users, items and ratings while the others stay, writes ``growth.csv`` and ``growth.png``, and
prints the fitted exponents: the slope of log seconds (or of memory above that of a tiny set's run) over log size. The
second prints, for a set of a million items and about a hundred training ratings a user, the seconds of loss and
backward pass and those of the optimizer's step, of one step of each phase of DGRM with the hidden size 64, and the peak
of memory of the process. Every measurement is a process of its own with ``--threads`` threads, and all models have
batches of 512 users; MF has none.
"""

import argparse
import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from recbole.utils import init_seed

from recbole_dgrm.compat.config import Config
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.data import loaders
from recbole_dgrm.data.splits import Splits, build_splits
from recbole_dgrm.models import registry
from recbole_dgrm.system.files import write_whole
from recbole_dgrm.training.optimizers import only_learning
from recbole_dgrm.training.trainers import trainer_class

TINY = {"users": 100, "items": 50, "ratings": 1_000}
START = {"users": 5_000, "items": 2_000, "ratings": 100_000}
DOUBLINGS = {"users": 3, "items": 4, "ratings": 3}
BATCH = {"train_batch_size": 512}
MODELS: dict[str, dict] = {
    "DGRM": {"model": "DGRM", **BATCH},
    "DGRMPlus": {"model": "DGRMPlus", **BATCH},
    "MF": {"model": "MF"},
    "RecBole's MultiVAE": {"model": "MultiVAE", **BATCH},
}
MILLION = {"users": 7_200, "items": 1_000_000, "ratings": 1_000_800}  # 139 a user, of which 72 % are for training
SMALL: dict = {"model": "DGRM", **BATCH, "generator_hidden": [64], "critic_hidden": [64]}
VALUES = {"epoch_s": "seconds of an epoch", "evaluate_s": "seconds of an evaluation", "memory_mib": "memory, MiB"}


def memory() -> float:
    """The peak of memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def built(keys: dict) -> tuple[Config, Splits, Any]:
    """The config, the splits and the trainer of a run with these keys."""
    config = load_config(config_dict=keys).writing_to(Path("."))
    splits = build_splits(config)
    init_seed(1, True)
    model = registry.model_class(config["model"])(config, splits.train)
    return config, splits, trainer_class(type(model))(config, model)


def an_epoch(keys: dict) -> dict:
    """Seconds of the second epoch and of an evaluation, and memory above that of the same on a tiny set before."""
    timed(keys | {"dataset": "tiny"})  # loads what is loaded at its first use
    empty = memory()
    return timed(keys) | {"memory_mib": memory() - empty}


def timed(keys: dict) -> dict:
    """Seconds of the second epoch and of an evaluation after it."""
    config, splits, trainer = built(keys)
    loader = None if hasattr(trainer.model, "sweep") else loaders.train_loader(config, splits, "train")
    trainer._train_epoch(loader, 0)
    start = time.perf_counter()
    trainer._train_epoch(loader, 1)
    epoch = time.perf_counter() - start
    test = loaders.eval_loader(config, splits, "test")
    start = time.perf_counter()
    trainer.evaluate(test)
    return {"epoch_s": epoch, "evaluate_s": time.perf_counter() - start}


def a_step(keys: dict) -> dict:
    """Seconds of the second step of each phase, and the peak of memory."""
    config, splits, trainer = built(keys)
    batch = next(iter(loaders.train_loader(config, splits, "train")))
    found = []
    for phase in trainer.phases:
        with only_learning(trainer.model, phase.parameters):
            for _ in range(2):  # the first step makes the optimizer's state
                trainer.optimizer[phase.name].zero_grad()
                start = time.perf_counter()
                phase.loss(batch).backward()
                middle = time.perf_counter()
                trainer.optimizer[phase.name].step()
                end = time.perf_counter()
        found.append({"phase": phase.name, "backward_s": middle - start, "optimizer_s": end - middle})
    return {"phases": found, "peak_mib": memory()}


PROGRAMS: dict[str, Callable[[dict], dict]] = {"epoch": an_epoch, "step": a_step}


def generate(folder: Path, name: str, users: int, items: int, ratings: int) -> None:
    """Ratings of random pairs, items by a power law, every user and item at least once, as ``folder/name``."""
    rng = np.random.default_rng(0)
    share = 1 / (np.arange(items) + 10.0)
    item = rng.choice(items, size=ratings, p=share / share.sum())
    user = rng.integers(0, users, size=ratings)
    user[:users], item[-items:] = np.arange(users), np.arange(items)
    pairs = np.unique(np.stack([user, item]), axis=1)
    path = folder / name / f"{name}.inter"
    path.parent.mkdir(parents=True, exist_ok=True)
    table = np.concatenate([pairs, rng.integers(1, 6, size=(1, pairs.shape[1]))]).T
    np.savetxt(path, table, "%d", "\t", header="user_id:token\titem_id:token\trating:float", comments="")


def measure(program: str, keys: dict, folder: Path, threads: int) -> dict:
    """What one of ``PROGRAMS`` finds about a model on the set in ``folder``, in a process of its own."""
    config = {"dataset": "grown", "data_path": str(folder), "rating_scale": [1, 5], "rating_step": 1, "device": "cpu"}
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    line = [sys.executable, __file__, "--one", program, json.dumps(config | keys)]
    done = subprocess.run(line, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Parse the command line, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--output", type=Path, help="folder of growth.csv and growth.png")
    chosen.add_argument("--million", action="store_true", help="a step at a million items instead")
    chosen.add_argument("--one", nargs=2, help=argparse.SUPPRESS)  # a measurement, in a process of its own
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--doublings", type=int, default=max(DOUBLINGS.values()), help="at most (default as published)")
    given = parser.parse_args()
    if given.one:
        program, keys = given.one
        print(json.dumps(PROGRAMS[program](json.loads(keys))))
        return
    if given.million:
        print_million(given.threads)
        return
    given.output.mkdir(parents=True, exist_ok=True)
    rows = list(grow(given.doublings, given.threads))
    write_whole(given.output / "growth.csv", lambda path: write_csv(path, rows))
    draw(rows, given.output / "growth.png")
    print_slopes(rows)


def grow(doublings: int, threads: int) -> Iterator[dict]:
    """A row per size and model."""
    for grown, published in DOUBLINGS.items():
        for doubling in range(min(doublings, published) + 1):
            size = START | {grown: START[grown] * 2**doubling}
            with tempfile.TemporaryDirectory() as folder:
                generate(Path(folder), "tiny", **TINY)
                generate(Path(folder), "grown", **size)
                for model, keys in MODELS.items():
                    found = measure("epoch", keys, Path(folder), threads)
                    row = {"grown": grown, **size, "model": model, **found}
                    print(row, file=sys.stderr, flush=True)
                    yield row


def print_slopes(rows: list[dict]) -> None:
    """The table of exponents."""
    print("| grown | model | epoch | evaluation | memory |\n|---|---|---:|---:|---:|")
    for grown in START:
        for model in MODELS:
            chosen = [row for row in rows if (row["grown"], row["model"]) == (grown, model)]
            x = np.log([row[grown] for row in chosen])
            slopes = [np.polyfit(x, np.log([row[key] for row in chosen]), 1)[0] for key in VALUES]
            print(f"| {grown} | {model} | " + " | ".join(f"{slope:.2f}" for slope in slopes) + " |")


def print_million(threads: int) -> None:
    """The table of a step of each phase at a million items."""
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), "grown", **MILLION)
        found = measure("step", SMALL, Path(folder), threads)
    print("| phase | threads | loss and backward s | optimizer s | peak MiB |\n|---|---:|---:|---:|---:|")
    for row in found["phases"]:
        times = f"{row['backward_s']:.2f} | {row['optimizer_s']:.2f}"
        print(f"| {row['phase']} | {threads} | {times} | {found['peak_mib']:,.0f} |")


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
