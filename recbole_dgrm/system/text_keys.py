"""Keys whose values are texts: they stay as written, even where YAML would read a number, a date or true or false."""

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

import yaml

GUESSED = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("bool", "float", "int", "timestamp"))
TEXT = "tag:yaml.org,2002:str"


@dataclass(frozen=True)
class TextKeys:
    """Keys whose value may be a text, and those whose value may be a list of texts."""

    scalars: frozenset[str]
    lists: frozenset[str]

    @classmethod
    def of(cls, hints: Mapping[str, Any]) -> Self:
        """The keys among ``hints`` whose (annotated) type allows a text, but no number, or a list of texts."""
        parts = {key: _parts(hint) for key, hint in hints.items()}
        return cls(
            frozenset(key for key, kinds in parts.items() if str in kinds and not kinds & {int, float}),
            frozenset(key for key, kinds in parts.items() if list[str] in kinds),
        )

    def keep(self, node: yaml.Node, key: Any = "", listed: bool = False) -> None:
        """Let every value of these keys in ``node`` be the text that was written.

        ``dataset: 2024_01`` is then the text ``2024_01`` and not the number 202401; ``~`` stays empty.

        Args:
            node: the value of ``key``, or an item of its list where ``listed``.
        """
        if isinstance(node, yaml.MappingNode):
            for name, value in node.value:
                self.keep(value, name.value)
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                self.keep(item, key, listed=True)
        elif key in (self.lists if listed else self.scalars) and node.tag in GUESSED and node.style is None:
            node.tag = TEXT


def _parts(hint: Any) -> set[Any]:
    """The plain types that a value of the (annotated) type ``hint`` may have."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _parts(arguments[0])
    if origin is Literal:
        return set(map(type, arguments))
    return set().union(*map(_parts, arguments)) if origin in (Union, UnionType) else {hint}


def unquoted(text: str) -> str | None:
    """A text as typed, without quotes around the whole of it; None for ``~`` and for nothing."""
    if text in ("", "~"):
        return None
    if text[0] in "'\"" and text[-1] == text[0]:
        with suppress(yaml.YAMLError):  # as '"a" and "b"', which is not one quoted text
            return yaml.safe_load(text)
    return text
