"""Training, scoring and full ranking beside RecBole's models and beside what matrix products allow on this machine.

    python measurements/speed.py ml-1m --data_path=DIR
    python measurements/speed.py aa-scale --data_path=DIR --batches=40 --least=0

All networks have one hidden layer of ``--width`` and learn in batches of ``--batch``; a row is a process of its own. A
training pass is one pass over the users of every phase, the better of two; its share of the limit is the floating-point
operations of its matrix products (counted by torch) over its seconds, beside those of plain products of the same sizes.
Full rankings by RecBole's loop are run with its default batch of evaluation, 4096 users x items, and with the best of
larger ones; "same" says whether all numbers agree.
"""

import argparse
import json
import logging
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.utils import create_samplers
from recbole.model.general_recommender.diffrec import DiffRec
from recbole.utils import get_trainer, init_seed
from torch.profiler import ProfilerActivity, profile

from recbole_dgrm import compat
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.data import dataset, loaders
from recbole_dgrm.models import registry
from recbole_dgrm.training.trainers import trainer_class

PRODUCTS = ("aten::mm", "aten::addmm")
THEIR_BATCHES = (4096, 1 << 21, 1 << 24, 1 << 27)  # users x items; RecBole's default first
RATED = {"protocol": "rated", "latent_size": 0, "critic_iterations": 1, "generator_iterations": 1, "blend": 0.0}
ROWS = [
    ("DGRM", "DGRM", RATED),
    ("DGRM, bfloat16", "DGRM", {**RATED, "precision": "bfloat16"}),
    ("DGRM without critic", "DGRM", {**RATED, "adversarial_weight": 0.0}),
    ("DGRMPlus, dense", "DGRMPlus", {**RATED, "states": "dense"}),
    ("DGRMPlus, entries", "DGRMPlus", {**RATED, "states": "entries"}),
    ("DGRMPlus, entries, blended", "DGRMPlus", {**RATED, "states": "entries", "blend": 0.5}),
    ("RecBole's DiffRec", "RecBole's DiffRec", {"protocol": "full"}),
    ("RecBole's MultiVAE", "MultiVAE", {"protocol": "full", "latent_dimension": 64}),
]
RANKED = [
    ("RecBole's DiffRec", "RecBole's DiffRec", {"protocol": "full"}),
    ("RecBole's MultiVAE", "MultiVAE", {"protocol": "full", "latent_dimension": 64}),
    ("DGRM", "DGRM", {"protocol": "full", "latent_size": 0}),
]


def seconds(work: Callable[[], object], least: float = 2.0) -> float:
    """Of one call, the best of several after a first one; with ``least`` 0 of the first one."""
    if least:
        work()
    best, begun = float("inf"), perf_counter()
    while True:
        start = perf_counter()
        work()
        best = min(best, perf_counter() - start)
        if perf_counter() - begun >= least:
            return best


def product_limit(batch: int, n_items: int, width: int) -> float:
    """GFLOP/s of the three products of a layer of these sizes: forward and both gradients."""
    x, w, g = torch.randn(batch, n_items), torch.randn(n_items, width), torch.randn(batch, width)
    taken = seconds(lambda: (x @ w, x.T @ g, g @ w.T))
    return 3 * 2 * batch * n_items * width / taken / 1e9


def build(name: str, keys: dict, given: argparse.Namespace):
    """Config, splits, model and trainer of one row."""
    theirs = name == "RecBole's DiffRec"
    name = "DiffRec" if theirs else name
    sizes = {"DiffRec": "dims_dnn", "MultiVAE": "mlp_hidden_size"}.get(name, "generator_hidden")
    keys = {
        "model": name,
        "dataset": given.dataset,
        "train_batch_size": given.batch,
        "device": "cpu",
        sizes: [given.width],
        **keys,
    }
    if sizes == "generator_hidden":
        keys["critic_hidden"] = [given.width]
    config = load_config(config_dict=keys | ({"data_path": given.data_path} if given.data_path else {}))
    config = config.writing_to(Path("."))
    splits = dataset.build(config)
    init_seed(config["seed"], True)
    model = (DiffRec if theirs else registry.model_class(name))(config, splits.train)
    trainer = trainer_class(registry.model_class("BPR" if theirs else name))(config, model)
    return config, splits, model, trainer


