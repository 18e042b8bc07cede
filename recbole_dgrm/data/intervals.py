"""Intervals in RecBole's notation, ``[5,inf)`` or ``(0,1];[3,4)``, checked: RecBole only warns about a wrong one."""

import math
import re
from contextlib import suppress
from typing import Any

from recbole_dgrm.errors import OptionError

INTERVAL = re.compile(r"\s*([\[(])\s*([^\s,]+)\s*,\s*([^\s,]+)\s*([\])])\s*")


def as_text(value: Any) -> Any:
    """The text of an interval that YAML has read as a list of two numbers; anything else is returned as it is."""
    pair = isinstance(value, list) and len(value) == 2 and isinstance(value[0], (int, float))
    return f"[{value[0]},{value[1]}]" if pair else value


def check_intervals(key: str, value: Any) -> list[tuple[str, float, float, str]]:
    """Check the intervals of a filter on the values of a column: a text, or a list of two numbers, as YAML reads one.

    Returns:
        Of each interval its left bracket, its ends and its right bracket.

    Raises:
        OptionError: it is no interval, or an empty one.
    """
    value, found = as_text(value), []
    for part in value.split(";") if isinstance(value, str) else [""]:
        low = high = math.nan
        if match := INTERVAL.fullmatch(part):
            with suppress(ValueError):
                low, high = float(match[2]), float(match[3])
        if not match or not (low < high or (low == high and match[1] + match[4] == "[]")):
            said = "is no interval like '[5,inf)', '(0,1]' or '[1,2];[4,5]', lower end first"
            raise OptionError(f"{key}={value!r} {said}")
        found.append((match[1], low, high, match[4]))
    return found


def check_counts(key: str, value: Any) -> None:
    """Check the interval of a filter on how many ratings a user or an item has.

    Raises:
        OptionError: it is not one interval, or no number of ratings lies in it.
    """
    (left, low, high, right), *more = check_intervals(key, value)
    if more:
        raise OptionError(f"{key}={value!r} has {len(more) + 1} intervals; RecBole filters by one: '[5,inf)'")
    least = max(1, math.floor(low) + 1 if left == "(" or low % 1 else low) if math.isfinite(low) else math.nan
    if not (least < high or (least == high and right == "]")):
        raise OptionError(f"{key}={value!r} holds no number of ratings from 1, so nothing would be left")
