"""Keys whose value is a text: it stays as it was written, though YAML would read a number, a date or a truth in it."""

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
        """Those of some (annotated) types."""
        parts = {key: _parts(hint) for key, hint in hints.items()}
        return cls(
            frozenset(key for key, kinds in parts.items() if str in kinds),
            frozenset(key for key, kinds in parts.items() if list[str] in kinds),
        )

    def __or__(self, other: "TextKeys") -> "TextKeys":
        return TextKeys(self.scalars | other.scalars, self.lists | other.lists)

    def keep(self, node: yaml.Node | None) -> None:
        """Below ``node`` let every value of these keys be the text that was written.

        ``dataset: 2024_01`` is then the text ``2024_01`` and not the number 202401; ``~`` stays empty.
        """
        if isinstance(node, yaml.SequenceNode):
            for part in node.value:
                self.keep(part)
        elif isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                self.keep_value(key.value, value)

    def keep_value(self, key: Any, node: yaml.Node) -> None:
        """The same for ``node``, the value of ``key``."""
        if isinstance(node, yaml.ScalarNode):
            _keep(node, key, self.scalars)
        for part in node.value if isinstance(node, yaml.SequenceNode) else []:
            _keep(part, key, self.lists)
        self.keep(node)


def _parts(hint: Any) -> set[Any]:
    """The plain types that a value of the (annotated) type ``hint`` may have."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _parts(arguments[0])
    if origin is Literal:
        return set(map(type, arguments))
    return set().union(*map(_parts, arguments)) if origin in (Union, UnionType) else {hint}


def _keep(node: yaml.Node, key: Any, keys: frozenset[str]) -> None:
    if key in keys and isinstance(node, yaml.ScalarNode) and node.style is None and node.tag in GUESSED:
        node.tag = TEXT


def unquoted(text: str) -> str | None:
    """What is typed for a text: as it is, but without quotes around the whole; None for ``~`` and for nothing."""
    if text in ("", "~"):
        return None
    if text[0] in "'\"" and text[-1] == text[0]:
        with suppress(yaml.YAMLError):  # '"a" and "b"' is not one quoted text
            return yaml.safe_load(text)
    return text
