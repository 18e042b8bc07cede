"""Training beside RecBole's models and beside what its operations need by themselves on this machine.

    python measurements/speed.py ml-1m epinions-3core aa-scale --data_path=DIR --threads=1,2
    python measurements/speed.py ml-1m --data_path=DIR --batch=512 --width=256
    python measurements/speed.py ml-1m --data_path=DIR --evaluation

Each model has the settings that it comes with, RecBole's models those of RecBole, all in float32 and with the split of
``--protocol``; ``--batch`` and ``--width`` give all the same users per step and the same single hidden layer. A row is
a process of its own, so the peak of memory is its own, data included, and ends after ``--timeout``.

An epoch is the fastest of several. One that would take longer than a third of ``--seconds`` is measured on as many of
its batches as fit (or on ``--batches``) and extrapolated by users; the column "batches" says on how many. A pass is one
pass over the users: an epoch divided by its passes, of all phases.

The limit of an epoch is the sum of the columns after it, each an operation carried out alone (``limit.py`` says how):
products, sparse operations, picks, normals, and the step of the optimizers with the gradients of the last batch. The
first four are those of ``SAMPLE`` batches, extrapolated by users. Beside the optimizer is its share of the epoch.

``--evaluation`` prints, instead, the seconds and memory of an evaluation of rated test pairs, and full rankings by our
loop and by RecBole's, with its default batch of evaluation, 4096 users x items, and with larger ones; "same" says
whether all numbers agree.
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
from typing import Any

import torch
from limit import Ledger, copy_rate, fastest, product_rate
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.utils import create_samplers
from recbole.model.general_recommender.diffrec import DiffRec
from recbole.utils import get_trainer, init_seed

from recbole_dgrm.compat.training import RepairedCollector
from recbole_dgrm.config.layers import RECBOLE_PROPERTIES, load_config, read_yaml
from recbole_dgrm.data import loaders
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.models import registry
from recbole_dgrm.training.optimizers import OptimizerGroup
from recbole_dgrm.training.trainers import trainer_class

MODELS = {  # by label: the name, and the keys of the hidden layers
    "DGRM": ("DGRM", ["generator_hidden", "critic_hidden"]),
    "DGRMPlus": ("DGRMPlus", ["generator_hidden", "critic_hidden"]),
    "CFGAN": ("CFGAN", ["generator_hidden", "discriminator_hidden"]),
    "RecBole's DiffRec": ("DiffRec", ["dims_dnn"]),
    "RecBole's MultiVAE": ("MultiVAE", ["mlp_hidden_size"]),
}
THEIR_BATCHES = (4096, 1 << 21, 1 << 24, 1 << 27)  # users x items; RecBole's default first
SAMPLE = 3  # batches whose operations are in the limit
TRAINING = (
    "| model | threads | users a step | batches | pass s | epoch s | limit s | limit / epoch | products s (GFLOP/s) "
    "| sparse s (GB/s) | picks s | normals s | optimizer s (of epoch) | peak MiB |",
    "|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
)
RATED = ("| model | threads | rated evaluation s | peak MiB |", "|---|---:|---:|---:|")
RANKING = ("| full ranking | threads | loop | seconds | same |", "|---|---:|---|---:|---|")


class Row:
    """Config, splits, model and trainer of one row."""

    def __init__(self, label: str, given: Namespace, protocol: str):
        name, hidden = MODELS[label]
        keys: dict[str, Any] = {"model": name, "dataset": given.dataset, "protocol": protocol, "device": "cpu"}
        theirs = label == "RecBole's DiffRec"
        if theirs:  # where ours of the same name has other settings
            overall = read_yaml(RECBOLE_PROPERTIES / "overall.yaml")
            keys |= read_yaml(RECBOLE_PROPERTIES / "model" / "DiffRec.yaml")
            keys |= {key: overall[key] for key in ("train_batch_size", "learning_rate")}
        if given.batch:
            keys["train_batch_size"] = given.batch
        if given.width:
            keys |= {key: [given.width] for key in hidden}
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
    memory = peak()
    sample = First(loader, min(SAMPLE, len(loader)))
    with Ledger() as ledger:
        row.trainer._train_epoch(sample, 1)
    limit = ledger.limit()
    alone = {kind: seconds / sample.share() for kind, seconds in limit.seconds.items()}
    passes, steps = steps_of(row.trainer)
    optimizer = len(loader) * sum(count * fastest(step, 0.2) for step, count in steps)
    least = sum(alone.values()) + optimizer
    return (
        f"| {label} | {given.threads} | {loader.step:,} | {len(part):,} of {len(loader):,} "
        f"| {taken / passes:.2f} | {taken:.2f} | {least:.2f} | {least / taken:.0%} "
        f"| {alone['products']:.2f} ({limit.rate('products'):.0f}) "
        f"| {alone['sparse']:.2f} ({limit.rate('sparse'):.1f}) "
        f"| {alone['picks']:.2f} | {alone['normals']:.2f} | {optimizer:.2f} ({optimizer / taken:.0%}) | {memory:,.0f} |"
    )


def epoch_seconds(trainer, loader, given: Namespace) -> tuple[First, float]:
    """The batches that were measured, and the seconds of an epoch that follow from them."""
    two = First(loader, min(2, len(loader)))
    per_batch = fastest(lambda: trainer._train_epoch(two, 0), 0.0) / len(two)
    most = min(len(loader), given.batches or len(loader), max(len(two), int(given.seconds / 3 / per_batch)))
    part = First(loader, most)
    return part, fastest(lambda: trainer._train_epoch(part, 0), given.seconds / 2) / part.share()


def steps_of(trainer) -> tuple[int, list[tuple[Callable[[], object], int]]]:
    """The passes of an epoch; and of each optimizer the step and the passes that it is in."""
    if not isinstance(trainer.optimizer, OptimizerGroup):
        return 1, [(trainer.optimizer.step, 1)]
    steps = [(trainer.optimizer[phase.name].step, phase.repeat) for phase in trainer.phases]
    return sum(count for _, count in steps), steps


def peak() -> float:
    """The peak of this process's memory so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def rated(label: str, given: Namespace) -> str:
    """The row of one model's evaluation of rated test pairs, without training."""
    row = Row(label, given, given.protocol)
    test = loaders.eval_loader(row.config, row.splits, "test")
    taken = fastest(lambda: row.trainer.evaluate(test), given.least)
    return f"| {label} | {given.threads} | {taken:.2f} | {peak():,.0f} |"


