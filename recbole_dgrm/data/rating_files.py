"""Read and check a user's own file of ratings: find the columns, keep ids byte for byte, read numbers and dates."""

import logging
import math
import re
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_dgrm.data.tables import Choose, Layout, read_table
from recbole_dgrm.data.text_tables import MISSING, is_number
from recbole_dgrm.errors import DataError
from recbole_dgrm.options import LARGEST_RATING, RATING_RANGE

LOG = logging.getLogger(__name__)
GUESSES = {  # field -> usual names of its column without signs, the first that is there counts
    field: names.split()
    for field, names in {
        "user_id": """
            userid user reviewerid uid userno customerid memberid reviewprofilename authorid username""",
        "item_id": """
            itemid item movieid parentasin asin productid bookid isbn businessid animeid recipeid beerid beerbeerid
            gameid appid songid trackid artistid albumid videoid articleid courseid hotelid placeid restaurantid
            jokeid iid""",
        "rating": """
            rating ratings bookrating userrating starrating reviewrating ratingvalue reviewoverall reviewscore score
            stars star overall value grade""",
        "timestamp": """
            timestamp unixreviewtime unixtime time datetime ratedat createdat reviewtime reviewdate date""",
    }.items()
}
EPOCH = pd.Timestamp(0, tz="UTC")
DAYS = (19000101, 21001231)  # a number between them, of eight digits, is a day


@dataclass(frozen=True)
class Reading:
    """What a user says about a file of ratings that cannot be seen from it.

    Attributes:
        columns: field (``user_id``, ``item_id``, ``rating``, ``timestamp``) to column of the file; what is left out is
            guessed from usual names; ``timestamp`` may be missing, and "" leaves it out.
        layout: of text files.
        missing: ratings, as they are written, that mean that nothing was rated: their rows are left out. "" stands for
            an empty cell.
    """

    columns: Mapping[str, str]
    layout: Layout = field(default_factory=Layout)
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ratings:
    """The ratings of one file.

    Attributes:
        table: the fields; the index is the number of the line or row.
        columns: field to column of the file.
        left_out: rows whose rating means that nothing was rated.
    """

    table: pd.DataFrame
    columns: dict[str, str]
    left_out: int = 0

    def sentence(self) -> str:
        """A sentence about what the file held."""
        table, pair = self.table, ["user_id", "item_id"]
        users, items = (table[name].nunique() for name in pair)
        text = f"{len(table):,} ratings of {users:,} users and {items:,} items"
        if repeated := int(table.duplicated(pair).sum()):
            other = repeated - int(table.duplicated([*pair, "rating"]).sum())
            text += f"; {repeated:,} rows repeat a user-item pair, {other:,} of them with another rating: of each pair "
            text += "the first is used (rm_dup_inter=last: the last)"
        if self.left_out:
            text += f"; {self.left_out:,} rows left out, whose rating means that nothing was rated (--missing)"
        return text


def read_ratings(source: Path, reading: Reading | None = None, frame: pd.DataFrame | None = None) -> Ratings:
    """Read and check the ratings of one file.

    Args:
        frame: the ratings, if they are in no file; ``source`` is then what errors call it.
    """
    reading = reading or Reading({})
    remedy = "say --{}=COLUMN" if frame is None else "rename the one that holds it"
    columns: dict[str, str] = {}

    def choose(names: list[str]) -> dict[str, str]:
        columns.update(_chosen(names, source, reading.columns, remedy))
        return columns

    table = read_table(source, reading.layout, choose) if frame is None else fields(frame, choose)
    if len(table) == 0:
        raise DataError(f"{source} holds no ratings")
    unrated = _unrated(table["rating"], reading.missing)
    table = table[~unrated].copy()
    if len(table) == 0:
        raise DataError(f"{source} holds no ratings but those that --missing={','.join(reading.missing)} leaves out")
    for name in ("user_id", "item_id"):
        table[name] = tokens(table[name], source)
    table["rating"] = _numbers(table["rating"], source)
    if "timestamp" in table:
        table["timestamp"] = _seconds(table["timestamp"], source)
    return Ratings(table, columns, int(unrated.sum()))


def fields(frame: pd.DataFrame, choose: Choose) -> pd.DataFrame:
    """The chosen columns of a DataFrame under our names, its rows numbered from 1."""
    names = [str(name) for name in frame.columns]
    chosen = choose(names)
    table = frame.iloc[:, [names.index(column) for column in chosen.values()]]
    return table.set_axis(list(chosen), axis="columns").set_axis(pd.RangeIndex(1, len(frame) + 1, name="row"))


