"""Files that are damaged, read by whoever reads them."""

import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import torch
from kills import Tally

from recbole_dgrm.errors import UserError
from recbole_dgrm.records import read_epochs, read_run
from recbole_dgrm.reports.statistics import read_plan
from recbole_dgrm.runs.experiment import saved_config
from recbole_dgrm.runs.trial import read_trial
from recbole_dgrm.training.checkpoints import read_checkpoint
from recbole_dgrm.tuning.plan import SearchPlan

FILES: dict[str, Callable[[Path], object]] = {
    "checkpoint.pt": lambda path: read_checkpoint(path, torch.device("cpu")),
    "record.json": lambda path: read_run(path.parent),
    "metrics.jsonl": lambda path: read_epochs(path.parent),
    "per_user.npz": lambda path: read_run(path.parent).per_user(),
    "config.yaml": lambda path: saved_config(path.parent),
    "benchmark.json": lambda path: read_plan(path.parent),
    "search.json": lambda path: SearchPlan.load(path.parent),
    "trial.json": lambda path: read_trial(path.parent),
}


def _empty(path: Path, chance: random.Random) -> None:
    path.write_bytes(b"")


def _cut(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content))])


def _random(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.randbytes(chance.randrange(1, 5000)))


def _zip(path: Path, chance: random.Random) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("letter.txt", f"nothing of ours {chance.random()}")


def _byte(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def damaged_file(name: str, read: Callable[[Path], object], finished: Path, folder: Path, times: int) -> Tally:
    """Damage a copy of the file in each way; it must be refused by its name, or read.

    Args:
        finished: a folder with finished jobs, where such a file lies.
    """
    tally, chance, refused = Tally(), random.Random(name), 0
    source = next(finished.glob(f"*/unbroken/**/{name}")).parent
    for number in range(times):
        for change in (_empty, _cut, _random, _zip, _byte):
            copy = folder / f"{number}{change.__name__}"
            shutil.copytree(source, copy, ignore=lambda where, names: [n for n in names if (Path(where) / n).is_dir()])
            change(copy / name, chance)
            tally.stops += 1
            try:
                read(copy / name)
            except UserError as error:
                refused += 1
                if name not in str(error):
                    tally.problems.append(f"{copy}: the message does not name {name}: {error}")
            except Exception as error:
                tally.problems.append(f"{copy}: {type(error).__name__}: {error}")
            shutil.rmtree(copy)
    if not tally.problems:
        tally.said = f"{refused} refused, {tally.stops - refused} read"
    return tally