def trained(label: str, name: str, keys: dict, given: argparse.Namespace) -> str:
    """A row about training, memory, scoring and the rated evaluation."""
    config, splits, model, trainer = build(name, keys, given)
    loader, users = loaders.train_loader(config, splits, "train"), splits.train.user_num - 1
    if given.batches and users > given.batches * given.batch:
        users = loader.sample_size = given.batches * given.batch
        del loader.sampler.data_source[users:]
    times = []
    for epoch in range(3):
        start = perf_counter()
        trainer._train_epoch(loader, epoch)
        times.append(perf_counter() - start)
    taken, rows = min(times[1:]), splits.train.user_num - 1
    evaluation = ""
    if config["protocol"] == "rated":
        test = loaders.eval_loader(config, splits, "test")
        evaluation = f"{seconds(lambda: trainer.evaluate(test), 0.0):.2f}"
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with profile(activities=[ProfilerActivity.CPU], with_flops=True) as profiled:
        trainer._train_epoch(loader, 3)
    operations = sum(event.flops for event in profiled.key_averages() if event.key in PRODUCTS)
    passes = len(getattr(trainer, "phases", [None]))
    share = operations / taken / 1e9 / product_limit(given.batch, splits.train.item_num, given.width)
    scored = scoring(model, config, users)
    return (
        f"| {label} | {taken / passes * rows / users:.2f} | {passes * users / taken:,.0f} | {share:.0%} "
        f"| {scored:,.0f} | {evaluation} | {memory:,.0f} |"
    )


def scoring(model, config, users: int) -> float:
    """Users per second of scores for all items."""
    model.eval()
    batch = torch.arange(1, min(users, 4 * config["train_batch_size"]) + 1)
    with torch.no_grad():
        taken = seconds(
            lambda: [
                model.full_sort_predict({config["USER_ID_FIELD"]: part})
                for part in batch.split(config["train_batch_size"])
            ]
        )
    return len(batch) / taken


def ranked(label: str, name: str, keys: dict, given: argparse.Namespace) -> str:
    """Rows about one full evaluation by our loop, in both precisions, and by RecBole's."""
    config, splits, model, trainer = build(name, keys, given)
    loader = loaders.eval_loader(config, splits, "test")
    trainer.eval_collector.data_collect(loaders.train_loader(config, splits, "train"))

    def row(loop: str, work: Callable[[], dict]) -> str:
        found: list[dict] = []
        taken = seconds(lambda: found.append(work()), given.least)
        most = max(abs(found[0][key] - value) for key, value in ours.items())
        return f"| {label} | {loop} | {taken:.2f} | {'yes' if most < 1e-9 else f'within {most:.4f}'} |"

    def reduced() -> dict:
        with torch.autocast("cpu", torch.bfloat16):
            return trainer.evaluate(loader)

    *_, sampler = create_samplers(config, splits.train, [splits.train, splits.valid, splits.test])
    ours = trainer.evaluate(loader)
    lines = [row("ours", lambda: trainer.evaluate(loader)), row("ours, bfloat16", reduced)]
    for size in THEIR_BATCHES:
        config = config.replaced(eval_batch_size=size)
        with compat.no_events(), compat.passing_bars():
            theirs = get_trainer(model.type, "BPR" if name.startswith("RecBole") else name)(config, model)
            theirs.eval_collector = compat.RepairedCollector(config)
            batches = FullSortEvalDataLoader(config, splits.test, sampler, shuffle=False)
            theirs.eval_collector.data_collect(loaders.train_loader(config, splits, "train"))
            text = f"RecBole's, batch {size:,}" + (" (its default)" if size == 4096 else "")
            lines.append(row(text, lambda loop=theirs, part=batches: loop.evaluate(part, load_best_model=False)))
    return "\n".join(lines)


def main() -> None:
    """Parse the command line and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--data_path")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--width", type=int, default=300)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--batches", type=int, help="of a training pass, the rest extrapolated (default all)")
    parser.add_argument("--only", default="", help="rows whose label begins so")
    parser.add_argument("--least", type=float, default=2.0, help="seconds of repeated evaluation, after a first one")
    parser.add_argument("--row", type=json.loads, help=argparse.SUPPRESS)
    given = parser.parse_args()
    logging.disable()
    torch.set_num_threads(given.threads)
    if given.row:
        (kind, *row) = given.row
        print({"trained": trained, "ranked": ranked}[kind](*row, given))
        return
    limit = product_limit(given.batch, 4000, given.width)
    print(
        f"{given.dataset}; width {given.width}, batch {given.batch}, {given.threads} threads; "
        f"products {limit:.0f} GFLOP/s\n"
    )
    print(
        "| model | training pass s | users/s | share of the limit | scoring users/s | rated evaluation s | peak MiB |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|", flush=True)
    for row in [("trained", *row) for row in ROWS] + [None] + [("ranked", *row) for row in RANKED]:
        if row is None:
            print("\n| full ranking | loop | seconds | same |\n|---|---|---:|---|", flush=True)
            continue
        if not row[1].startswith(given.only):
            continue
        done = subprocess.run(
            [sys.executable, __file__, *sys.argv[1:], "--row", json.dumps(row)],
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        print(done.stdout.strip() or f"| {row[1]} | failed, exit status {done.returncode} |", flush=True)


if __name__ == "__main__":
    main()
