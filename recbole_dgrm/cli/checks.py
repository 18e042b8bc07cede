"""The command that checks the installation: libraries and their versions, the GPU, folders and data, with remedies.

This module is for broken installations. So a library is imported by the check that needs it, and an error in a check is
its result. The needed libraries are read from the metadata of the installed package, which come from
``setup.py``.
"""

import platform
import shutil
import tempfile
from argparse import Namespace
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recbole_dgrm.cli.command import argument, command
from recbole_dgrm.errors import INSTALL

WORKS, LIMITED, FAILS = "works", "limited", "does not work"
STYLES = {WORKS: "green", LIMITED: "yellow", FAILS: "bold red"}
REINSTALL = "install the package again with -c constraints.txt"
MODULES = {"pyyaml": "yaml", "scikit-learn": "sklearn"}  # libraries whose modules have another name
DEVELOPMENT = ("test", "docs")  # extras that commands do not need
GPU_CURE = "none needed without a GPU; for one, install a build of torch that fits the CUDA version of its driver"


@command(
    "doctor [--output_dir=DIR]",
    argument("--output_dir", type=Path, default=Path("runs"), help="folder for runs (default runs)"),
)
def doctor(given: Namespace, console: Console) -> int:
    """Check what works on this machine, what is limited, and what to do about it."""
    rows = list(examine(given.output_dir))
    table = Table(title="what works here", title_justify="left")
    for name in ("what", "result", "state", "cure"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row.what, Text(row.result), Text(row.state, STYLES[row.state]), Text(row.cure))
    console.print(table)
    failed = [row.what for row in rows if row.state == FAILS]
    console.print(f"does not work: {', '.join(failed)}" if failed else "nothing essential is missing")
    return 1 if failed else 0


@dataclass(frozen=True)
class Row:
    """A result. ``state`` is WORKS, LIMITED (something optional is missing) or FAILS; ``cure`` says what to do."""

    what: str
    result: str
    state: str = WORKS
    cure: str = ""


class Unfit(Exception):
    """Raised by a check that fails; the message is its result."""


def checked(what: str, look: Callable[[], str], cure: str = REINSTALL, otherwise: str = FAILS) -> Row:
    """The result of one check: the text from ``look``, or the error that it raises, with state and remedy."""
    try:
        return Row(what, look())
    except Unfit as error:
        return Row(what, str(error), otherwise, cure)
    except Exception as error:
        return Row(what, f"{type(error).__name__}: {error}", otherwise, cure)


def examine(output_dir: Path) -> Iterator[Row]:
    """The results of all checks, in the order of the table.

    Args:
        output_dir: the folder in which runs would be written.
    """
    yield Row("python", f"{platform.python_version()} on {platform.platform(terse=True)}")
    try:
        yield from list(libraries())
    except Exception as error:
        yield Row("versions", f"{type(error).__name__}: {error}", FAILS, REINSTALL)
    yield checked("GPU", gpu, GPU_CURE, LIMITED)
    yield checked("output directory", partial(writable, output_dir), "name another --output_dir")
    yield checked("ml-100k of RecBole", ml_100k)


def libraries() -> Iterator[Row]:
    """A result for every library that the metadata of the package require, except those for development."""
    from packaging.requirements import Requirement

    extras = [extra for extra in metadata.metadata("recbole-dgrm").get_all("Provides-Extra", []) if extra]
    for text in metadata.requires("recbole-dgrm") or []:
        wanted = Requirement(text)
        needs = [extra for extra in extras if f'extra == "{extra}"' in str(wanted.marker)]
        if set(needs) & set(DEVELOPMENT):
            continue
        # a marker of the Python version only concerns the installation of RecBole
        cure = f"pip install 'recbole-dgrm[{needs[0]}]'" if needs else INSTALL.get(wanted.name, REINSTALL)
        yield checked(wanted.name, partial(library, wanted), cure, LIMITED if needs else FAILS)


def library(wanted: Any) -> str:
    """The version of a library; raises an error if it cannot be imported or its version is not allowed."""
    version = metadata.version(wanted.name)
    if version not in wanted.specifier:
        raise Unfit(f"{version}, wanted {wanted.specifier}")
    import_module(MODULES.get(wanted.name.lower(), wanted.name.replace("-", "_")))
    return version


def gpu() -> str:
    """The GPUs that torch sees."""
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return f"{', '.join(names)}; CUDA {torch.version.cuda}"
    if shutil.which("nvidia-smi"):
        raise Unfit(f"torch {torch.__version__} sees none, but there is a driver")
    raise Unfit("none; everything runs on the CPU")


def writable(output_dir: Path) -> str:
    """The folder in which runs would be written, after writing a temporary file."""
    folder = output_dir.resolve()
    there = next(path for path in (folder, *folder.parents) if path.exists())
    with tempfile.TemporaryFile(dir=there):
        return f"{folder} can be written; {shutil.disk_usage(there).free / 1024**3:.1f} GiB are free"


def ml_100k() -> str:
    """The sizes of the data set that comes with RecBole, read and split as for a run."""
    from recbole_dgrm.config.layers import load_config
    from recbole_dgrm.data.splits import build_splits

    sizes = build_splits(load_config(config_dict={"model": "MF", "dataset": "ml-100k"})).sizes()
    ratings = sizes["n_train"] + sizes["n_valid"] + sizes["n_test"]
    return f"{sizes['n_users']:,} users, {sizes['n_items']:,} items, {ratings:,} ratings"
