"""Columns of any type as ids, numbers and times; values that are none are refused with their place."""

import logging
import math
import re
import sys
from collections.abc import Callable, Collection
from contextlib import suppress
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas._libs.parsers import STR_NA_VALUES

from recbole_dgrm.errors import DataError
from recbole_dgrm.options import LARGEST_RATING

LOG = logging.getLogger(__name__)
MISSING = frozenset(STR_NA_VALUES)  # texts that pandas, and with it RecBole, takes for a missing value
DAYS = (19000101, 21001231)  # a number between them, of eight digits, is a day
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
UNWRITABLE = {re.compile("[\t\n\r\0]"): "a tab or a line break", re.compile("[\ud800-\udfff]"): "half a surrogate pair"}
NUMBERS = (int, float, Decimal, np.integer, np.floating)
LARGEST_ID = 1e30  # of ids that are numbers


def _distinct(column: pd.Series) -> tuple[NDArray[np.intp], list[Any]]:
    """For each row the place of its value among the distinct values, -1 where it is missing; and these values."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(), list(column.cat.categories)
    kinds = set(map(type, column)) if column.dtype == object else set()
    if Decimal in kinds:  # pandas cannot ask whether a signalling NaN is missing
        cells = [None if isinstance(one, Decimal) and one.is_nan() else one for one in column]
        column = pd.Series(cells, column.index, object)
    with suppress(TypeError, NotImplementedError, OverflowError):  # lists and the like; huge integers
        if kinds.isdisjoint((bool, np.bool_)):  # True would be taken for 1
            places, values = pd.factorize(column)
            return places, list(values)
    return np.where(column.isna(), -1, np.arange(len(column))), list(column)


def _each(column: pd.Series, make: Callable[[Any], Any], missing: Any, dtype: Any) -> NDArray:
    """What ``make`` makes of each value, ``(n,)``; it is called once for each distinct value."""
    places, values = _distinct(column)
    found = np.empty(len(values) + 1, dtype)
    found[:-1], found[-1] = [make(one) for one in values] or found[:-1], missing
    return found[places]


def with_text(column: pd.Series, texts: Collection[str]) -> NDArray[np.bool_]:
    """Which values are one of these texts, ``(n,)``."""
    return _each(column, lambda one: isinstance(one, str) and one in texts, False, bool)


def id_text(value: Any) -> str | None:
    """The text of an id: a text itself, or a whole number of any type; None for what is no id."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, NUMBERS):
        return None
    if value.is_nan() if isinstance(value, Decimal) else value != value:
        return None
    largest = 2.0**53 if isinstance(value, (float, np.floating)) else LARGEST_ID
    return str(int(value)) if -largest < value < largest and value == int(value) else None


def ids(column: pd.Series, where: str) -> pd.Series:
    """Ids as categories of texts.

    Raises:
        DataError: an id is missing, is neither a text nor a whole number, or cannot be written.
    """
    places, values = _distinct(column)
    texts = [id_text(one) for one in values]
    kept, names = pd.factorize(np.array([*texts, None], object))
    codes = kept[places]
    missing = np.isin(places, [-1, *(place for place, one in enumerate(texts) if one in MISSING)])
    refuse(column, missing, where, "rows have no user or item", shown=False)
    refuse(column, codes < 0, where, f"values of {column.name} are no text and no whole number")
    for pattern, what in UNWRITABLE.items():
        bad = np.array([bool(pattern.search(name)) for name in names], bool)
        refuse(column, bad[codes], where, f"values of {column.name} hold {what}, which RecBole's format cannot")
    return pd.Series(pd.Categorical.from_codes(codes, pd.Index(names, dtype=object)), column.index, name=column.name)


