"""Models that somebody else has written: named by module and class, with a YAML file of their keys beside the module.

The name may come from the config of a run directory that a stranger has made, and importing a module runs its code. So
only a module is imported that has the YAML file of the named model beside it, which no other module has. The file is
looked for without importing anything.
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
    """Whether ``name`` says the module and the class of a model, which is then neither ours nor RecBole's."""
    return bool(MODULE_AND_CLASS.fullmatch(name)) and len(name.encode()) <= LONGEST_NAME


def external_class(name: str) -> type:
    """Import the class of the model ``name``.

    Raises:
        UnknownModel: there is none, or it needs a library that is not installed.
    """
    module, _, cls = name.partition(":")
    external_defaults(name)
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


def external_defaults(name: str) -> Path:
    """The YAML file of the keys of the model ``name``: its class's name, in the folder of its module.

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
            f"the model {name} has no file {path}; write one with a line 'key: value  # (type) meaning' for each "
            "key, or an empty one"
        )
    return path


def _folder_of(module: str) -> Path | None:
    """The folder of the file of a module, found without importing it or the packages above it."""
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
