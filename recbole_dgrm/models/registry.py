"""Which models there are: ours by an explicit table, RecBole's by their names, those of others by module and class."""

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from recbole_dgrm.errors import UnknownModel
from recbole_dgrm.models.bmf.model import BMF
from recbole_dgrm.models.cfgan import CFGAN
from recbole_dgrm.models.dgrm.model import DGRM, DGRMKL
from recbole_dgrm.models.dgrmplus.model import DGRMPlus
from recbole_dgrm.models.diffrec import DiffRec
from recbole_dgrm.models.external import EXAMPLE, external_class, external_defaults, is_external
from recbole_dgrm.models.icdae import ICDAE
from recbole_dgrm.models.mf import MF
from recbole_dgrm.models.ncf import NCF
from recbole_dgrm.models.prgan import PRGAN
from recbole_dgrm.system.yaml_files import properties_dir

GENERAL = "recbole.model.general_recommender"
MODELS = {model.__name__: model for model in (DGRM, DGRMPlus, DGRMKL, BMF, MF, NCF, ICDAE, DiffRec, CFGAN, PRGAN)}


def model_class(name: str) -> type:
    """The class of the model called ``name``.

    It is one of ours, one that somebody else has written (``mypackage.linear:Linear``), or a general recommender of
    RecBole.

    Raises:
        UnknownModel: there is none, or it needs a library that is not installed.
    """
    if name in MODELS:
        return MODELS[name]
    if is_external(name):
        return external_class(name)
    path = f"{GENERAL}.{name.lower()}"
    try:
        return getattr(import_module(path), name)
    except ModuleNotFoundError as error:
        if not path.startswith(str(error.name)):
            raise UnknownModel(f"{name} needs the library {error.name}, which is not installed") from None
    except AttributeError:
        pass
    raise UnknownModel(
        f"there is no model {name!r}; ours: {', '.join(MODELS)}; "
        "RecBole's general recommenders go by their own names (BPR, LightGCN, EASE, ...), "
        f"and a model of your own by its module and class ({EXAMPLE})"
    )


def is_recbole(name: str) -> bool:
    """Whether RecBole has a general recommender of this name."""
    return find_spec(f"{GENERAL}.{name.lower()}") is not None


def is_ours(model: object) -> bool:
    """Whether a model is one of ours, whose predictions take no random numbers from torch's own generator."""
    return type(model) in MODELS.values()


def declares_options(name: str) -> bool:
    """Whether a model declares its keys in a dataclass ``Options``, as ours do and RecBole's do not.

    With ``feedback: rating`` the scores of such a model are ratings.
    """
    return hasattr(model_class(name), "Options")


def defaults_file(name: str) -> Path:
    """The YAML file of the keys of a model; RecBole's models have none here.

    Raises:
        UnknownModel: the model is none of ours, and has no module or no such file.
    """
    return external_defaults(name) if is_external(name) else properties_dir() / "model" / f"{name}.yaml"


def space_file(name: str) -> Path:
    """The YAML file of the search space that comes with a model.

    Raises:
        UnknownModel: none comes with it.
    """
    path = properties_dir() / "tuning" / f"{name}.yaml"
    if is_external(name) or not path.is_file():
        raise UnknownModel(
            f"no search space comes with {name}; name a YAML file with --space=FILE, in which a line like "
            "'learning_rate: {loguniform: [1e-4, 1e-2]}' stands for each key that is searched"
        )
    return path
