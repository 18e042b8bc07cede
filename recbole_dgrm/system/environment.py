"""The environment of a run for its record: versions, device and memory."""

import os
import platform
import resource
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import recbole
import torch

from recbole_dgrm.start import __version__
from recbole_dgrm.system import distributed

GIT_S = 10  # timeout of git, in seconds


def environment(config: Any) -> dict[str, Any]:
    """Versions, device and processes of the run of ``config``."""
    return {
        **own_version(),
        **{library.__name__: library.__version__ for library in (recbole, torch, np)},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(config["device"]),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "processes": distributed.world_size(),
    }


def own_version() -> dict[str, str]:
    """The version of the package and, if it runs from a git checkout, the commit of its code."""
    commit = code_commit(Path(__file__).parent.parent)
    return {"recbole_dgrm": __version__} | ({"commit": commit} if commit else {})


@cache
def code_commit(package: Path) -> str:
    """The last commit that changed a file of ``package``, ten digits, and ``+`` if files differ from it.

    Empty if the parent folder is not the root of a git checkout.
    """
    if not (package.parent / ".git").exists():
        return ""
    words = ["rev-list", "-1", "--abbrev-commit", "--abbrev=10", "HEAD"], ["status", "--porcelain"]
    try:
        last, changed = (
            subprocess.run(
                ["git", "--no-optional-locks", *command, "--", package.name],
                cwd=package.parent,
                capture_output=True,
                text=True,
                timeout=GIT_S,
                check=True,
            ).stdout.strip()
            for command in words
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return last and last + "+" * bool(changed)


def peak_memory() -> float:
    """The peak resident memory of this process, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024**2 if sys.platform == "darwin" else 1024), 1)