def numbers(column: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The numbers ``(n,)``, without loss of a digit and NaN where there is none, and where a value is missing."""
    kind = column.dtype
    if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind) and kind.kind in "iuf":
        found = column.to_numpy(dtype="float64", na_value=np.nan)
        return found, np.isnan(found)
    missing = _each(column, lambda one: (isinstance(one, str) and one in MISSING) or one is None, True, bool)
    return _each(column, _number, math.nan, np.float64), missing


def _number(value: Any) -> float:
    if isinstance(value, str):
        return float(value) if NUMBER.fullmatch(value) else math.nan
    if not isinstance(value, NUMBERS) or isinstance(value, bool):
        return math.nan
    if isinstance(value, int) and value.bit_length() > sys.float_info.max_exp:
        return math.inf if value > 0 else -math.inf
    return float(value)


def rated(column: pd.Series, where: str, largest: float = LARGEST_RATING) -> pd.Series:
    """Ratings or predictions as float64.

    Raises:
        DataError: one is missing, no number, or out of range.
    """
    (found, missing), what = numbers(column), "predictions" if column.name == "prediction" else "ratings"
    remedy = "; give them, or remove these rows"
    if what == "ratings":
        remedy += ": of a file, recbole-dgrm convert --missing= leaves them out"
    refuse(column, missing, where, f"{what} are missing", remedy, shown=False)
    refuse(column, ~np.isfinite(found), where, f"{what} are no numbers")
    said = f"{what} are out of range; allowed: in [{-largest:g}, {largest:g}]"
    refuse(pd.Series(found, column.index), np.abs(found) > largest, where, said)
    return pd.Series(found, column.index, name=column.name)


def seconds(column: pd.Series, where: str) -> pd.Series:
    """Times in seconds since 1970; numbers stay, unless all of them are days such as 20240131.

    Raises:
        DataError: one is missing, or neither a number nor a date.
    """
    kind = column.dtype
    if isinstance(kind, pd.PeriodDtype):
        starts = column.array.asfreq(pd.offsets.Second(), how="start").asi8
        column = pd.Series(starts.astype("datetime64[s]"), column.index)
    if column.dtype.kind == "M" and not isinstance(column.dtype, pd.ArrowDtype):
        found, missing = _since_1970(column), column.isna().to_numpy()
    else:
        found, missing = numbers(column)
        if np.isnan(found).all():
            found = _each(column, _moment, math.nan, np.float64)
        elif ((found >= DAYS[0]) & (found <= DAYS[1])).all() and (found % 1 == 0).all():
            days = _each(pd.Series(found.astype(np.int64).astype(str)), _moment, math.nan, np.float64)
            if np.isfinite(days).all():
                LOG.warning("%s: its timestamps are taken for days of eight digits", where)
                found = days
    remedy = "; give each rating a time, or leave the column out (--timestamp=)"
    refuse(column, missing, where, "timestamps are missing", remedy, shown=False)
    refuse(column, ~np.isfinite(found), where, "timestamps are neither a number nor an ISO date", remedy)
    return pd.Series(found, column.index, name="timestamp")


def _since_1970(moments: pd.Series) -> NDArray[np.float64]:
    if getattr(moments.dtype, "tz", None) is not None:
        moments = moments.dt.tz_convert("UTC").dt.tz_localize(None)
    found = moments.to_numpy(dtype=None)
    return (found - np.datetime64(0, "s")) / np.timedelta64(1, "s")


def _moment(value: Any) -> float:
    """Seconds since 1970 of a date, a time, or a text of one in ISO form; NaN if it is none."""
    try:
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value.strip())
            except ValueError:
                value = pd.to_datetime(value, utc=True, format="ISO8601")  # knows more forms, and fewer years
        elif isinstance(value, (np.datetime64, pd.Period)):
            value = pd.Timestamp(value) if isinstance(value, np.datetime64) else value.start_time
        elif isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        elif not isinstance(value, datetime):
            return math.nan
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return math.nan


def refuse(
    column: pd.Series, bad: NDArray[np.bool_], where: str, said: str, remedy: str = "", shown: bool = True
) -> None:
    """Raise a DataError if values of ``column`` are ``bad (n,)``: how many, and the first with its place."""
    if bad.any():
        place = int(np.argmax(bad))
        value = column.iloc[place]
        text = str(value)[:80] if not isinstance(value, int) or abs(value) < LARGEST_ID else "a huge number"
        first = f"the first in {column.index.name} {column.index[place]}" + (f": {text!r}" if shown else "")
        raise DataError(f"{where}: {bad.sum():,} {said}, {first}{remedy}")
