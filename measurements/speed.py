"""Seconds and memory of training and evaluation, of our models and of RecBole's, on this machine.

    python measurements/speed.py ml-1m epinions-3core aa-scale --data_path=DIR --threads=1,2
    python measurements/speed.py ml-1m --data_path=DIR --evaluation
    python measurements/speed.py ml-1m --data_path=DIR --reading

Each model has the settings that it comes with, RecBole's models those of RecBole, all in float32 and with the split of
``--protocol``. A row is a process of its own, so the peak of memory is its own, data included, and ends after
``--timeout``.

An epoch is the fastest of several. One that would take longer than a third of ``--seconds`` is measured on as many of
its batches as fit (or on ``--batches``) and extrapolated by users; the column "batches" says on how many. A pass is one
pass over the users: an epoch divided by its passes, of all phases.

``--evaluation`` prints, instead, the seconds and memory of an evaluation of rated test pairs; ``--reading`` the CPU
seconds from the file to the parts of the split, and the peak of memory above that after the imports.
"""

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from time import monotonic, process_time
from typing import Any

import torch
from recbole.model.general_recommender.diffrec import DiffRec
from recbole.utils import init_seed

from recbole_dgrm.config.layers import RECBOLE_PROPERTIES, load_config
from recbole_dgrm.config.values import read_yaml
from recbole_dgrm.data import loaders
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.models import registry
from recbole_dgrm.training.trainers import trainer_class

MODELS = {
    "DGRM": "DGRM",
    "DGRMPlus": "DGRMPlus",
    "CFGAN": "CFGAN",
    "RecBole's DiffRec": "DiffRec",
    "RecBole's MultiVAE": "MultiVAE",
}  # names by their labels
TRAINING = (
    "| model | threads | users a step | batches | pass s | epoch s | peak MiB |",
    "|---|---:|---:|---:|---:|---:|---:|",
)
RATED = ("| model | threads | rated evaluation s | peak MiB |", "|---|---:|---:|---:|")
READING = ("| protocol | ratings | CPU s | ratings a CPU second | peak B a rating |", "|---|---:|---:|---:|---:|")


class Row:
    """Config, splits, model and trainer of one row."""

    def __init__(self, label: str, given: Namespace, protocol: str):
        name = MODELS[label]
        keys: dict[str, Any] = {"model": name, "dataset": given.dataset, "protocol": protocol, "device": "cpu"}
        theirs = label == "RecBole's DiffRec"
        if theirs:  # where ours of the same name has other settings
            overall = read_yaml(RECBOLE_PROPERTIES / "overall.yaml")
            keys |= read_yaml(RECBOLE_PROPERTIES / "model" / "DiffRec.yaml")
            keys |= {key: overall[key] for key in ("train_batch_size", "learning_rate")}
        if given.data_path:
            keys["data_path"] = given.data_path
        self.config = load_config(config_dict=keys).writing_to(Path("."))
        self.splits = build_splits(self.config)
        init_seed(self.config["seed"], True)
        self.model = (DiffRec if theirs else registry.model_class(name))(self.config, self.splits.train)
        self.trainer = trainer_class(type(self.model))(self.config, self.model)


class First:
    """The first batches of a loader, as a loader."""

    def __init__(self, loader, batches: int):
        self.loader, self.batches = loader, batches

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator:
        return islice(self.loader, self.batches)

    def share(self) -> float:
        """The share of the loader's users that are in these batches."""
        return min(1.0, self.batches * self.loader.step / self.loader.sample_size)


def trained(label: str, given: Namespace) -> str:
    """The row of one model's training."""
    row = Row(label, given, given.protocol)
    loader = loaders.train_loader(row.config, row.splits, "train")
    part, taken = epoch_seconds(row.trainer, loader, given)
    passes = sum(phase.repeat for phase in row.trainer.phases) if hasattr(row.trainer, "phases") else 1
    return (
        f"| {label} | {given.threads} | {loader.step:,} | {len(part):,} of {len(loader):,} "
        f"| {taken / passes:.2f} | {taken:.2f} | {peak():,.0f} |"
    )


