"""Intervals in RecBole's notation, ``[5,inf)`` or ``(0,1];[3,4)``; RecBole itself only warns about wrong ones."""

import re
from typing import Any

from recbole_dgrm.errors import OptionError

INTERVAL = re.compile(r"\s*[\[(]\s*([^\s,]+)\s*,\s*([^\s,]+)\s*[\])]\s*")


def as_text(value: Any) -> Any:
    """The text of an interval that YAML has read as a list of two numbers; other values are returned unchanged."""
    pair = isinstance(value, list) and len(value) == 2 and isinstance(value[0], (int, float))
    return f"[{value[0]},{value[1]}]" if pair else value


def check_interval(key: str, value: Any) -> None:
    """Check the intervals of a filter: a text, or a list of two numbers as YAML reads ``[1,5]``; low ends first."""
    for part in str(as_text(value)).split(";"):
        try:
            low, high = map(float, INTERVAL.fullmatch(part).groups())  # type: ignore[union-attr]
            is_interval = low <= high
        except (AttributeError, ValueError):
            is_interval = False
        if not is_interval:
            raise OptionError(f"{key}={value!r} is not an interval like '[5,inf)', '(0,1]' or '[1,2];[4,5]'")
