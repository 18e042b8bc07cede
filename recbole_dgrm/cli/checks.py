"""Checks of an installation: libraries, hardware, folders and data, each with what to do where something is wrong.

Nothing but the standard library is imported before a check runs, and what a check raises is its finding: a broken
installation is what this module is for. What ``setup.py`` asks for is read from the installed metadata.
"""

import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from recbole_dgrm.errors import INSTALL
from recbole_dgrm.start import WAITING
from recbole_dgrm.system.processor import bfloat16_units, cpuinfo

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet

WORKS, LIMITED, FAILS = "works", "limited", "does not work"
MODULES = {"pyyaml": "yaml", "scikit-learn": "sklearn"}  # where a library is imported by another name
DEVELOPMENT = ("test", "docs")  # extras that no command needs
LITTLE = 1 << 30  # bytes of memory or disk below which a run on a usual data set may end badly
SIDE = 512  # of the matrices whose product is timed

OF_SOME_MODELS = {  # library that some of RecBole's models import while they run: its package, and the models
    "faiss": ("faiss-cpu", "NCL"),
    "kmeans_pytorch": ("kmeans-pytorch", "LDiffRec with n_cate above 1"),
}


@dataclass(frozen=True)
class Row:
    """One finding. ``state`` is WORKS, LIMITED (something optional is missing) or FAILS; ``cure`` says what to do."""

    what: str
    found: str
    state: str = WORKS
    cure: str = ""


@dataclass(frozen=True)
class Check:
    """A check, with the state and the cure to report if it raises."""

    what: str
    look: Callable[[], Row]
    cure: str
    state: str = FAILS

    def row(self) -> Row:
        """Run the check; an error that it raises becomes a finding."""
        try:
            return self.look()
        except Exception as error:
            return Row(self.what, f"{type(error).__name__}: {error}", self.state, self.cure)


def judged(what: str, found: str, cure: str, limited: bool) -> Row:
    """The finding, with its cure where it is ``limited``."""
    return Row(what, found, LIMITED, cure) if limited else Row(what, found)


def examine(output_dir: Path) -> Iterator[Row]:
    """All findings, in the order of the table.

    Args:
        output_dir: where runs would be written.
    """
    reinstall, none = "install the package again with -c constraints.txt", "none needed: it is only named here"
    yield Check("python", python, none).row()
    try:
        wanted = list(requirements())
    except Exception as error:
        yield Row("versions", f"{type(error).__name__}: {error}", FAILS, f"{reinstall}; packaging reads its metadata")
        wanted = []
    for name, extra, look in wanted:
        cure = f"pip install 'recbole-dgrm[{extra}]'" if extra else INSTALL.get(name, reinstall)
        yield Check(name, look, cure, LIMITED if extra else FAILS).row()
    yield Check("processor", processor, none, LIMITED).row()
    yield Check("threads", threads, reinstall).row()
    yield Check("load", load, none, LIMITED).row()
    yield Check("GPU", gpu, reinstall).row()
    yield Check("bfloat16", bfloat16, "leave precision=float32", LIMITED).row()
    yield Check("C++ compiler", compiler, "leave compile=false", LIMITED).row()
    yield Check("processes that train together", backends, "none needed: one process trains here", LIMITED).row()
    yield Check("memory", memory, none, LIMITED).row()
    yield Check("disk", lambda: disk(output_dir), "name another --output_dir", LIMITED).row()
    yield Check("output directory", lambda: writable(output_dir), "name another --output_dir").row()
    yield Check("properties", properties, reinstall).row()
    yield Check("ml-100k of RecBole", ml_100k, reinstall).row()
    yield from map(of_some_models, OF_SOME_MODELS)


def python() -> Row:
    """The version of Python."""
    return Row("python", f"{platform.python_version()} on {platform.platform(terse=True)}")


def requirements() -> Iterator[tuple[str, str, Callable[[], Row]]]:
    """Name, extra and check of every library that the installed metadata asks for.

    Raises:
        importlib.metadata.PackageNotFoundError: the package is not installed.
    """
    from packaging.requirements import Requirement

    extras = [extra for extra in metadata.metadata("recbole-dgrm").get_all("Provides-Extra", []) if extra]
    for text in metadata.requires("recbole-dgrm") or []:
        wanted = Requirement(text)
        needs = [extra for extra in extras if f'extra == "{extra}"' in str(wanted.marker)]
        if not set(needs) & set(DEVELOPMENT):  # a marker about Python's version only says who installs RecBole
            yield wanted.name, "".join(needs[:1]), partial(library, wanted.name, wanted.specifier)


def library(name: str, allowed: "SpecifierSet") -> Row:
    """Whether a library can be imported and has an allowed version."""
    version = metadata.version(name)
    if version not in allowed:
        return Row(name, f"{version}, wanted {allowed}", FAILS, f"pip install '{name}{allowed}' -c constraints.txt")
    import_module(MODULES.get(name.lower(), name.replace("-", "_")))
    return Row(name, version)


def processor() -> Row:
    """Name of the processor and cores that this process may use."""
    names = [line.partition(":")[2].strip() for line in cpuinfo() if line.startswith("model name")]
    return Row("processor", f"{(names or [platform.processor()])[0]}, {_cores()} of {os.cpu_count()} cores usable")