def ranked(label: str, given: Namespace) -> str:
    """Rows about one full evaluation by our loop, in both precisions, and by RecBole's, without training."""
    row = Row(label, given, "full")
    loader = loaders.eval_loader(row.config, row.splits, "test")
    row.trainer.eval_collector.data_collect(loaders.train_loader(row.config, row.splits, "train"))
    ours = row.trainer.evaluate(loader)

    def line(loop: str, work: Callable[[], dict]) -> str:
        found: list[dict] = []
        taken = fastest(lambda: found.append(work()), given.least)
        most = max(abs(found[0][key] - value) for key, value in ours.items())
        same = "yes" if most < 1e-9 else f"within {most:.4f}"
        return f"| {label} | {given.threads} | {loop} | {taken:.2f} | {same} |"

    def reduced() -> dict:
        with torch.autocast("cpu", torch.bfloat16):
            return row.trainer.evaluate(loader)

    lines = [line("ours", lambda: row.trainer.evaluate(loader)), line("ours, bfloat16", reduced)]
    for size in THEIR_BATCHES:
        name = f"RecBole's, batch {size:,}" + (" (its default)" if size == THEIR_BATCHES[0] else "")
        lines.append(line(name, their_loop(row, size)))
    return "\n".join(lines)


def their_loop(row: Row, size: int) -> Callable[[], dict]:
    """RecBole's full ranking of the test users with its batch of ``size`` users x items."""
    config, splits = row.config.replaced(eval_batch_size=size), row.splits
    *_, sampler = create_samplers(config, splits.train, [splits.train, splits.valid, splits.test])
    theirs = get_trainer(row.model.type, type(row.model).__name__)(config, row.model)
    theirs.eval_collector = RepairedCollector(config)
    batches = FullSortEvalDataLoader(config, splits.test, sampler, shuffle=False)
    theirs.eval_collector.data_collect(loaders.train_loader(config, splits, "train"))
    return lambda: theirs.evaluate(batches, load_best_model=False)


def rates(given: Namespace) -> str:
    """What this machine reaches."""
    return (
        f"{given.threads} threads: products of large matrices {product_rate():.0f} GFLOP/s, copy {copy_rate():.1f} GB/s"
    )


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
    parser.add_argument("--batch", type=int, help="users a step, of all models (default each model's own)")
    parser.add_argument("--width", type=int, help="of one hidden layer, of all models (default each model's own)")
    parser.add_argument("--batches", type=int, help="of an epoch at most, the rest extrapolated (default all in time)")
    parser.add_argument("--seconds", type=float, default=20.0, help="that a row's epochs are measured, about")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds after which a row is given up")
    parser.add_argument("--only", default="", help="rows whose label begins so")
    parser.add_argument("--evaluation", action="store_true", help="evaluations and full rankings instead of training")
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
        kinds = {"trained": trained, "rated": rated, "ranked": ranked}
        print(rates(given) if kind == "rates" else kinds[kind](label, given))
        return
    threads = [int(number) for number in given.threads.split(",")]
    labels = [label for label in MODELS if label.startswith(given.only)]
    tables = {"rated": RATED, "ranked": RANKING} if given.evaluation else {"trained": TRAINING}
    for number in threads:
        print(in_process("rates", "", "", number, given), flush=True)
    for name in given.datasets:
        for kind, head in tables.items():
            print(f"\n{name}\n", *head, sep="\n", flush=True)
            for label in labels:
                for number in threads:
                    print(in_process(kind, label, name, number, given), flush=True)


if __name__ == "__main__":
    main()
