"""The environment of a run for its record: versions, device and memory."""

import os
import platform
import sys
from typing import Any

import numpy as np
import psutil
import recbole
import torch

from recbole_dgrm.start import __version__
from recbole_dgrm.system import distributed


def environment(config: Any) -> dict[str, Any]:
    """Versions, device and processes of the run of ``config``."""
    return {
        "recbole_dgrm": __version__,
        **{library.__name__: library.__version__ for library in (recbole, torch, np)},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": str(config["device"]),
        "threads": torch.get_num_threads(),
        "cpus": os.cpu_count(),
        "processes": distributed.world_size(),
    }


def peak_memory() -> float:
    """The peak resident memory of this process, in MiB."""
    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows, which has no resource module
        return round(memory.peak_wset / 1024**2, 1)
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024**2 if sys.platform == "darwin" else 1024), 1)
