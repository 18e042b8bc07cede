"""Read the values of keys from YAML files and the command line."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import yaml

from recbole_dgrm.config.recbole_keys import KINDS
from recbole_dgrm.errors import OptionError
from recbole_dgrm.options import LONGEST_NAME, Text
from recbole_dgrm.system import yaml_files
from recbole_dgrm.system.files import read_bytes

Layer = dict[str, Any]
TEXTS = {
    *("model", "dataset", "protocol", "baseline", "data_path", "output_dir", "encoding", "valid_metric"),
    *(key for key, kind in KINDS.items() if kind in (str, Text, Text | None) or str in get_args(kind)),
}  # keys whose type allows texts but not numbers
BRACKETS = "; a text with brackets, like '[5,inf)', needs quotes"


def read_yaml(path: Path) -> Layer:
    """The content of a YAML file as a dict, read safely and with ``1e-4`` as a number.

    A path ``properties/...`` that does not exist in the working directory is one in the package.
    """
    if path.parts[:1] == ("properties",) and not path.exists():
        path = yaml_files.properties_dir().joinpath(*path.parts[1:])
    try:
        text = read_bytes(path, yaml_files.LARGEST).decode()
    except (OSError, ValueError) as error:  # ValueError: not UTF-8, too large, or not a possible path
        raise OptionError(f"cannot read the config file {path}: {getattr(error, 'strerror', None) or error}") from None
    try:
        content = yaml_files.load_yaml(text) or {}
    except yaml.YAMLError as error:
        raise OptionError(f"{path} is not valid YAML: {' '.join(str(error).split())}{BRACKETS}") from None
    if not isinstance(content, dict):
        raise OptionError(f"{path} must have lines 'key: value', not a {type(content).__name__}")
    return content


def parse_line(line: Mapping[str, str]) -> Layer:
    """The values of a command line, each read by ``parse_value``."""
    return {key: parse_value(value, key) for key, value in line.items()}


def parse_value(text: str, key: str = "") -> Any:
    """A value of the command line, read as YAML: ``0.1``, ``[256, 64]``, ``true``, ``~``, ``1e-4``, a name.

    The value of a ``key`` for texts is not changed, so a ``dataset`` may be called ``007`` or ``on``.
    """
    if key in TEXTS:
        return _unquoted(text)
    try:
        return yaml_files.load_yaml(text)
    except yaml.YAMLError:
        shown = text if len(text) <= LONGEST_NAME else f"{text[:LONGEST_NAME]}..."
        raise OptionError(f"{shown!r} is not a YAML value; quote it as in --key='[1, 2]'{BRACKETS}") from None


def _unquoted(text: str) -> str | None:
    """A text as it was typed, without quotes around it; None for ``~`` and an empty text."""
    if text in ("", "~"):
        return None
    if text[0] in "'\"" and text[-1] == text[0]:
        with suppress(yaml.YAMLError):  # such as '"a" and "b"', which is not one quoted text
            return yaml.safe_load(text)
    return text
