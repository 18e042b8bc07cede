"""Workarounds that RecBole 1.2.1 needs with current versions of numpy, scipy, pandas and torch, with their reasons.

RecBole is no longer developed. We change it only where it fails, and only by subclasses or by the functions with which
``repairs`` replaces its own. ``recbole.quick_start`` is never imported: it imports ray, which is not installed on
Python 3.12 and later, and the version that RecBole pins does not work with numpy 2.

The modules of RecBole that import scikit-learn are loaded here, before any module of this folder. Commands and workers
load them without scikit-learn, which few models need and which takes a third of the loading time. A program that
imports the package may use scikit-learn itself, so it is not replaced there.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from recbole_dgrm.start import is_own_process

# The functions of scikit-learn that RecBole imports, for SLIMElastic, NCEPLRec and AUC.
USED = {
    "sklearn.metrics": ("auc", "mean_absolute_error", "mean_squared_error"),
    "sklearn.linear_model": ("ElasticNet",),
    "sklearn.utils.extmath": ("randomized_svd",),
}


def _late(module: str, function: str) -> Callable[..., Any]:
    """A function that imports ``module`` when it is called, and calls its ``function``."""
    return lambda *arguments, **options: getattr(import_module(module), function)(*arguments, **options)


@contextmanager
def _in_place_of(modules: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Within the block, importing one of the ``modules`` returns a module with the given contents and loads nothing.

    A module that is already imported is not replaced.
    """
    added = [name for name in modules if name not in sys.modules]
    for name in added:
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(modules[name])
    try:
        yield
    finally:
        for name in added:
            del sys.modules[name]


SKLEARN = {module: {name: _late(module, name) for name in names} for module, names in USED.items()}
SKLEARN["sklearn.exceptions"] = {"ConvergenceWarning": UserWarning}  # what it is, to SLIMElastic, which ignores it

with _in_place_of(SKLEARN if is_own_process() else {}):
    for name in ("evaluator", "model.general_recommender"):
        import_module(f"recbole.{name}")
