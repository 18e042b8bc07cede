"""Workarounds that RecBole 1.2.1 needs with current versions of numpy, scipy, pandas and torch, with their reasons.

RecBole is no longer developed. We change it only where it fails, and only by subclasses or by the functions with which
``repairs`` replaces its own. ``recbole.quick_start`` is never imported: it imports ray, which is not installed on
Python 3.12 and later, and the version that RecBole pins does not work with numpy 2.

The modules of RecBole that import scikit-learn are loaded here, before any module of this folder. Commands and workers
load them without scikit-learn, which few models need and which takes a third of the loading time. A program that
imports the package may use scikit-learn itself, so it is not replaced there.
"""

from importlib import import_module

from recbole_dgrm.start import is_own_process
from recbole_dgrm.system.patching import in_place_of, late

# The functions of scikit-learn that RecBole imports, for SLIMElastic, NCEPLRec and AUC.
USED = {
    "sklearn.metrics": ("auc", "mean_absolute_error", "mean_squared_error"),
    "sklearn.linear_model": ("ElasticNet",),
    "sklearn.utils.extmath": ("randomized_svd",),
}
SKLEARN = {module: {name: late(module, name) for name in names} for module, names in USED.items()}
SKLEARN["sklearn.exceptions"] = {"ConvergenceWarning": UserWarning}  # its base class; SLIMElastic ignores the warning

with in_place_of(SKLEARN if is_own_process() else {}):
    for name in ("evaluator", "model.general_recommender"):
        import_module(f"recbole.{name}")
