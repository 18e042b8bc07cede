"""Generative recommenders on rating data, as a RecBole plugin.

The names in ``__all__`` are the public face. They are imported when they are first used: torch and RecBole load slowly.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

from recbole_dgrm.errors import UserError

if TYPE_CHECKING:
    from recbole_dgrm.benchmarks.session import benchmark
    from recbole_dgrm.benchmarks.watch import Diagnosis, diagnose
    from recbole_dgrm.config.layers import load_config
    from recbole_dgrm.plugin import register
    from recbole_dgrm.reports.benchmark_report import Report, report
    from recbole_dgrm.runs.trained_run import TrainedRun, load_run, resume, train
    from recbole_dgrm.tuning.tune import Search, tune

__version__ = "0.1.0"
__all__ = [
    "Diagnosis",
    "Report",
    "Search",
    "TrainedRun",
    "UserError",
    "benchmark",
    "diagnose",
    "load_config",
    "load_run",
    "register",
    "report",
    "resume",
    "train",
    "tune",
]
HOMES = {
    "benchmarks.session": ("benchmark",),
    "benchmarks.watch": ("Diagnosis", "diagnose"),
    "config.layers": ("load_config",),
    "plugin": ("register",),
    "reports.benchmark_report": ("Report", "report"),
    "runs.trained_run": ("TrainedRun", "load_run", "resume", "train"),
    "tuning.tune": ("Search", "tune"),
}  # the module of each public name

# Threads of torch that wait for each other spin long, which on a machine with other work takes several times as long as
# the work; with this they spin briefly and sleep (measured in docs/scale.md). OpenMP reads it once, when torch is
# loaded, so it is set in the first lines that any command or worker runs.
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")  # whoever has set one has chosen
if not any(name in os.environ for name in WAITING):
    os.environ[WAITING[0]] = "1000"


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next(home for home, names in HOMES.items() if name in names)
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
