"""Intervals in RecBole's notation, ``[5,inf)`` or ``(0,1];[3,4)``, checked: RecBole only warns about a wrong one."""

import math
import re
from dataclasses import dataclass
from typing import Any

from recbole_dgrm.errors import OptionError

INTERVAL = re.compile(r"\s*([\[(])\s*([^\s,]+)\s*,\s*([^\s,]+)\s*([\])])\s*")
UNQUOTED = re.compile(r"""(?<!['"\w])(?:[\[(][^][(){},'"]*,[^][(){},'"]*[])];?)+(?!['"\w])""")


@dataclass(frozen=True)
class Interval:
    """The numbers from ``low`` to ``high``; each end belongs to it or not."""

    low: float
    high: float
    with_low: bool
    with_high: bool

    @property
    def empty(self) -> bool:
        """Whether no number lies in the interval, as also where an end is NaN."""
        return not (self.low < self.high or (self.low == self.high and self.with_low and self.with_high))

    @property
    def counts(self) -> range:
        """The whole numbers from 1 on that lie in the interval; of an endless one the first."""
        first = max(1, math.ceil(self.low) if self.with_low else math.floor(self.low) + 1)
        if math.isinf(self.high):
            return range(first, first + 1)
        return range(first, (math.floor(self.high) if self.with_high else math.ceil(self.high) - 1) + 1)


def as_text(value: Any) -> Any:
    """The text of an interval that YAML has read as a list of two numbers; anything else is returned as it is."""
    pair = isinstance(value, list) and len(value) == 2 and isinstance(value[0], (int, float))
    return f"[{value[0]},{value[1]}]" if pair else value


def read_intervals(value: Any) -> list[Interval]:
    """Read the intervals of a text, or of a list of two numbers, which is how YAML reads a closed interval.

    Raises:
        ValueError: the text is not of this form.
    """
    value, found = as_text(value), []
    for part in value.split(";") if isinstance(value, str) else [""]:
        if not (match := INTERVAL.fullmatch(part)):
            raise ValueError(part)
        left, low, high, right = match.groups()
        found.append(Interval(float(low), float(high), left == "[", right == "]"))
    return found


def check_intervals(key: str, value: Any) -> None:
    """Check the intervals of a filter on the values of a column.

    Raises:
        OptionError: it is no interval, or an empty one.
    """
    try:
        intervals = read_intervals(value)
    except ValueError:
        intervals = []
    if not intervals or any(interval.empty for interval in intervals):
        raise OptionError(f"{key}={value!r} is no interval like '[5,inf)', '(0,1]' or '[1,2];[4,5]', lower end first")


def check_counts(key: str, value: Any) -> None:
    """Check the interval of a filter on how many ratings a user or an item has.

    Raises:
        OptionError: it is not one interval, or no number of ratings lies in it.
    """
    check_intervals(key, value)
    intervals = read_intervals(value)
    if len(intervals) > 1:
        raise OptionError(f"{key}={value!r} has {len(intervals)} intervals; RecBole filters by one: '[5,inf)'")
    if math.isinf(intervals[0].low) or not intervals[0].counts:
        raise OptionError(f"{key}={value!r} holds no number of ratings from 1, so nothing would be left")


def quoted(text: str) -> str:
    """Put intervals with a round bracket into quotes, as in ``{rating: [3,inf)}``, which YAML needs."""
    return UNQUOTED.sub(lambda match: f'"{match[0]}"' if set("()") & set(match[0]) else match[0], text)
