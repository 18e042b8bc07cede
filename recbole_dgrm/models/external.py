"""Models of other packages: named by module and class, with a YAML file of their keys in the folder of the module.

The name may come from the config of a run directory from an unknown source, and importing a module runs its code. So a
module is imported only if the YAML file of the named model is in its folder, as for no module that is not meant to be a
model. The file is searched without importing anything.
"""

import re
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from recbole.model.abstract_recommender import GeneralRecommender

from recbole_dgrm.errors import UnknownModel
from recbole_dgrm.options import LONGEST_NAME

EXAMPLE = "mypackage.linear:Linear"
MODULE_AND_CLASS = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_external(name: str) -> bool:
    """Whether ``name`` has the form ``module:Class``, as no model of ours or RecBole's has."""
    return bool(MODULE_AND_CLASS.fullmatch(name)) and len(name.encode()) <= LONGEST_NAME


def external_class(name: str) -> type:
    """Import the class of the model ``name``.

    Raises:
        UnknownModel: there is none, or it needs a library that is not installed.
    """
    module, _, cls = name.partition(":")
    external_defaults(name)
    try:
        model = getattr(import_module(module), cls, None)
    except ModuleNotFoundError as error:
        raise UnknownModel(f"{name} needs the module {error.name}, which is not installed") from error
    except Exception as error:
        raise UnknownModel(f"{module} cannot be imported ({type(error).__name__}: {error}); correct it") from error
    if not (isinstance(model, type) and issubclass(model, GeneralRecommender)):
        raise UnknownModel(
            f"{module} has no model {cls}: it must be a class that derives from ProfileRecommender or from RecBole's "
            "GeneralRecommender"
        )
    return model


def external_defaults(name: str) -> Path:
    """The YAML file of the keys of the model ``name``: ``Class.yaml`` in the folder of its module.

    Raises:
        UnknownModel: there is no such module, or no such file.
    """
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


def _folder_of(module: str) -> Path | None:
    """The folder of a module's file, without importing the module or its parent packages; None if there is none."""
    top, *rest = module.split(".")
    try:
        spec = find_spec(top)
    except ValueError:  # __main__ has no spec
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
