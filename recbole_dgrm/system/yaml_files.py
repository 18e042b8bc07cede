"""YAML of strangers: plain values only, each written where it stands, of a size that is read in a moment."""

import re
from pathlib import Path
from typing import Any

import yaml

from recbole_dgrm.system.text_keys import TextKeys

LONGEST = 1 << 18  # characters of a document: a config has 5,000, and PyYAML reads so many in some three seconds
LARGEST = 4 * LONGEST  # bytes of a file; a character has four at most
DEEPEST = 32  # lists and mappings within each other; a config has 4
LONGEST_INTEGER = 100  # characters; Python takes no more than 4,300 digits back from a text, and no key needs 20


class YamlLoader(yaml.SafeLoader):
    """Safe YAML that reads ``1e-4`` as a number (YAML 1.1 wants ``1.0e-4``) and follows no reference.

    Of nine lines that name each other an alias makes a billion values, or one that holds itself; ``<<`` takes values
    from elsewhere; of a key that stands there twice the first would be lost without a word. All are refused.
    """

    def __init__(self, stream: Any):
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        """The next value, unless it refers to another or lies too deep."""
        event = self.peek_event()
        if getattr(event, "anchor", None) is not None:  # of an alias, too
            mark = "*" if isinstance(event, yaml.AliasEvent) else "&"
            raise yaml.YAMLError(
                f"{mark}{event.anchor} in line {event.start_mark.line + 1} refers to another place; anchors and "
                "aliases are not read: write the value itself, in quotes if it is a text"
            )
        if self._depth >= DEEPEST:
            raise yaml.YAMLError(f"it is nested more than {DEEPEST} deep in line {event.start_mark.line + 1}")
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_mapping(self, node: Any, deep: bool = False) -> dict:
        """The mapping of ``node``, whose keys all differ."""
        for key, _ in node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                line = key.start_mark.line + 1
                raise yaml.YAMLError(
                    f"<< in line {line} takes keys from elsewhere, which is not read: write them there"
                )
        mapping = super().construct_mapping(node, deep)
        if len(mapping) < len(node.value):
            names = [str(key.value) for key, _ in node.value]
            twice = next((name for name in names if names.count(name) > 1), names[-1])
            raise yaml.YAMLError(f"the key {twice!r} stands twice below line {node.start_mark.line + 1}; keep one")
        return mapping

    def construct_yaml_int(self, node: Any) -> int:
        """An integer of usual length."""
        if len(node.value) > LONGEST_INTEGER:
            raise yaml.YAMLError(f"an integer of {len(node.value)} characters in line {node.start_mark.line + 1}")
        return super().construct_yaml_int(node)


YamlLoader.add_constructor("tag:yaml.org,2002:int", YamlLoader.construct_yaml_int)
YamlLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9][0-9_]*(\.[0-9_]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


def load_yaml(text: str, texts: TextKeys | None = None, key: str = "") -> Any:
    """The one document of ``text``; only plain values can come out.

    Args:
        texts: keys whose values stay the texts that were written.
        key: whose value the document is, if it is no mapping of keys.

    Raises:
        yaml.YAMLError: the text is not YAML, holds anything but plain values, or refers to itself; see
            ``YamlLoader``.
    """
    if len(text) > LONGEST:
        raise yaml.YAMLError(f"it is longer than {LONGEST:,} characters")
    loader = YamlLoader(text)
    try:
        node = loader.get_single_node()
        if texts and node:
            texts.keep_value(key, node)
        return loader.construct_document(node) if node else None
    except yaml.YAMLError:
        raise
    except Exception as error:  # its constructors raise what they meet: '!!bool x' a KeyError, 2001-99-99 a ValueError
        raise yaml.YAMLError(f"{type(error).__name__}: {error}") from error
    finally:
        loader.dispose()


def properties_dir() -> Path:
    """``properties/`` of an installed wheel, else of the checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "properties", package.parent / "properties"):
        if (folder / "overall.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no properties/ beside or in {package}: the installation is incomplete")
