"""What RecBole 1.2.1 needs on today's numpy, scipy, pandas and torch: every concession, with its reason.

RecBole is frozen upstream. We change it only where it breaks, and only through subclasses or the functions that
``repairs`` puts in the place of its own. ``recbole.quick_start`` is never imported: it imports ray, which is not
installed on Python 3.12 and later, and whose version that RecBole pins is broken by numpy 2.

What of RecBole imports scikit-learn is loaded here, before any module of this folder. A command or a worker loads it
without scikit-learn, which hardly a training needs and which takes a third of the loading time; a program that imports
the package may use scikit-learn itself, so there nothing is put in its place.
"""

from importlib import import_module

from recbole_dgrm.start import is_own_process
from recbole_dgrm.system.patching import in_place_of, late

# What RecBole imports of scikit-learn, for SLIMElastic, NCEPLRec and AUC.
USED = {
    "sklearn.metrics": ("auc", "mean_absolute_error", "mean_squared_error"),
    "sklearn.linear_model": ("ElasticNet",),
    "sklearn.utils.extmath": ("randomized_svd",),
}
SKLEARN = {module: {name: late(module, name) for name in names} for module, names in USED.items()}
SKLEARN["sklearn.exceptions"] = {"ConvergenceWarning": UserWarning}  # what it is, to SLIMElastic, which ignores it

with in_place_of(SKLEARN if is_own_process() else {}):
    for name in ("evaluator", "model.general_recommender"):
        import_module(f"recbole.{name}")
