"""Conversion of columns of any type to ids, numbers and times; an error names the place of the first wrong value."""

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas._libs.parsers import STR_NA_VALUES

from recbole_dgrm.errors import DataError
from recbole_dgrm.options import LARGEST_RATING

MISSING = frozenset(STR_NA_VALUES)  # texts that pandas, and so RecBole, reads as a missing value
NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*", re.ASCII)
NUMBERS = (int, float, Decimal, np.integer, np.floating)
UNWRITABLE = re.compile("[\t\n\r\0\ud800-\udfff]")


def categories(column: pd.Series) -> pd.Series:
    """The column with its distinct values as categories, in the order in which they occur."""
    return pd.Series(pd.Categorical.from_codes(*pd.factorize(column)), column.index)


def joined(tables: Iterable[pd.DataFrame]) -> pd.DataFrame:
    """The rows of all tables, of which one at a time is in memory; categories stay categories, with codes of int32."""
    index, whole, codes_of = list[pd.Index](), dict[str, NDArray](), defaultdict[str, dict[Any, int]](dict)
    for table in tables:
        index.append(table.index)
        for name, column in table.items():
            code_of, more = codes_of[name], column
            if isinstance(column.dtype, pd.CategoricalDtype):
                code = [code_of.setdefault(value, len(code_of)) for value in column.cat.categories]
                more = np.array([*code, -1], np.int32)[column.cat.codes]
            values, more = whole.pop(name, np.empty(0, more.dtype)), np.asarray(more)
            if values.dtype != more.dtype:
                values, more = _decoded(values, code_of), _decoded(more, code_of)
            end = len(values)
            values.resize(end + len(more), refcheck=False)  # in place: there is no second copy
            values[end:] = more
            whole[name] = values
    places = index[0].append(index[1:]) if index else None
    columns = {
        name: pd.Categorical.from_codes(values, pd.Index(list(codes_of[name]), dtype=object))
        if values.dtype == np.int32
        else values
        for name, values in whole.items()
    }
    return pd.DataFrame({name: pd.Series(one, places, copy=False) for name, one in columns.items()}, copy=False)


def _decoded(values: NDArray, code_of: dict[Any, int]) -> NDArray:
    """Values, or the categories of int32 codes, as objects."""
    return np.array([*code_of, None], object)[values] if values.dtype == np.int32 else values.astype(object)


def _each(column: pd.Series, make: Callable[[Any], Any], missing: Any, dtype: Any) -> NDArray:
    """``make(value)`` for each value of the column, ``(n,)``; it is called once per distinct value."""
    places, values = _distinct(column)
    made = np.empty(len(values) + 1, dtype)
    made[:-1], made[-1] = [make(one) for one in values] or made[:-1], missing
    return made[places]


def _distinct(column: pd.Series) -> tuple[NDArray[np.intp], list[Any]]:
    """For each row the index of its value among the distinct values, -1 if it is missing; and the distinct values."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        return column.cat.codes.to_numpy(), list(column.cat.categories)
    if column.dtype != object or {bool, np.bool_}.isdisjoint(map(type, column)):  # True would equal 1
        with suppress(TypeError, NotImplementedError, OverflowError):  # unhashable values; huge integers
            places, values = pd.factorize(column)
            return places, list(values)
    return np.where(column.isna(), -1, np.arange(len(column))), list(column)


def id_text(value: Any) -> str | None:
    """The text of an id, which is a string or a whole number of any type; None if the value is not an id."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, NUMBERS):
        return None
    is_exact = not isinstance(value, (float, np.floating)) or abs(float(value)) < 2.0**53
    with suppress(ValueError, OverflowError):  # NaN, infinity
        return str(int(value)) if is_exact and value == int(value) else None
    return None


