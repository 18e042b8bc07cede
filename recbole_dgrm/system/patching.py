"""Replace what a module of another library uses, in that module alone."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any


class Altered:
    """A library in which some functions are replaced; one module of RecBole gets it in place of the original."""

    def __init__(self, library: ModuleType, **functions: Callable[..., Any]):
        self._library = library
        vars(self).update(functions)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._library, name)


@contextmanager
def replaced(home: ModuleType | type, name: str, value: Any) -> Iterator[None]:
    """Within the block, ``name`` of a module or a class is ``value``."""
    original = getattr(home, name)
    setattr(home, name, value)
    try:
        yield
    finally:
        setattr(home, name, original)