def _unrated(rating: pd.Series, codes: Collection[str]) -> pd.Series:
    """Which ratings are one of the codes, compared as text and as numbers."""
    unrated = rating.astype(str).isin(set(codes))
    if numbers := [float(code) for code in codes if is_number(code)]:
        unrated |= to_number(rating).isin(numbers)
    return unrated | rating.isna() if "" in codes else unrated


def usual_columns(names: list[str], guesses: Mapping[str, list[str]] = GUESSES) -> dict[str, str]:
    """For each field the column with one of its usual names, if there is one."""
    plain = {re.sub("[^a-z0-9]", "", name.lower()): name for name in reversed(names)}
    found = {field: [plain[guess] for guess in usual if guess in plain] for field, usual in guesses.items()}
    return {field: columns[0] for field, columns in found.items() if columns}


def _chosen(names: list[str], source: Path, columns: Mapping[str, str], remedy: str) -> dict[str, str]:
    """The column of the file for each field."""
    usual, chosen = usual_columns(names), {}
    for name in GUESSES:
        column = columns.get(name)
        if name == "timestamp" and column == "":
            continue
        column = column or usual.get(name)
        if column is None and name == "timestamp":
            continue
        if column not in names:
            raise DataError(
                f"{source} has no column {column or name!r}; it has {', '.join(names)}: "
                + remedy.format(name.removesuffix("_id"))
            )
        chosen[name] = column
    return chosen


def refuse(column: pd.Series, bad: NDArray, source: Path, said: str) -> None:
    """Raise a DataError if values of ``column`` are ``bad (n,)``: how many, and the first with its place."""
    if bad.any():
        place = int(np.argmax(bad))
        raise DataError(
            f"{source}: {bad.sum()} {said}, the first in {column.index.name} {column.index[place]}: "
            f"{str(column.iloc[place])[:80]!r}"
        )


def tokens(column: pd.Series, source: Path) -> pd.Series:
    """Ids as text; ids that pandas made floats because others are missing become whole numbers again."""
    missing = column.isna().to_numpy()
    if not missing.any():
        if pd.api.types.is_float_dtype(column) and (column % 1 == 0).all() and column.abs().max() < 2**53:
            column = column.astype("int64")
        if pd.api.types.infer_dtype(column) not in ("string", "integer"):
            odd = [not isinstance(value, (str, int)) or isinstance(value, bool) for value in column]
            refuse(column, np.array(odd), source, f"values of {column.name} are no text and no whole number")
        text = column.astype(str)
        missing = text.isin(MISSING).to_numpy()
    refuse(column, missing, source, "rows have no user or item")
    return text


def _numbers(column: pd.Series, source: Path) -> pd.Series:
    number = to_number(column)
    refuse(column, ~np.isfinite(number.to_numpy()), source, "ratings are no numbers")
    refuse(
        column, (number.abs() > LARGEST_RATING).to_numpy(), source, f"ratings are out of range; allowed: {RATING_RANGE}"
    )
    return number


def to_number(column: pd.Series) -> pd.Series:
    """The numbers as float64 without loss of a digit; NaN where there is none."""
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        if pd.api.types.infer_dtype(column, skipna=True) != "string":
            column = column.map(_scalar).astype(object)
        number = pd.to_numeric(column, errors="coerce")  # says what is a number, and rounds in the last digit
        column = column.where(number.notna() & column.notna())
    return column.astype("float64")


def _scalar(value: object) -> object:
    """The value if it is a number or a text, else None; whole numbers beyond float64 are infinite."""
    if not isinstance(value, (str, int, float, Decimal)) or isinstance(value, bool):
        return None
    if isinstance(value, int) and value.bit_length() > sys.float_info.max_exp:
        return math.inf if value > 0 else -math.inf
    return value


def _seconds(column: pd.Series, source: Path) -> pd.Series:
    """Timestamps in seconds since 1970; numbers are kept, unless all of them are days such as 20240131."""
    dates = pd.api.types.is_datetime64_any_dtype(column)
    seconds = column if dates else to_number(column)
    if not dates and seconds.between(*DAYS).all() and (seconds % 1 == 0).all():
        days = pd.to_datetime(seconds.astype("int64").astype(str), utc=True, errors="coerce", format="%Y%m%d")
        if days.notna().all():
            LOG.warning("%s: its timestamps are taken for days of eight digits", source.name)
            return (days - EPOCH) / pd.Timedelta("1s")
    if dates or seconds.isna().all():
        moments = pd.to_datetime(column, utc=True, errors="coerce", format=None if dates else "ISO8601")
        seconds = (moments - EPOCH) / pd.Timedelta("1s")
    bad = ~np.isfinite(seconds.to_numpy())
    refuse(column, bad, source, "timestamps are neither a number nor an ISO date; --timestamp= leaves them out")
    return seconds
