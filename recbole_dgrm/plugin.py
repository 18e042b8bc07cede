"""How RecBole learns of our models, their trainers and our metrics."""

import sys

import recbole.trainer

from recbole_dgrm import compat
from recbole_dgrm.evaluation import recbole_metrics
from recbole_dgrm.models.registry import GENERAL, MODELS
from recbole_dgrm.training.trainers import trainer_class


def register() -> None:
    """Make our models, trainers and metrics known to RecBole by name. Safe to call again.

    RecBole looks a model up as module ``GENERAL.<lower case name>`` and its trainer as
    ``recbole.trainer.<Name>Trainer``; both are set, so ``get_model("DGRM")`` works. A name that RecBole
    has itself (DiffRec) stays RecBole's there.
    """
    compat.prepare()
    recbole_metrics.register()
    for name, model in MODELS.items():
        ours = sys.modules[model.__module__]
        if sys.modules.setdefault(f"{GENERAL}.{name.lower()}", ours) is ours:
            setattr(recbole.trainer, f"{name}Trainer", trainer_class(model))
