"""Cornac, LensKit, Surprise and myFM on our splits, compared with our own models.

    python measurements/peers.py FOLDER [--dataset=ml-100k] [--seeds=2020,2021,2022] [--trials=15] [--models=A,B]

Below ``FOLDER`` it makes an environment for each library (``envs``), the splits (``recbole-dgrm split``), for each
model a search on the validation part of the first split (``tuned``) and predictions for the test part of each split,
learnt from training and validation together, and the report (``peers``, by ``recbole-dgrm compare``). Searches and
trainings are one process and one thread each, one after the other (``peers_models.py``). All select by RMSE, ours too.
MF is searched with as many trials; BMF and DGRMPlus have their defaults. What is there already is not made again.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from commands import ROOT, THREADS, python_of, start
from peers_models import MODELS

import recbole_dgrm as rd
from recbole_dgrm.records import find_runs
from recbole_dgrm.runs.experiment import run_one

LIBRARIES = {
    "Surprise": ["scikit-surprise==1.1.5", "numpy<2", "pandas"],
    "Cornac": ["cornac==3.0.1", "pandas"],
    "LensKit": ["lenskit==2025.8.1", "torch==2.13.0"],
    "myFM": ["myfm==0.4.0", "pandas"],
}  # what is installed into the environment of each
OURS = ("BMF", "DGRMPlus")


def call(label: str, folder: Path, *arguments: str) -> None:
    """Run ``peers_models.py`` for a model in the environment of its library."""
    library = label.partition("-")[0]
    python = python_of(folder / "envs" / library, LIBRARIES[library])
    if start([python, str(ROOT / "measurements" / "peers_models.py"), label, *arguments], folder / "log.txt").wait():
        sys.exit(f"{label} failed, see {folder / 'log.txt'}")


def tuned(label: str, folder: Path, split: Path, trials: int) -> dict:
    """What the search for a model has found on the validation part of a split."""
    path = folder / "tuned" / f"{label}.json"
    path.parent.mkdir(exist_ok=True)
    if not path.is_file():
        parts = [f"--train={split / 'train.csv'}", f"--predict={split / 'valid.csv'}"]
        call(label, folder, *parts, f"--trials={trials}", f"--output={path}")
    return json.loads(path.read_text())


def predicted(label: str, folder: Path, split: Path, settings: dict) -> tuple[Path, float]:
    """A file of predictions for the test part of a split, and the seconds of the training."""
    path = folder / "predictions" / split.name / f"{label}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not (about := path.with_suffix(".json")).is_file():
        parts = [f"--train={split / part}.csv" for part in ("train", "valid")] + [f"--predict={split / 'test.csv'}"]
        call(label, folder, *parts, f"--settings={json.dumps(settings)}", f"--output={path}")
    return path, json.loads(about.read_text())["train_s"]


def train_ours(folder: Path, given: argparse.Namespace) -> None:
    """MF, tuned on the first split, and models of ours with their defaults, on every split."""
    results = folder / "peers"
    every = {"data_path": given.data_path, "valid_metric": "RMSE", "device": "cpu"}
    search = {"seed": given.seeds[0], "trials": given.trials, "output_dir": folder / "tuned" / "MF"}
    best = rd.tune("MF", given.dataset, **search, **every).best
    made = {(run.record["label"], run.record["seed"]) for run in find_runs(results) if run.finished}
    for label, model, keys in [("MF, tuned", "MF", best), *((name, name, {}) for name in OURS)]:
        for seed in given.seeds:
            if (label, seed) not in made:
                named = {"model": model, "dataset": given.dataset, "seed": seed, "output_dir": str(results)}
                run_one(rd.load_config(config_dict={**every, **named, **keys}), label=label)


def main() -> None:
    """Make all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--dataset", default="ml-100k")
    parser.add_argument("--data_path", default=None)
    parser.add_argument("--seeds", type=lambda text: list(map(int, text.split(","))), default=[2020, 2021, 2022])
    parser.add_argument("--trials", type=int, default=15)
    searched = [label for label, (_, space) in MODELS.items() if space]
    parser.add_argument("--models", type=lambda text: text.split(","), default=searched)
    given = parser.parse_args()
    os.environ.update(dict.fromkeys(THREADS, "1"))
    folder = given.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    splits = [folder / str(seed) for seed in given.seeds]
    for seed, split in zip(given.seeds, splits, strict=True):
        if not split.is_dir():
            rd.split(given.dataset, split, seed=seed, data_path=given.data_path)
    train_ours(folder, given)
    found = {label: tuned(label, folder, splits[0], given.trials) for label in given.models}
    for split in splits:
        made = {label: predicted(label, folder, split, about["settings"]) for label, about in found.items()}
        files, seconds = ({label: pair[place] for label, pair in made.items()} for place in (0, 1))
        rd.compare(split, files, output=folder / "peers", baseline="BMF", seconds=seconds)
    for label, about in found.items():
        print(f"| {label} | {about['settings']} | {about['valid_rmse']:.4f} | {about['tuning_s']:.0f} |")


if __name__ == "__main__":
    sys.exit(main())
