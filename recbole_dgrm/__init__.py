"""Generative recommenders on rating data, as a RecBole plugin.

The names in ``__all__`` are the public API. They are imported at first use, because torch and RecBole load slowly.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from recbole_dgrm.errors import UserError, explained
from recbole_dgrm.start import __version__

if TYPE_CHECKING:
    from recbole_dgrm.benchmarks.session import benchmark
    from recbole_dgrm.benchmarks.watch import diagnose
    from recbole_dgrm.config.layers import load_config
    from recbole_dgrm.plugin import register
    from recbole_dgrm.reports.benchmark_report import Report, report
    from recbole_dgrm.reports.collapse_report import Diagnosis
    from recbole_dgrm.runs.compare import compare, split
    from recbole_dgrm.runs.trained_run import TrainedRun, load_run, resume, train
    from recbole_dgrm.tuning.search import tune
    from recbole_dgrm.tuning.study import Search

__all__ = [
    "Diagnosis",
    "Report",
    "Search",
    "TrainedRun",
    "UserError",
    "__version__",
    "benchmark",
    "compare",
    "diagnose",
    "load_config",
    "load_run",
    "register",
    "report",
    "resume",
    "split",
    "train",
    "tune",
]
HOMES = {
    "benchmarks.session": ("benchmark",),
    "benchmarks.watch": ("diagnose",),
    "config.layers": ("load_config",),
    "plugin": ("register",),
    "reports.benchmark_report": ("Report", "report"),
    "reports.collapse_report": ("Diagnosis",),
    "runs.compare": ("compare", "split"),
    "runs.trained_run": ("TrainedRun", "load_run", "resume", "train"),
    "tuning.search": ("tune",),
    "tuning.study": ("Search",),
}  # the module of each public name


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = next(home for home, names in HOMES.items() if name in names)
    with explained():
        return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