def ids(column: pd.Series, where: str) -> pd.Series:
    """Ids as categories of strings; a DataError names one that is missing, of another type, or cannot be written."""
    places, values = _distinct(column)
    texts = [id_text(one) for one in values]
    is_sound = not any(one is None or one in MISSING or UNWRITABLE.search(one) for one in texts)
    if is_sound and texts == values and isinstance(column.dtype, pd.CategoricalDtype) and (places >= 0).all():
        return column
    codes, names = pd.factorize(np.array([*texts, None], object))  # 1 and "1" are the same id; at -1 there is none
    missing = np.array([*(one in MISSING for one in texts), True])[places]
    refuse(column, missing, where, "rows have no user or item", is_shown=False)
    refuse(column, (codes < 0)[places], where, f"values of {column.name} are neither texts nor whole numbers")
    bad = np.array([*(bool(UNWRITABLE.search(one or "")) for one in texts), False])
    unwritable = "have a tab, a line break or half a surrogate pair, which RecBole's format cannot store"
    refuse(column, bad[places], where, f"values of {column.name} {unwritable}", is_shown=False)
    names = pd.Index(names, dtype=object)
    return pd.Series(pd.Categorical.from_codes(codes.astype(np.int32)[places], names), column.index, name=column.name)


def numbers(column: pd.Series) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The numbers ``(n,)`` in full precision, NaN for values that are not numbers; and a mask of the missing values."""
    kind = column.dtype
    if pd.api.types.is_numeric_dtype(kind) and not pd.api.types.is_bool_dtype(kind) and kind.kind in "iuf":
        number = column.to_numpy(dtype="float64", na_value=np.nan)
        return number, np.isnan(number)
    missing = _each(column, lambda one: (isinstance(one, str) and one in MISSING) or one is None, True, bool)
    return _each(column, _number, math.nan, np.float64), missing


def _number(value: Any) -> float:
    is_text = isinstance(value, str) and NUMBER.fullmatch(value)
    if not is_text and (isinstance(value, bool) or not isinstance(value, NUMBERS)):
        return math.nan
    with suppress(OverflowError):
        return float(value)
    return math.inf


def rated(column: pd.Series, where: str, largest: float = LARGEST_RATING) -> pd.Series:
    """Ratings or predictions as float64; a DataError names one that is missing, no number, or out of range."""
    if column.dtype == "float64" and column.min(skipna=False) >= -largest and column.max(skipna=False) <= largest:
        return column
    (number, missing), what = numbers(column), "predictions" if column.name == "prediction" else "ratings"
    remedy = "; add them, or remove these rows"
    if what == "ratings":
        remedy += ": of a file, recbole-dgrm convert --missing= leaves them out"
    refuse(column, missing, where, f"{what} are missing", remedy, is_shown=False)
    refuse(column, ~np.isfinite(number), where, f"{what} are not numbers")
    result = pd.Series(number, column.index, name=column.name)
    refuse(result, abs(number) > largest, where, f"{what} are out of range; allowed: in [{-largest:g}, {largest:g}]")
    return result


def seconds(column: pd.Series, where: str) -> pd.Series:
    """Times in seconds since 1970, numbers unchanged; a DataError names one that is missing, or no number or date."""
    if column.dtype.kind == "M" and not isinstance(column.dtype, pd.ArrowDtype):
        moment = column if getattr(column.dtype, "tz", None) is None else column.dt.tz_convert(None)  # to UTC
        time = (moment.to_numpy(dtype=None) - np.datetime64(0, "s")) / np.timedelta64(1, "s")
        missing = column.isna().to_numpy()
    else:
        time, missing = numbers(column)
        time = _each(column, _moment, math.nan, np.float64) if np.isnan(time).all() else time
    remedy = "; give each rating a time, or leave the column out (--timestamp=)"
    refuse(column, missing, where, "timestamps are missing", remedy, is_shown=False)
    refuse(column, ~np.isfinite(time), where, "timestamps are neither a number nor an ISO date", remedy)
    return pd.Series(time, column.index, name="timestamp")


def _moment(value: Any) -> float:
    """Seconds since 1970 of a value whose text is an ISO date or time; NaN for other values."""
    try:
        text = str(value).strip()
        moment = datetime.fromisoformat(text if isinstance(value, str) else text.rjust(10, "0"))  # a Period of year 1
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return math.nan


def refuse(
    column: pd.Series, bad: NDArray[np.bool_], where: str, what: str, remedy: str = "", is_shown: bool = True
) -> None:
    """Raise a DataError with the number of ``bad`` ``(n,)`` values of ``column`` and the first, if there are any."""
    if bad.any():
        place = int(np.argmax(bad))
        value = f": {str(column.iloc[place])[:80]!r}" if is_shown else ""
        first = f"the first in {column.index.name} {column.index[place]}{value}"
        raise DataError(f"{where}: {bad.sum():,} {what}, {first}{remedy}")
