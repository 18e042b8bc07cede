"""What values read from a file may be: forms of JSON, each a function that says where a value departs from it.

A form takes a value and its name (empty: the whole file), and returns a sentence about the first departure, or None.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

Form = Callable[[Any, str], str | None]
DEEPEST = 32  # lists and mappings within each other; a record has 6
SHOWN = 40  # characters of a value that departs


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text: numbers that a float can hold, texts that a file can hold, nested a few times.

    Raises:
        ValueError: it is no JSON, or more than that.
    """
    try:
        value = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("nested too deep") from None
    _check_plain(value, DEEPEST)
    return value


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _check_plain(value: Any, depth: int) -> None:
    if isinstance(value, str):
        value.encode()  # halves of surrogate pairs are no text
    elif isinstance(value, (int, float)) and not -1e308 <= value <= 1e308:
        raise ValueError("a number beyond 1e308")
    elif isinstance(value, (dict, list)):
        if not depth:
            raise ValueError(f"nested more than {DEEPEST} deep")
        for item in [*value, *value.values()] if isinstance(value, dict) else value:
            _check_plain(item, depth - 1)


def _below(name: str, key: str) -> str:
    return f"{name} {key}" if name else key


def _departs(value: Any, name: str, wanted: str) -> str:
    text = json.dumps(value, default=str)
    return f"{name or 'it'} is {text if len(text) <= SHOWN else text[:SHOWN] + '...'}, not {wanted}"


def number(low: float = -math.inf, high: float = math.inf, none: bool = False, whole: bool = False) -> Form:
    """A number from ``low`` to ``high``; a whole one, or None, where that is said."""
    wanted = ("a whole number" if whole else "a number") + (" or null" if none else "")
    if (low, high) != (-math.inf, math.inf):
        wanted += f" from {low:g} to {high:g}"

    def check(value: Any, name: str) -> str | None:
        fits = isinstance(value, int if whole else (int, float)) and not isinstance(value, bool)
        return None if (none and value is None) or (fits and low <= value <= high) else _departs(value, name, wanted)

    return check


def text(none: bool = False, of: tuple[str, ...] = ()) -> Form:
    """A text; one ``of`` some, or None, where that is said."""

    def check(value: Any, name: str) -> str | None:
        fits = isinstance(value, str) and (not of or value in of)
        return None if fits or (none and value is None) else _departs(value, name, " or ".join(of) or "a text")

    return check


def each(form: Form) -> Form:
    """A list of values of one form."""

    def check(value: Any, name: str) -> str | None:
        if not isinstance(value, list):
            return _departs(value, name, "a list")
        return next((said for n, item in enumerate(value) if (said := form(item, f"{name}[{n}]"))), None)

    return check


def table(form: Form) -> Form:
    """Values of one form, by name."""

    def check(value: Any, name: str) -> str | None:
        if not isinstance(value, dict):
            return _departs(value, name, "keys and values")
        return next((said for key, item in value.items() if (said := form(item, _below(name, key)))), None)

    return check


def keys(optional: Mapping[str, Form], needed: Mapping[str, Form] | None = None) -> Form:
    """Keys with a form each; others may stand beside them."""
    forms = {**optional, **(needed or {})}

    def check(value: Any, name: str) -> str | None:
        if not isinstance(value, dict):
            return _departs(value, name, "keys and values")
        if missing := [key for key in needed or {} if key not in value]:
            return f"{name or 'it'} has no {missing[0]}"
        found = (form(value[key], _below(name, key)) for key, form in forms.items() if key in value)
        return next((said for said in found if said), None)

    return check
