"""YAML from any source: plain values only, no references, and a limited size."""

import re
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

LONGEST = 1 << 18  # characters of a document: a config has 5,000, and PyYAML needs about three seconds for the limit
LARGEST = 4 * LONGEST  # bytes of a file; a character has at most four


class YamlLoader(yaml.SafeLoader):
    """Safe YAML that reads ``1e-4`` as a number (YAML 1.1 requires ``1.0e-4``), without aliases and repeated keys.

    Nine lines of aliases can expand to a billion values, and of a repeated key all values but the last would be lost
    silently. Both raise an error.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Read the next value, unless it refers to another one."""
        event = self.peek_event()
        if getattr(event, "anchor", None) is not None:  # anchors and aliases
            mark = "*" if isinstance(event, yaml.AliasEvent) else "&"
            raise yaml.YAMLError(
                f"{mark}{event.anchor} in line {event.start_mark.line + 1} refers to another place; anchors and "
                "aliases are not read: write the value itself, in quotes if it is a text"
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        """The mapping of ``node``; a repeated key raises an error."""
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            names = [str(key.value) for key, _ in node.value]
            twice = next((name for name in names if names.count(name) > 1), names[-1])
            raise yaml.YAMLError(f"the key {twice!r} occurs twice below line {node.start_mark.line + 1}; keep one")
        return mapping


YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def load_yaml(text: str) -> Any:
    """The single document in ``text``, as plain values; otherwise, or if it is too long, a ``yaml.YAMLError``."""
    if len(text) > LONGEST:
        raise yaml.YAMLError(f"it is longer than {LONGEST:,} characters")
    return deepcopy(_parsed(text))


@lru_cache(64)  # a config has ten files of defaults, and PyYAML takes longer than all the rest of it
def _parsed(text: str) -> Any:
    loader = YamlLoader(text)
    try:
        return loader.get_single_data()
    except yaml.YAMLError:
        raise
    except Exception as error:  # PyYAML raises KeyError for '!!bool x', ValueError for 2001-99-99, RecursionError
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from error
    finally:
        loader.dispose()


def properties_dir() -> Path:
    """The folder ``properties/`` of the installed wheel, or else of the checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "properties", package.parent / "properties"):
        if (folder / "overall.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no properties/ next to or in {package}: the installation is incomplete")
