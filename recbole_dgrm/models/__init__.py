"""A file or a folder for each model; ``base.py`` has what they share, ``registry.py`` the table of their names.

The classes in ``__all__`` are base classes for your own models. They are imported at first use, because some modules of
this package work without RecBole.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from recbole_dgrm.models.base import Phase, ProfileRecommender
    from recbole_dgrm.models.dgrm.model import DGRM
    from recbole_dgrm.models.dgrmplus.model import DGRMPlus
    from recbole_dgrm.models.mf import MF

__all__ = ["DGRM", "MF", "DGRMPlus", "Phase", "ProfileRecommender"]
HOMES = {"DGRM": "dgrm.model", "DGRMPlus": "dgrmplus.model", "MF": "mf", "Phase": "base", "ProfileRecommender": "base"}


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{HOMES[name]}"), name)
