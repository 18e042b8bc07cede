"""Models by name: ours from a table, RecBole's by their class names, others by module and class."""

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

    It is one of ours, one of another package (``mypackage.linear:Linear``), or a general recommender of RecBole.

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
        "RecBole's general recommenders have their own names (BPR, LightGCN, EASE, ...), "
        f"and a model of your own is named by module and class ({EXAMPLE})"
    )


def is_recbole(name: str) -> bool:
    """Whether RecBole has a general recommender of this name."""
    return find_spec(f"{GENERAL}.{name.lower()}") is not None


def is_ours(model: object) -> bool:
    """Whether a model is one of ours; their predictions do not use torch's global random generator."""
    return type(model) in MODELS.values()


def declares_options(name: str) -> bool:
    """Whether a model declares its keys in a dataclass ``Options``, as ours do and RecBole's do not.

    With ``feedback: rating`` such a model predicts ratings.
    """
    return hasattr(model_class(name), "Options")


def defaults_file(name: str) -> Path:
    """The YAML file of the keys of a model; for RecBole's models it does not exist.

    Raises:
        UnknownModel: the module of an external model, or its YAML file, does not exist.
    """
    return external_defaults(name) if is_external(name) else properties_dir() / "model" / f"{name}.yaml"


def space_file(name: str) -> Path:
    """The YAML file of the search space that this package has for a model.

    Raises:
        UnknownModel: it has none.
    """
    path = properties_dir() / "tuning" / f"{name}.yaml"
    if is_external(name) or not path.is_file():
        raise UnknownModel(
            f"no search space comes with {name}; name a YAML file with --space=FILE, which has a line like "
            "'learning_rate: {loguniform: [1e-4, 1e-2]}' for each key to search"
        )
    return path
