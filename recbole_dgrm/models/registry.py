"""Which models there are: one explicit table."""

from importlib import import_module
from importlib.util import find_spec

from recbole_dgrm.errors import UnknownModel
from recbole_dgrm.models.cfgan import CFGAN
from recbole_dgrm.models.dgrm.model import DGRM, DGRMKL, DGRMPlus
from recbole_dgrm.models.diffrec import DiffRec
from recbole_dgrm.models.icdae import ICDAE
from recbole_dgrm.models.mf import MF
from recbole_dgrm.models.ncf import NCF
from recbole_dgrm.models.prgan import PRGAN

GENERAL = "recbole.model.general_recommender"


MODELS = {model.__name__: model for model in (DGRM, DGRMPlus, DGRMKL, MF, NCF, ICDAE, DiffRec, CFGAN, PRGAN)}


def model_class(name: str) -> type:
    """The model called ``name``: ours, else RecBole's general recommender of that name.

    Raises:
        UnknownModel: there is none, or it needs a library that is not installed.
    """
    if name in MODELS:
        return MODELS[name]
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
