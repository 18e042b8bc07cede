"""Seconds and memory of whole commands: our models, RecBole's and those of other libraries, on this machine.

    python measurements/speed.py ml-1m epinions-3core --data_path=DIR --threads=1,2 --peers=FOLDER
    python measurements/speed.py ml-1m --data_path=DIR --epochs=2 --before=CHECKOUT --models=DGRM,MF --refit=false
    python measurements/speed.py ml-1m --data_path=DIR --reading [--before=CHECKOUT]

A row is a process of its own that reads, trains, selects, trains again (refit), tests and diagnoses, with the settings
a model comes with; RecBole's models have RecBole's settings, and our data and loops. Seconds of parts are those of the
record (``recbole_dgrm.records.RunRecord``); ``epochs`` are of selection + refit, ``epoch s`` is the fastest. Wall and
CPU seconds and the peak of memory are of the whole process with imports. ``--epochs`` is the most epochs (or sweeps),
each validated; BMF then keeps fewer sweeps in memory. Further ``--key=value`` go to our commands. Other libraries run
in an environment made in ``--peers``: they read our split, train on training and validation part for a fixed number of
epochs, and predict the test part; their epoch is the mean, with all that comes before the first.

``--before`` runs each command with the code of another checkout, too, in turn; a third row has the ratios before / now.
Of ``--repeat`` runs each number is the lowest. ``bound s`` is how long the operations of ``BOUNDS`` take alone, without
which we know no epoch: for most models sums of weighted rows at the rated entries. It is a timing, too: next to other
programs it can come out above the epoch, and then says nothing. ``--reading`` measures instead the CPU seconds from the
file to the parts of the split, and the memory.
"""

import argparse
import json
import sys
import tempfile
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path
from time import process_time
from timeit import repeat
from typing import Any

from commands import PROGRAM, ROOT, python_of, timing, training, used

OURS = ("DGRM", "DGRMKL", "DGRMPlus", "BMF", "MF", "NCF", "CFGAN", "DiffRec", "ICDAE", "PRGAN")
RECBOLE = ("MultiVAE", "LightGCN")
PEERS: dict[str, tuple[dict[str, Any], str, int]] = {
    "implicit-ALS": ({"factors": 12}, "iterations", 15),
    "Cornac-MF": ({"k": 12}, "max_iter", 20),
    "myFM-SVD++": ({"rank": 8}, "n_iter", 200),
}  # label: settings, what epochs are called, and how many there are
PACKAGES = ["implicit==0.7.3", "cornac==3.0.1", "myfm==0.4.0", "pandas"]
SECONDS = ["read_s", "train_s", "epoch_s", "validate_s", "evaluate_s", "calibrate_s", "diagnose_s", "wall_s", "cpu_s"]
COLUMNS = ("model", "threads", "epochs", *(key.replace("_", " ") for key in SECONDS), "bound s", "peak MiB")
THRICE = {"number": 1, "repeat": 3}
READING = ("code", "threads", "ratings", "CPU s", "ratings a CPU second", "peak B a rating")
# Sums of weighted rows per training rating and pass: a first layer 1 and its gradient 1; an output at the rated entries
# 1 and its gradients 2. The width is that of the hidden layer. A critic's pass has the generator forward (2) and two
# first layers with gradients (4); a generator's pass has its own five and the critic's first layer with a gradient (2).
GAN = {"critic_iterations": 6, "generator_iterations": 7}
BOUNDS: dict[str, tuple[str, dict[str, float]]] = {
    "DGRM": ("generator_hidden", GAN),
    "DGRMKL": ("generator_hidden", GAN),
    "DGRMPlus": ("generator_hidden", {"generator_iterations": 2.6}),  # reads 40 % of the entries, predicts the others
    "CFGAN": ("generator_hidden", {"discriminator_iterations": 6, "generator_iterations": 7}),
    "DiffRec": ("dims_dnn", {"": 5}),
    "ICDAE": ("latent_size", {"": 3.6}),  # reads 30 % of the entries
}  # label: the key with the width, and sums per pass by the key with the number of passes