def epoch_seconds(trainer, loader, given: Namespace) -> tuple[First, float]:
    """The batches that were measured, and the seconds of an epoch that follow from them."""
    two = First(loader, min(2, len(loader)))
    per_batch = fastest(lambda: trainer._train_epoch(two, 0), 0.0) / len(two)
    most = min(len(loader), given.batches or len(loader), max(len(two), int(given.seconds / 3 / per_batch)))
    part = First(loader, most)
    return part, fastest(lambda: trainer._train_epoch(part, 0), given.seconds / 2) / part.share()


def fastest(work: Callable[[], object], least: float) -> float:
    """The fewest seconds of ``work``, which is repeated for at least ``least`` seconds after a first time."""
    work()
    taken, begun = [], monotonic()
    while not taken or monotonic() - begun < least:
        start = monotonic()
        work()
        taken.append(monotonic() - start)
    return min(taken)


def peak() -> float:
    """The peak of this process's memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def rated(label: str, given: Namespace) -> str:
    """The row of one model's evaluation of rated test pairs, without training."""
    row = Row(label, given, given.protocol)
    test = loaders.eval_loader(row.config, row.splits, "test")
    taken = fastest(lambda: row.trainer.evaluate(test), given.least)
    return f"| {label} | {given.threads} | {taken:.2f} | {peak():,.0f} |"


def reading(protocol: str, given: Namespace) -> str:
    """The row of reading and splitting once, after the same with ML-100K, which loads modules and RecBole."""
    where = {"data_path": given.data_path} if given.data_path else {}
    keys: dict[str, Any] = {"model": "MF", "protocol": protocol}
    build_splits(load_config(config_dict=keys | {"dataset": "ml-100k"}))
    config, before, start = load_config(config_dict=keys | {"dataset": given.dataset} | where), peak(), process_time()
    splits = build_splits(config)
    taken, n_ratings = process_time() - start, len(splits.known) + len(splits.test)
    bytes_each = (peak() - before) * 2**20 / n_ratings
    return f"| {protocol} | {n_ratings:,} | {taken:.2f} | {n_ratings / taken:,.0f} | {bytes_each:.0f} |"


def in_process(kind: str, label: str, name: str, threads: int, given: Namespace) -> str:
    """What a function prints that runs in a process of its own, or why it printed nothing."""
    line = [sys.executable, __file__, *sys.argv[1:], "--row", json.dumps([kind, label, name, threads])]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    try:
        done = subprocess.run(
            line, stdout=subprocess.PIPE, text=True, env=environment, timeout=given.timeout, check=False
        )
    except subprocess.TimeoutExpired:
        return f"| {label} | {threads} | not done in {given.timeout:.0f} s |"
    return done.stdout.strip() or f"| {label} | {threads} | failed, exit status {done.returncode} |"


def parsed() -> Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--data_path")
    parser.add_argument("--protocol", default="rated", help="whose split and feedback (default rated)")
    parser.add_argument("--threads", default=str(torch.get_num_threads()), help="as 1,2")
    parser.add_argument("--batches", type=int, help="of an epoch at most, the rest extrapolated (default all in time)")
    parser.add_argument("--seconds", type=float, default=20.0, help="that a row's epochs are measured, about")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds after which a row is given up")
    parser.add_argument("--only", default="", help="rows whose label begins so")
    parser.add_argument("--evaluation", action="store_true", help="evaluations instead of training")
    parser.add_argument("--reading", action="store_true", help="reading and splitting instead of training")
    parser.add_argument("--least", type=float, default=2.0, help="seconds of repeated evaluation, after a first one")
    parser.add_argument("--row", type=json.loads, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Print Markdown tables, or one row of them."""
    given = parsed()
    logging.disable()
    if given.row:
        kind, label, given.dataset, given.threads = given.row
        torch.set_num_threads(given.threads)
        print({"trained": trained, "rated": rated, "reading": reading}[kind](label, given))
        return
    threads = [int(number) for number in given.threads.split(",")]
    labels = [given.protocol] if given.reading else [label for label in MODELS if label.startswith(given.only)]
    kind, head = ("rated", RATED) if given.evaluation else ("trained", TRAINING)
    kind, head = ("reading", READING) if given.reading else (kind, head)
    for name in given.datasets:
        print(f"\n{name}\n", *head, sep="\n", flush=True)
        for label in labels:
            for number in threads:
                print(in_process(kind, label, name, number, given), flush=True)


if __name__ == "__main__":
    main()
