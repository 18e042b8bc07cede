"""Models by name: ours from a table, RecBole's by their class names, others by module and class.

The name of a model of another package may come from the config of a run directory from an unknown source, and importing
a module runs its code. So a module is imported only if its folder has the YAML file of the named model, which folders
of other modules do not have. The file is searched without importing anything.
"""

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from recbole.model.abstract_recommender import GeneralRecommender

from recbole_dgrm.errors import UnknownModel
from recbole_dgrm.models.bmf.model import BMF
from recbole_dgrm.models.cfgan import CFGAN
from recbole_dgrm.models.dgrm.model import DGRM, DGRMKL
from recbole_dgrm.models.dgrmplus.model import DGRMPlus
from recbole_dgrm.models.diffrec import DiffRec
from recbole_dgrm.models.icdae import ICDAE
from recbole_dgrm.models.mf import MF
from recbole_dgrm.models.ncf import NCF
from recbole_dgrm.models.prgan import PRGAN
from recbole_dgrm.options import LONGEST_NAME
from recbole_dgrm.system.yaml_files import properties_dir

EXAMPLE = "mypackage.linear:Linear"
MODULE_AND_CLASS = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")
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
        return _external_class(name)
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


def is_external(name: str) -> bool:
    """Whether ``name`` has the form ``module:Class``, as no model of ours or RecBole's has."""
    return bool(MODULE_AND_CLASS.fullmatch(name)) and len(name.encode()) <= LONGEST_NAME


def draws_nothing(model: object) -> bool:
    """Whether the predictions of a model use no random numbers of torch's generators; RecBole's models may use them."""
    return type(model) in MODELS.values() and not getattr(model, "sampling_noise", False)


def declares_options(name: str) -> bool:
    """Whether a model declares its keys in a dataclass ``Options``, as ours do and RecBole's do not.

    With ``feedback: rating`` such a model predicts ratings.
    """
    return hasattr(model_class(name), "Options")


def defaults_file(name: str) -> Path:
    """The YAML file of the keys of a model; for RecBole's models it does not exist.

    That of an external model has the name of its class, and is in the folder of its module.

    Raises:
        UnknownModel: the module of an external model, or its YAML file, does not exist.
    """
    if not is_external(name):
        return properties_dir() / "model" / f"{name}.yaml"
    module, _, cls = name.partition(":")
    folder = _folder_of(module)
    if folder is None:
        raise UnknownModel(
            f"there is no module {module} for the model {name}; install its package or name the folder of the package "
            "in PYTHONPATH (the working directory is not searched)"
        )
    if not (path := folder / f"{cls}.yaml").is_file():
        raise UnknownModel(
            f"the model {name} needs a file {path}; write one with a line 'key: value  # (type) meaning' for each "
            "key, or an empty one"
        )
    return path


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


def _external_class(name: str) -> type:
    """Import the class of the model ``name``.

    Raises:
        UnknownModel: there is none, or it needs a library that is not installed.
    """
    module, _, cls = name.partition(":")
    defaults_file(name)
    try:
        found = getattr(import_module(module), cls, None)
    except ModuleNotFoundError as error:
        raise UnknownModel(f"{name} needs the module {error.name}, which is not installed") from error
    except Exception as error:
        raise UnknownModel(f"{module} cannot be imported ({type(error).__name__}: {error}); correct it") from error
    if not (isinstance(found, type) and issubclass(found, GeneralRecommender)):
        raise UnknownModel(
            f"{module} has no model {cls}: it must be a class that derives from ProfileRecommender or from RecBole's "
            "GeneralRecommender"
        )
    return found


def _folder_of(module: str) -> Path | None:
    """The folder of a module's file, without importing the module or its parent packages; None if there is none."""
    top, *rest = module.split(".")
    try:
        spec = find_spec(top)
    except ValueError:  # __main__ has none
        spec = None
    if spec is None:
        return None
    if spec.submodule_search_locations is None:
        return Path(spec.origin).parent if spec.has_location and spec.origin and not rest else None
    for place in spec.submodule_search_locations:
        path = Path(place, *rest)
        if (path / "__init__.py").is_file():
            return path
        if path.with_suffix(".py").is_file():
            return path.parent
    return None
