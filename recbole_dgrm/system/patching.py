"""Replace what a module of another library uses or loads, in that module alone."""

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any


class Altered:
    """A library in which some functions are replaced; one module of RecBole gets it in place of the original."""

    def __init__(self, library: ModuleType, **functions: Callable[..., Any]):
        self._library = library
        vars(self).update(functions)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)


def late(module: str, function: str) -> Callable[..., Any]:
    """A stand-in for a function of a module that is loaded when it is called."""
    return lambda *arguments, **options: getattr(import_module(module), function)(*arguments, **options)


@contextmanager
def in_place_of(modules: Mapping[str, Mapping[str, Any]]) -> Iterator[None]:
    """Within the block, importing one of the ``modules`` loads nothing and gives these contents.

    One that is loaded already stays as it is.
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