def measured(label: str, name: str, threads: int, given: Namespace, code: Path) -> dict[str, Any]:
    """What a command used, with the entries of its record; ``failure`` is empty or says why these are not there."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        line = peer(label, name, given, folder) if label in PEERS else ours(label, name, given, folder, code)
        found = used(line, folder / "log.txt", given.timeout, threads, code)
        if found["failure"] or label not in PEERS:
            return found if found["failure"] else found | timing(folder)
        found |= json.loads((folder / "predictions.json").read_text())
    epochs = given.epochs or PEERS[label][2]
    return found | {"epochs": epochs, "epoch_s": found["train_s"] / epochs}


def ours(label: str, name: str, given: Namespace, folder: Path, code: Path) -> list[str]:
    """The command of a model of ours or of RecBole."""
    keys: dict[str, Any] = {"model": label, "protocol": given.protocol, "device": "cpu"} | data(given, name)
    if n := given.epochs:
        fewer = {"BMF": {"burn_in": n - 1, "keep_every": 1, "eval_step": n}, "DGRMPlus": {"blend_sweeps": 15 + n}}
        keys |= {"epochs": n, "eval_step": 1} | fewer.get(label, {})
    return [*training(folder, code, **keys), *given.keys]


def data(given: Namespace, name: str) -> dict[str, str]:
    """The keys of the data set, whose path is left out if it is not there: ML-100K comes with RecBole."""
    there = given.data_path and (given.data_path / name).is_dir()
    return {"dataset": name} | ({"data_path": str(given.data_path)} if there else {})


def peer(label: str, name: str, given: Namespace, folder: Path) -> list[str]:
    """The command of a model of another library, on the parts of our split, which are written first."""
    split = given.peers / "splits" / f"{name}-{given.protocol}"
    if not split.is_dir():
        keys = [f"--{key}={value}" for key, value in data(given, name).items()]
        line = [*PROGRAM, "split", f"--protocol={given.protocol}", f"--output={split}", *keys]
        if failure := used(line, folder / "log.txt", given.timeout)["failure"]:
            sys.exit(f"the split of {name}: {failure}")
    settings, epochs, number = PEERS[label]
    program = [python_of(given.peers / "env", PACKAGES), str(Path(__file__).with_name("peers_models.py")), label]
    parts = [f"--train={split / part}.csv" for part in ("train", "valid")] + [f"--predict={split / 'test.csv'}"]
    chosen = json.dumps(settings | {epochs: given.epochs or number})
    return [*program, *parts, f"--settings={chosen}", f"--output={folder / 'predictions.csv'}"]


def rows(label: str, name: str, threads: int, given: Namespace, bound: float | None) -> Iterator[str]:
    """The row of a model, with ``--before`` those of both checkouts and of their ratios."""
    codes = [ROOT] if label in PEERS or not given.before else [ROOT, given.before]
    found: list[list[Any]] = [[] for _ in codes]
    for _ in range(given.repeat):
        for runs, code in zip(found, codes, strict=True):
            runs.append(measured(label, name, threads, given, code))
    names, numbers = [f"{label} (RecBole)" if label in RECBOLE else label, f"{label}, before"], []
    for named, runs in zip(names, found, strict=False):
        if failed := [run["failure"] for run in runs if run["failure"]]:
            yield cells(named, threads, failed[0].replace("|", "/"), *[""] * (len(COLUMNS) - 3))
            continue
        lowest = {key: min(run[key] for run in runs) for key in runs[0] if key != "failure"}
        epochs = f"{lowest['epochs']:.0f}" + (f" + {lowest['refit_epochs']}" if lowest.get("refit_epochs") else "")
        numbers.append([*map(lowest.get, SECONDS), lowest["peak_mib"]])
        shown = ["" if n is None else f"{n:.2f}" if n > 1 else f"{n:.2g}" for n in [*numbers[-1][:-1], bound]]
        yield cells(named, threads, epochs, *shown, f"{lowest['peak_mib']:,.0f}")
    if len(numbers) == 2:
        *ratios, peak = [f"{old / new:.2f}" if old and new else "" for new, old in zip(*numbers, strict=True)]
        yield cells("before / now", threads, "", *ratios, "", peak)


def cells(*values: object) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(map(str, values))} |"


def bounds(name: str, given: Namespace) -> dict[str, float]:
    """The bound of an epoch of each model that has one."""
    import torch
    from torch.nn.functional import embedding_bag

    from recbole_dgrm.config.layers import load_config
    from recbole_dgrm.data.splits import build_splits

    torch.set_num_threads(given.threads)
    keys = {"protocol": given.protocol} | data(given, name)
    splits = build_splits(load_config(config_dict=keys | {"model": "MF"}))
    user, item = map(torch.as_tensor, splits.triples("train")[:2])
    n, n_users, n_items, order = len(user), splits.train.user_num, splits.train.item_num, torch.argsort(user)
    starts, item, weight = torch.searchsorted(user[order], torch.arange(n_users)), item[order], torch.rand(n)

    def sums(width: int) -> float:
        """Seconds of one sum of weighted rows of ``width`` numbers, over the ratings of each user."""
        table, how = torch.rand(n_items, width), {"mode": "sum", "per_sample_weights": weight}
        return min(repeat(lambda: embedding_bag(item, table, starts, **how), **THRICE))

    def product(rows: int, width: int, columns: int) -> float:
        left, right = torch.rand(rows, width), torch.rand(width, columns)
        return min(repeat(lambda: left @ right, **THRICE))

    found = {}
    for label in set(given.models) & {*BOUNDS, "MF", "BMF", *RECBOLE}:
        config = load_config(config_dict=keys | {"model": label})
        if label in BOUNDS:
            hidden, passes = BOUNDS[label]
            width = config[hidden] if isinstance(config[hidden], int) else config[hidden][0]
            found[label] = sums(width) * sum(count * (config[key] if key else 1) for key, count in passes.items())
        elif label == "MultiVAE":  # the logits of all items, and two gradients
            found[label] = 3 * product(512, config["mlp_hidden_size"][0], n_items) * n_users / 512
        elif label == "LightGCN":  # each step propagates over all ratings in both directions, and back
            found[label] = n / config["train_batch_size"] * config["n_layers"] * 4 * sums(config["embedding_size"])
        else:  # the Gram matrices of both sides
            found[label] = 2 * sums(config["factors"] * (config["factors"] + 1) // 2)
    return found


def reading(name: str, given: Namespace) -> list[str]:
    """Numbers of reading and splitting once, after the same with ML-100K, which loads modules and RecBole."""
    from resource import RUSAGE_SELF, getrusage

    from recbole_dgrm.config.layers import load_config
    from recbole_dgrm.data.splits import build_splits

    keys: dict[str, Any] = {"model": "MF", "protocol": given.protocol}
    build_splits(load_config(config_dict=keys | {"dataset": "ml-100k"}))
    config = load_config(config_dict=keys | data(given, name))
    before, start = getrusage(RUSAGE_SELF).ru_maxrss, process_time()
    splits = build_splits(config)
    taken, n_ratings = process_time() - start, len(splits.known) + len(splits.test)
    peak = (getrusage(RUSAGE_SELF).ru_maxrss - before) * 2**10 / n_ratings
    return [f"{n_ratings:,}", f"{taken:.2f}", f"{n_ratings / taken:,.0f}", f"{peak:.0f}"]


def in_process(kind: str, name: str, threads: int, given: Namespace, code: Path = ROOT) -> Any:
    """What ``bounds`` or ``reading`` returns in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        result, log = Path(folder) / "result.json", Path(folder) / "log.txt"
        one = json.dumps([kind, name, threads, str(result)])
        line = [sys.executable, __file__, *sys.argv[1:], f"--one={one}"]
        if failure := used(line, log, given.timeout, threads, code)["failure"]:
            sys.exit(f"the {kind} of {name}: {failure}")
        return json.loads(result.read_text())