def threads() -> Row:
    """Threads of torch, beside the cores there are."""
    import torch

    count, cores, set_to = torch.get_num_threads(), _cores(), os.environ.get("OMP_NUM_THREADS", "not set")
    waiting = next((f"{name}={os.environ[name]}" for name in WAITING if name in os.environ), "not set")
    found = f"torch uses {count}; OMP_NUM_THREADS={set_to}; how they wait: {waiting}"
    return judged("threads", found, f"they are in each other's way: export OMP_NUM_THREADS={cores}", count > cores)


def load() -> Row:
    """How many processes wanted a core in the last minute, other programs' among them."""
    busy, cores = os.getloadavg()[0], _cores()
    found = f"{busy:.1f} processes at work on {cores} cores"
    cure = "seconds in records and reports will be too long; wait until less is at work"
    return judged("load", found, cure, busy > cores / 2)


def gpu() -> Row:
    """The GPUs that torch sees."""
    import torch

    if torch.cuda.is_available():
        names = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
        return Row("GPU", f"{', '.join(names)}; CUDA {torch.version.cuda}")
    if shutil.which("nvidia-smi"):
        found, cure = f"torch {torch.__version__} sees none, but a driver is there", "for this driver's CUDA"
        return Row("GPU", found, LIMITED, f"install a build of torch {cure}")
    return Row("GPU", "none; everything runs on the processor", LIMITED, "none needed; device=cuda is refused")


def bfloat16() -> Row:
    """How fast a product of bfloat16 matrices is beside float32, on the device that ``device=auto`` takes."""
    import torch
    from torch.utils.benchmark import Timer

    device, seconds = "cuda" if torch.cuda.is_available() else "cpu", {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(SIDE, SIDE, dtype=dtype, device=device)
        timer = Timer("matrix @ matrix", globals={"matrix": matrix}, num_threads=torch.get_num_threads())
        seconds[dtype] = timer.blocked_autorange(min_run_time=0.05).median
    speed = seconds[torch.float32] / seconds[torch.bfloat16]
    found = f"a product of matrices is {speed:.2g} times as fast as in float32 on {device}"
    found += f"; the processor has {' and '.join(bfloat16_units()) or 'neither avx512_bf16 nor amx_bf16'}"
    return judged("bfloat16", found, "leave precision=float32", speed < 1)


def compiler() -> Row:
    """The compiler that ``compile=true`` needs."""
    from recbole_dgrm.config.layers import cxx_compiler

    found = cxx_compiler()
    return judged("C++ compiler", found or "none", "install g++ or clang++, or leave compile=false", not found)


def backends() -> Row:
    """The libraries through which processes that train together exchange tensors."""
    import torch.distributed as dist

    there = {name: dist.is_available() and dist.is_backend_available(name) for name in ("gloo", "nccl")}
    found = ", ".join(f"{name} {'yes' if has else 'no'}" for name, has in there.items())
    cure = "install a build of torch with torch.distributed"
    return judged("processes that train together", found, cure, not any(there.values()))


def memory() -> Row:
    """How much memory is free."""
    import psutil

    free = psutil.virtual_memory()
    found = f"{_gib(free.available)} of {_gib(free.total)} free"
    cure = "end other programs, or take smaller batches (train_batch_size)"
    return judged("memory", found, cure, free.available < LITTLE)


def disk(output_dir: Path) -> Row:
    """Free space where runs would be written."""
    free = shutil.disk_usage(_existing(output_dir)).free
    return judged("disk", f"{_gib(free)} free", "make room or name another --output_dir", free < LITTLE)


def writable(output_dir: Path) -> Row:
    """Whether runs can be written; nothing is left there."""
    with tempfile.TemporaryFile(dir=_existing(output_dir)):
        return Row("output directory", f"{output_dir.resolve()} can be written")


def properties() -> Row:
    """The YAML files of every default."""
    from recbole_dgrm.config.layers import properties_dir

    folder = properties_dir()
    return Row("properties", f"{len(list(folder.rglob('*.yaml')))} files in {folder}")


def ml_100k() -> Row:
    """Config and split of the data set that comes with RecBole, as a run would make them."""
    from recbole_dgrm.config.layers import load_config
    from recbole_dgrm.data.splits import build_splits

    sizes = build_splits(load_config(config_dict={"model": "MF", "dataset": "ml-100k"})).sizes()
    ratings = sizes["n_train"] + sizes["n_valid"] + sizes["n_test"]
    return Row("ml-100k of RecBole", f"{sizes['n_users']:,} users, {sizes['n_items']:,} items, {ratings:,} ratings")


def of_some_models(module: str) -> Row:
    """Whether a library is installed that only a few of RecBole's models need; it is not imported."""
    package, use = OF_SOME_MODELS[module]
    there = find_spec(module) is not None
    return judged(
        module, "installed" if there else "not installed", f"only for RecBole's {use}: pip install {package}", not there
    )


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _existing(folder: Path) -> Path:
    """``folder`` or the first of its parents that is there."""
    folder = folder.resolve()
    return next(path for path in (folder, *folder.parents) if path.exists())


def _gib(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB"
