"""Replace functions or imports of a single module of another library."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


class Altered:
    """A library with some functions replaced; a module of RecBole gets it instead of the original."""

    def __init__(self, library: ModuleType, **functions: Callable[..., Any]):
        self._library = library
        vars(self).update(functions)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)


def late(module: str, function: str) -> Callable[..., Any]:
    """A function that imports ``module`` when it is called, and calls its ``function``."""
    return lambda *arguments, **options: getattr(import_module(module), function)(*arguments, **options)


@contextmanager
def in_place_of(modules: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Within the block, importing one of the ``modules`` returns a module with the given contents and loads nothing.

    A module that is already imported is not replaced.
    """
    added = [name for name in modules if name not in sys.modules]
    for name in added:
        sys.modules[name] = ModuleType(name)
        vars(sys.modules[name]).update(modules[name])
    try:
        yield
    finally:
        for name in added:
            del sys.modules[name]
