"""Training, scoring and full ranking beside RecBole's models and beside what matrix products allow on this machine.

    python benchmarks/speed.py ml-1m --data_path=DIR
    python benchmarks/speed.py aa-scale --data_path=DIR --threads=2

All networks have one hidden layer of ``--width`` and learn in batches of ``--batch``. A training pass is one pass over
the users of every phase; its share of the limit is the floating-point operations of its matrix products (counted by
torch) over its seconds, beside those of plain products of the same sizes. RecBole's loop is run with its own default
batch of evaluation, ``4096`` users x items, and with ``--recbole_batch``.
"""

import argparse
import logging
from collections.abc import Callable
from time import perf_counter

import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.model.general_recommender.diffrec import DiffRec
from recbole.utils import get_trainer, init_seed
from torch.profiler import ProfilerActivity, profile

from recbole_dgrm import compat, data, loaders, registry
from recbole_dgrm.config import load_config

PRODUCTS = ("aten::mm", "aten::addmm")
LARGE = 1 << 27  # users x items in RecBole's evaluation batch at its best


def seconds(work: Callable[[], object], least: float = 2.0) -> float:
    """Of one call, the best of several after a first one."""
    work()
    best, begun = float("inf"), perf_counter()
    while perf_counter() - begun < least:
        start = perf_counter()
        work()
        best = min(best, perf_counter() - start)
    return best


def product_limit(batch: int, n_items: int, width: int) -> float:
    """GFLOP/s of the three products of a layer of these sizes: forward and both gradients."""
    x, w, g = torch.randn(batch, n_items), torch.randn(n_items, width), torch.randn(batch, width)
    taken = seconds(lambda: (x @ w, x.T @ g, g @ w.T))
    return 3 * 2 * batch * n_items * width / taken / 1e9


def build(name: str, given: dict, recboles: bool = False):
    """Config, splits, model and trainer of one row."""
    config = load_config(config_dict={"model": name, **given})
    config["checkpoint_dir"] = "."
    splits = data.build(config)
    init_seed(config["seed"], True)
    model = (DiffRec if recboles else registry.model_class(name))(config, splits.train)
    trainer_class = registry.trainer_class("BPR" if recboles else name)
    trainer = trainer_class(config, model)
    trainer._select = True
    return config, splits, model, trainer


def main() -> None:
    """Parse the command line and print Markdown tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--data_path")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--width", type=int, default=300)
    parser.add_argument("--batch", type=int, default=256)
    given = parser.parse_args()
    logging.disable()
    torch.set_num_threads(given.threads)
    shared = {"dataset": given.dataset, "train_batch_size": given.batch, "seed": 2020, "device": "cpu"}
    shared |= {"data_path": given.data_path} if given.data_path else {}
    ours = {"generator_hidden": [given.width], "critic_hidden": [given.width], "latent_size": 0, "critic_iterations": 1,
            "generator_iterations": 1}  # fmt: skip
    rows = [
        ("DGRM", "DGRM", {**ours, "protocol": "rated"}, False),
        ("DGRM, no critic", "DGRM", {**ours, "adversarial_weight": 0.0, "protocol": "rated"}, False),
        ("DGRMPlus", "DGRMPlus", {**ours, "protocol": "rated"}, False),
        ("DGRMPlus, rated entries", "DGRMPlus",
         {**ours, "protocol": "rated", "noise_support": "rated"}, False),
        ("RecBole's DiffRec", "DiffRec", {"protocol": "full", "dims_dnn": [given.width]}, True),
        ("RecBole's MultiVAE", "MultiVAE",
         {"protocol": "full", "mlp_hidden_size": [given.width], "latent_dimension": 64}, False),
    ]  # fmt: skip
    limit = None
    for label, name, keys, recboles in rows:
        config, splits, model, trainer = build(name, {**shared, **keys}, recboles)
        if limit is None:
            limit = product_limit(given.batch, splits.train.item_num, given.width)
            users = splits.train.user_num - 1
            print(
                f"{given.dataset}: {users:,} users, {splits.train.item_num - 1:,} items, {len(splits.train):,} "
                f"ratings; width {given.width}, batch {given.batch}, {given.threads} threads; products "
                f"{limit:.0f} GFLOP/s\n"
            )
            print("| model | training pass s | users/s | share of the limit | scoring users/s |")
            print("|---|---:|---:|---:|---:|")
        loader = loaders.train_loader(config, splits, "train")
        trainer._train_epoch(loader, 0)
        with profile(activities=[ProfilerActivity.CPU], with_flops=True) as profiled:
            trainer._train_epoch(loader, 1)
        operations = sum(event.flops for event in profiled.key_averages() if event.key in PRODUCTS)
        start = perf_counter()
        trainer._train_epoch(loader, 2)
        taken = perf_counter() - start
        passes = len(getattr(trainer, "phases", [None]))
        share = operations / taken / 1e9 / limit
        scored = scoring(model, config, users)
        print(
            f"| {label} | {taken / passes:.2f} | {passes * users / taken:,.0f} | {share:.0%} | {scored:,.0f} |",
            flush=True,
        )
    print("\n| full ranking | loop | seconds |\n|---|---|---:|")
    for label, name, keys, recboles in rows[4:]:
        full_ranking(label, name, {**shared, **keys}, recboles)


def scoring(model, config, users: int) -> float:
    """Users per second of scores for all items."""
    model.eval()
    batch = torch.arange(1, min(users, 4 * config["train_batch_size"]) + 1)
    with torch.no_grad():
        taken = seconds(lambda: [model.full_sort_predict({config["USER_ID_FIELD"]: part}) for part in
                                 batch.split(config["train_batch_size"])])  # fmt: skip
    return len(batch) / taken


def full_ranking(label: str, name: str, given: dict, recboles: bool) -> None:
    """Seconds of one evaluation by our loop, and by RecBole's with its default batch and with a large one."""
    config, splits, model, trainer = build(name, given, recboles)
    trainer.eval_collector.data_collect(loaders.train_loader(config, splits, "train"))
    loader = loaders.eval_loader(config, splits, "test")
    start = perf_counter()
    ours = trainer.evaluate(loader)
    print(f"| {label} | ours, {config['eval_batch_size']} users | {perf_counter() - start:.2f} |", flush=True)
    sampler = loader._sampler
    for text, size in [("RecBole's default, 4096", 4096), ("RecBole's, large", LARGE)]:
        config["eval_batch_size"] = size
        theirs = get_trainer(model.type, name if not recboles else "BPR")
        with compat.no_events(), compat.passing_bars():
            trainer = theirs(config, model)
            trainer.eval_collector = compat.Collector(config)
            batches = FullSortEvalDataLoader(config, splits.test, sampler, shuffle=False)
            trainer.eval_collector.data_collect(loaders.train_loader(config, splits, "train"))
            start = perf_counter()
            found = trainer.evaluate(batches, load_best_model=False)
        same = all(abs(found[key] - value) < 1e-9 for key, value in ours.items())
        print(f"| {label} | {text} | {perf_counter() - start:.2f}{'' if same else ', other numbers'} |", flush=True)


if __name__ == "__main__":
    main()
