"""Many runs of one plan, each in a process of its own.

The public function ``recbole_dgrm.benchmark`` has the name of this package, so the package can be called as it.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any


class _Callable(ModuleType):
    """A module that is called as its function ``session.benchmark``."""

    def __call__(self, *args: Any, **keys: Any) -> Any:
        return import_module(f"{__name__}.session").benchmark(*args, **keys)


sys.modules[__name__].__class__ = _Callable
