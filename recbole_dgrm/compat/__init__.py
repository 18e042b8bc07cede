"""What RecBole 1.2.1 needs on today's numpy, scipy, pandas and torch: every concession, with its reason.

RecBole is frozen upstream. We change it only where it breaks, and only through subclasses or the functions that
``repairs`` puts in the place of its own. ``recbole.quick_start`` is never imported: it imports ray, which is not
installed on Python 3.12 and later, and whose version that RecBole pins is broken by numpy 2.

What of RecBole imports scikit-learn is loaded here, before any module of this folder. A command or a worker loads it
without scikit-learn, which hardly a training needs and which takes a third of the loading time; a program that imports
the package may use scikit-learn itself, so there nothing is put in its place.
"""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

from recbole_dgrm.start import is_own_process

# What RecBole imports of scikit-learn, for SLIMElastic, NCEPLRec and AUC.
USED = {
    "sklearn.metrics": ("auc", "mean_absolute_error", "mean_squared_error"),
    "sklearn.linear_model": ("ElasticNet",),
    "sklearn.utils.extmath": ("randomized_svd",),
}


def _late(module: str, function: str) -> Callable[..., Any]:
    """A stand-in for a function of a module that is loaded when it is called."""
    return lambda *arguments, **options: getattr(import_module(module), function)(*arguments, **options)


@contextmanager
def _in_place_of(modules: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Within the block, importing one of the ``modules`` loads nothing and gives these contents.

    One that is loaded already stays as it is.
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
