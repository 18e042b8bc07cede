"""Which models there are: one explicit table, and how RecBole learns of it."""

import sys
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec

import recbole.trainer
from recbole.trainer import Trainer
from recbole.utils import get_trainer

from recbole_dgrm import compat, metrics, parallel
from recbole_dgrm.errors import OptionError, UnknownModel
from recbole_dgrm.models.cfgan import CFGAN
from recbole_dgrm.models.dgrm import DGRM, DGRMKL, DGRMPlus
from recbole_dgrm.models.diffrec import DiffRec
from recbole_dgrm.models.icdae import ICDAE
from recbole_dgrm.models.mf import MF
from recbole_dgrm.models.ncf import NCF
from recbole_dgrm.models.prgan import PRGAN
from recbole_dgrm.run_mixin import RunMixin
from recbole_dgrm.trainers import AlternatingTrainer, PlainTrainer, SweepTrainer

GENERAL = "recbole.model.general_recommender"


@dataclass(frozen=True)
class Entry:
    """A model of ours and the trainer class that walks its phases."""

    model: type
    trainer: type[Trainer]


MODELS = {
    "DGRM": Entry(DGRM, AlternatingTrainer),
    "DGRMPlus": Entry(DGRMPlus, AlternatingTrainer),
    "DGRMKL": Entry(DGRMKL, AlternatingTrainer),
    "MF": Entry(MF, SweepTrainer),
    "NCF": Entry(NCF, PlainTrainer),
    "ICDAE": Entry(ICDAE, AlternatingTrainer),
    "DiffRec": Entry(DiffRec, AlternatingTrainer),
    "CFGAN": Entry(CFGAN, AlternatingTrainer),
    "PRGAN": Entry(PRGAN, AlternatingTrainer),
}


def register() -> None:
    """Make our models, trainers and metrics known to RecBole by name. Safe to call again.

    RecBole looks a model up as module ``GENERAL.<lower case name>`` and its trainer as
    ``recbole.trainer.<Name>Trainer``; both are set, so ``get_model("DGRM")`` works. A name that RecBole
    has itself (DiffRec) stays RecBole's there.
    """
    compat.prepare()
    metrics.register()
    for name, entry in MODELS.items():
        ours = sys.modules[entry.model.__module__]
        if sys.modules.setdefault(f"{GENERAL}.{name.lower()}", ours) is ours:
            setattr(recbole.trainer, f"{name}Trainer", entry.trainer)


def model_class(name: str) -> type:
    """The model called ``name``: ours, else RecBole's general recommender of that name.

    Raises:
        UnknownModel: there is none, or it needs a library that is not installed.
    """
    if name in MODELS:
        return MODELS[name].model
    path = f"{GENERAL}.{name.lower()}"
    try:
        return getattr(import_module(path), name)
    except ModuleNotFoundError as error:
        if error.name != path:
            raise UnknownModel(f"{name} needs the library {error.name}, which is not installed") from None
    except AttributeError:
        pass
    raise UnknownModel(
        f"there is no model {name!r}; ours: {', '.join(MODELS)}; "
        "RecBole's general recommenders go by their own names (BPR, LightGCN, EASE, ...)"
    )


def is_recbole(name: str) -> bool:
    """Whether RecBole has a general recommender of this name."""
    return find_spec(f"{GENERAL}.{name.lower()}") is not None


def trainer_class(name: str) -> type[Trainer]:
    """The trainer of a model; RecBole's own trainers get our files, checkpoints and resume."""
    if name in MODELS:
        return MODELS[name].trainer
    theirs = get_trainer(model_class(name).type, name)
    return type(theirs.__name__, (RunMixin, theirs), {})


def check_processes(name: str) -> None:
    """Refuse a model that the processes there are cannot train together.

    Raises:
        OptionError: why, and the remedy.
    """
    if parallel.size() == 1:
        return
    if not issubclass(trainer_class(name), AlternatingTrainer):
        reason = "only models that declare their training in phases can"
    elif not (reason := model_class(name).undivided):
        return
    able = [other for other, entry in MODELS.items() if issubclass(entry.trainer, AlternatingTrainer)
            and not entry.model.undivided]  # fmt: skip
    raise OptionError(
        f"{name} cannot be trained by {parallel.size()} processes: {reason}; start it without torchrun, "
        f"or take one of {', '.join(able)}"
    )
