"""Ratings from a file or a DataFrame, with the same checks and messages for every source.

The columns are chosen first. Ids become texts: strings stay as they are, byte for byte, and whole numbers of any type
are written as numbers, so 1, 1.0 and "1" are the same id. Ratings become float64, and times seconds since 1970.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_dgrm.data.tables import as_frame, read_file, read_frame
from recbole_dgrm.data.text_tables import NO_TRIPLES, Reading, is_number
from recbole_dgrm.data.values import MISSING, ids, numbers, rated, seconds
from recbole_dgrm.errors import DataError
from recbole_dgrm.options import LARGEST_RATING

USUAL_NAMES = {  # field -> usual names of its column, lower case, letters and digits only; the first match is used
    "user_id": "userid user reviewerid uid userno customerid memberid reviewprofilename authorid username",
    "item_id": "itemid item movieid parentasin asin productid bookid isbn businessid animeid recipeid beerid "
    "beerbeerid gameid appid songid trackid artistid albumid videoid articleid courseid hotelid placeid restaurantid "
    "jokeid iid",
    "rating": "rating ratings bookrating userrating starrating reviewrating ratingvalue reviewoverall reviewscore "
    "score stars star overall value grade",
    "timestamp": "timestamp unixreviewtime unixtime time datetime ratedat createdat reviewtime reviewdate date",
    "prediction": "prediction predictions pred predicted predictedrating ratingpredicted ratingpred estimate estimated "
    "est score",
}
PAIR = ["user_id", "item_id"]
LIMITS = {"rating": LARGEST_RATING, "prediction": 1e14}  # the square of a prediction is still a metric
MOST_NAMED = 20  # columns that a message lists, at most
MOST_COLUMNS = 4  # a table with more columns, none of them items or ratings, may have a column for each item


@dataclass(frozen=True)
class Ratings:
    """Checked ratings.

    Attributes:
        table: ``user_id`` and ``item_id`` as categories of texts, ``rating`` (or ``prediction``) and perhaps
            ``timestamp`` as float64; the index is the number of the line or row.
        source: the name of the source in messages.
        columns: field to column of the source.
        others: columns of the source that are not used.
        left_out: number of rows that were left out because their rating means that nothing was rated.
    """

    table: pd.DataFrame
    source: str
    columns: dict[str, str]
    others: list[str]
    left_out: int = 0

    def sentence(self) -> str:
        """A sentence with the numbers of ratings, users, items, repeated pairs and rows that were left out."""
        users, items = (self.table[name].nunique() for name in PAIR)
        text = f"{len(self.table):,} ratings of {users:,} users and {items:,} items"
        if repeated := int(self.table.duplicated(PAIR).sum()):
            other = repeated - int(self.table.duplicated([*PAIR, "rating"]).sum())
            text += f"; {repeated:,} rows repeat a user-item pair, {other:,} of them with another rating: of each pair "
            text += "the first is used (rm_dup_inter=last: the last)"
        if self.left_out:
            text += f"; {self.left_out:,} rows left out, whose rating means that nothing was rated (--missing)"
        return text


def read_ratings(
    source: Any, reading: Reading | None = None, value: str = "rating", name: str = "the DataFrame"
) -> Ratings:
    """Read and check ratings, or predictions of ratings.

    Args:
        source: path of a file (CSV, JSON, Parquet or RecBole's ``.inter``, which may be compressed), or a DataFrame
            of pandas, polars, pyarrow or another library that narwhals supports.
        reading: how to read the source; by default all is guessed.
        value: ``rating`` or ``prediction``; predictions have no times.
        name: the name of a DataFrame in messages.

    Raises:
        DataError: ``source`` is neither, a column is missing, or a value cannot be used.
    """
    how, names, is_file = reading or Reading(), list[str](), isinstance(source, (str, Path))
    where = str(source) if is_file else name

    def choose(columns: list[str]) -> dict[str, str]:
        names[:] = columns
        return _chosen(columns, where, how, value)

    if is_file:
        table = read_file(Path(source), how, choose, (value, "timestamp"))
    elif as_frame(source) is not None:
        table = read_frame(source, choose)
    else:
        raise no_frame(source, "the path of a file", value)
    unrated = _unrated(table[value], how.missing)
    if unrated.all():
        codes = f" except those that --missing={','.join(how.missing)} leaves out" if len(table) else ""
        raise DataError(f"{where} has no ratings{codes}")
    table = table[~unrated] if unrated.any() else table
    checked = {field: ids(table[field], where) for field in PAIR}
    checked[value] = rated(table[value], where, LIMITS[value])
    if "timestamp" in table:
        checked["timestamp"] = seconds(table["timestamp"], where)
    chosen = choose(names)
    others = [column for column in names if column not in chosen.values() and column != "_"]
    return Ratings(pd.DataFrame(checked), where, chosen, others, int(unrated.sum()))


def no_frame(data: Any, other: str, value: str = "rating") -> DataError:
    """The error for ``data`` that is neither a DataFrame nor the ``other``."""
    what = f"{value}s must be a DataFrame or {other}, not a value of type {type(data).__name__}"
    return DataError(f"{what}; build pandas.DataFrame({{'user': ..., 'item': ..., '{value}': ...}})")


def _unrated(rating: pd.Series, codes: Collection[str]) -> NDArray[np.bool_]:
    """A mask ``(n,)`` of the ratings that equal one of the codes, compared as texts and as numbers."""
    if not codes:
        return np.zeros(len(rating), bool)
    number, missing = numbers(rating)
    unrated = np.isin(number, [float(code) for code in codes if is_number(code)])
    unrated |= rating.isin(list(codes)).to_numpy()
    return unrated | missing if MISSING.intersection(codes) else unrated


def _chosen(names: list[str], where: str, reading: Reading, value: str) -> dict[str, str]:
    """The column for each field."""
    plain = {re.sub("[^a-z0-9]", "", name.lower()): name for name in reversed(names)}
    usual = {field: [plain[one] for one in known.split() if one in plain] for field, known in USUAL_NAMES.items()}
    chosen: dict[str, str] = {}
    for name in [*PAIR, value, *(["timestamp"] if value == "rating" else [])]:
        if (expected := reading.usual.get(name)) in ("", *names):
            usual[name].insert(0, expected)
        column = reading.fields.get(name, next(iter(usual[name]), None))
        if name == "timestamp" and not column:
            continue
        if column not in names:
            hint = f"name it (--{name.removesuffix('_id')}=COLUMN) or rename it"
            if len(names) > MOST_COLUMNS and not usual["item_id"] + usual[value]:
                hint = f"if each column is an item, {NO_TRIPLES.format('melt')}"
            listed = ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
            raise DataError(f"{where} has no column {column or name!r}; it has {listed}: {hint}")
        if names.count(column) > 1:
            raise DataError(f"{where} has {names.count(column)} columns {column!r}; rename all but one of them")
        chosen[name] = column
    return chosen