def parsed() -> Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("datasets", nargs="+")
    parser.add_argument("--data_path", type=Path)
    parser.add_argument("--protocol", default="rated", help="whose split and feedback (default rated)")
    parser.add_argument("--threads", default="1", help="as 1,2")
    parser.add_argument("--models", type=lambda text: text.split(","), default=[*OURS, *RECBOLE, *PEERS])
    parser.add_argument("--epochs", type=int, help="at most (default: as each model comes)")
    parser.add_argument("--before", type=lambda text: Path(text).resolve(), help="another checkout to compare with")
    parser.add_argument("--repeat", type=int, default=1, help="runs of each command (default 1)")
    parser.add_argument("--timeout", type=float, default=900.0, help="seconds after which a command is killed")
    parser.add_argument("--peers", type=Path, help="folder for environments and splits of other libraries")
    parser.add_argument("--reading", action="store_true", help="reading and splitting instead of whole commands")
    parser.add_argument("--one", type=json.loads, help=argparse.SUPPRESS)  # in a process of its own
    given, given.keys = parser.parse_known_args()
    if wrong := [key for key in given.keys if not key.startswith("--") or "=" not in key]:
        parser.error(f"{wrong[0]} is not understood; keys of the commands are given as --key=value")
    return given


def main() -> None:
    """Print Markdown tables."""
    given = parsed()
    if given.one:
        kind, name, given.threads, result = given.one
        Path(result).write_text(json.dumps({"bounds": bounds, "reading": reading}[kind](name, given)))
        return
    labels = [label for label in given.models if label not in PEERS or given.peers]
    columns = READING if given.reading else COLUMNS
    asked = [*([f"--epochs={given.epochs}"] if given.epochs and not given.reading else []), *given.keys]
    for name in given.datasets:
        print(f"\n{', '.join([name, *asked])}\n", cells(*columns), sep="\n")
        print(cells("---", *["---:"] * (len(columns) - 1)), flush=True)
        for threads in map(int, given.threads.split(",")):
            if given.reading:
                for code in filter(None, (ROOT, given.before)):
                    found = in_process("reading", name, threads, given, code)
                    print(cells("now" if code is ROOT else "before", threads, *found), flush=True)
                continue
            found = in_process("bounds", name, threads, given)
            for label in labels:
                for row in rows(label, name, threads, given, found.get(label)):
                    print(row, flush=True)


if __name__ == "__main__":
    main()
