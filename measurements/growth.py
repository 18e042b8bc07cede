"""Seconds and memory as users, items and ratings grow, on generated sets, and at a million items.

    python measurements/growth.py --output=docs/scale
    python measurements/growth.py --write DIR USERS ITEMS RATINGS

The first doubles one of users, items and ratings while the others stay, writes ``growth.csv`` and ``growth.png``, and
prints the table. A measurement is the command that trains two epochs without refit; batches have 512 users, MF has
none. Memory is that above a run on a tiny set. The second writes one set, as ``DIR/grown``, for ``speed.py``.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from commands import timing, training, used
from matplotlib.figure import Figure

TINY = {"users": 100, "items": 50, "ratings": 1_000}
START = {"users": 5_000, "items": 2_000, "ratings": 100_000}
DOUBLINGS = {"users": 3, "items": 4, "ratings": 3}
BATCH = {"train_batch_size": 512}
MODELS: dict[str, dict] = {"DGRM": BATCH, "DGRMPlus": BATCH, "MF": {}, "MultiVAE": BATCH}
KEYS = {"rating_scale": [1, 5], "rating_step": 1, "device": "cpu", "epochs": 2, "eval_step": 1, "refit": False}
VALUES = {"epoch_s": "seconds of an epoch", "evaluate_s": "seconds of an evaluation", "memory_mib": "memory, MiB"}


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


def measure(model: str, name: str, data: Path, threads: int, **keys) -> dict:
    """The timing of a run on the set ``name`` in ``data``, and the peak of memory of its process."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        line = training(folder, model=model, dataset=name, data_path=str(data), **KEYS, **keys)
        if (usage := used(line, folder / "log.txt", 3600, threads))["failure"]:
            raise RuntimeError(f"{model} on {name}: {usage['failure']}")
        return timing(folder) | usage


def grow(doublings: int, threads: int) -> Iterator[dict]:
    """A row per size and model."""
    for grown, published in DOUBLINGS.items():
        for doubling in range(min(doublings, published) + 1):
            size = START | {grown: START[grown] * 2**doubling}
            with tempfile.TemporaryDirectory() as folder:
                generate(Path(folder), "tiny", **TINY)
                generate(Path(folder), "grown", **size)
                for model, keys in MODELS.items():
                    tiny, found = (measure(model, name, Path(folder), threads, **keys) for name in ("tiny", "grown"))
                    found["memory_mib"] = found["peak_mib"] - tiny["peak_mib"]
                    yield {"grown": grown, **size, "model": model} | {key: found[key] for key in VALUES}


def draw(rows: pd.DataFrame, path: Path) -> None:
    """A panel per value and grown size, a line per model."""
    figure = Figure(figsize=(10, 8), layout="constrained")
    for place, (key, column) in enumerate((key, column) for key in VALUES for column in START):
        axes = figure.add_subplot(3, 3, place + 1)
        for model, chosen in rows[rows["grown"] == column].groupby("model", sort=False):
            axes.plot(chosen[column], chosen[key], "o-", markersize=3, label=model)
        axes.set(xscale="log", yscale="log", xlabel=column, ylabel=VALUES[key] if place % 3 == 0 else "")
        axes.set_xticks(chosen[column], [f"{size / 1000:g}k" for size in chosen[column]])
        axes.minorticks_off()
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=120)


def main() -> None:
    """Parse the command line, measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    chosen = parser.add_mutually_exclusive_group(required=True)
    chosen.add_argument("--output", type=Path, help="folder of growth.csv and growth.png")
    chosen.add_argument("--write", nargs=4, metavar=("DIR", "USERS", "ITEMS", "RATINGS"), help="one generated set")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--doublings", type=int, default=max(DOUBLINGS.values()), help="at most (default as published)")
    given = parser.parse_args()
    if given.write:
        folder, *sizes = given.write
        generate(Path(folder), "grown", *map(int, sizes))
        return
    given.output.mkdir(parents=True, exist_ok=True)
    rows = pd.DataFrame(grow(given.doublings, given.threads))
    rows.to_csv(given.output / "growth.csv", index=False)
    draw(rows, given.output / "growth.png")
    print(rows.to_markdown(index=False, floatfmt=".2f"))


if __name__ == "__main__":
    main()
