"""Ratings from a file or a DataFrame, checked: the one way in, with the same checks and sentences for every source.

The wanted columns are chosen first. Ids become texts, byte for byte; whole numbers of any type are the texts of these
numbers, so that 1, 1.0 and "1" are one id. Ratings become float64, and times seconds since 1970.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_dgrm.data.tables import Choose, Layout, read_table
from recbole_dgrm.data.text_rows import NO_TRIPLES, is_number
from recbole_dgrm.data.values import MISSING, ids, numbers, rated, seconds, with_text
from recbole_dgrm.errors import DataError
from recbole_dgrm.options import LARGEST_RATING

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
        "prediction": """
            prediction predictions pred predicted predictedrating ratingpredicted ratingpred estimate estimated est
            score""",
    }.items()
}
PAIR = ["user_id", "item_id"]
LIMITS = {"rating": LARGEST_RATING, "prediction": 1e14}  # the square of a prediction is still a metric
MOST_COLUMNS = 4  # a table with more columns, none of them items or ratings, may have a column for each item


@dataclass(frozen=True)
class Reading:
    """What a user says about ratings that cannot be seen from them.

    Attributes:
        columns: field (``user_id``, ``item_id``, ``rating``, ``timestamp``) to column; what is left out is guessed from
            usual names; ``timestamp`` may be missing, and "" leaves it out.
        layout: of text files.
        missing: ratings, as they are written, that mean that nothing was rated: their rows are left out. "", "NA" and
            the like stand for every missing value.
        usual: columns that are tried where ``columns`` names none, before the usual names.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    layout: Layout = field(default_factory=Layout)
    missing: tuple[str, ...] = ()
    usual: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ratings:
    """Checked ratings.

    Attributes:
        table: ``user_id`` and ``item_id``, categories of texts, ``rating`` (or ``prediction``) and perhaps
            ``timestamp``, float64; the index is the number of the line or row.
        source: what errors call the source.
        columns: field to column of the source.
        others: the columns of the source that are not used.
        left_out: rows whose rating means that nothing was rated.
    """

    table: pd.DataFrame
    source: str
    columns: dict[str, str]
    others: list[str]
    left_out: int = 0

    def sentence(self) -> str:
        """A sentence about what the source held."""
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
        source: path of a file (CSV, JSON, Parquet or RecBole's ``.inter``, which may be packed), or a DataFrame of
            pandas, polars, pyarrow or another library that narwhals knows.
        value: ``rating`` or ``prediction``; predictions have no times.
        name: what errors call a DataFrame.

    Raises:
        DataError: it is neither, a column is missing, or a value cannot be used.
    """
    reading = reading or Reading()
    names: list[str] = []
    where = str(source) if isinstance(source, (str, Path)) else name

    def choose(found: list[str]) -> dict[str, str]:
        names[:] = found
        return _chosen(found, where, reading, value)

    if isinstance(source, (str, Path)):
        table = read_table(Path(source), reading.layout, choose, (value, "timestamp"))
    else:
        table = _read_frame(source, choose, value)
    unrated = _unrated(table[value], reading.missing)
    if unrated.all():
        codes = f" but those that --missing={','.join(reading.missing)} leaves out" if len(table) else ""
        raise DataError(f"{where} holds no ratings{codes}")
    table = table[~unrated] if unrated.any() else table
    checked = {field: ids(table[field], where) for field in PAIR}
    checked[value] = rated(table[value], where, LIMITS[value])
    if "timestamp" in table:
        checked["timestamp"] = seconds(table["timestamp"], where)
    columns = choose(names)
    others = [column for column in names if column not in columns.values() and column != "_"]
    return Ratings(pd.DataFrame(checked), where, columns, others, int(unrated.sum()))


def _unrated(rating: pd.Series, codes: Collection[str]) -> NDArray[np.bool_]:
    """Which ratings are one of the codes, compared as texts and as numbers, ``(n,)``."""
    if not codes:
        return np.zeros(len(rating), bool)
    number, missing = numbers(rating)
    unrated = np.isin(number, [float(code) for code in codes if is_number(code) and code not in MISSING])
    return unrated | with_text(rating, codes) | (missing if MISSING.intersection(codes) else False)


def _chosen(names: list[str], where: str, reading: Reading, value: str) -> dict[str, str]:
    """The column for each field."""
    plain = {re.sub("[^a-z0-9]", "", name.lower()): name for name in reversed(names)}
    usual = {name: [plain[guess] for guess in guesses if guess in plain] for name, guesses in GUESSES.items()}
    found: dict[str, str] = {}
    for name in [*PAIR, value, *(["timestamp"] if value == "rating" else [])]:
        if (expected := reading.usual.get(name)) in ("", *names):
            usual[name].insert(0, expected)
        column = reading.columns.get(name, next(iter(usual[name]), None))
        if name == "timestamp" and not column:
            continue
        if column not in names:
            hint = f"name it (--{name.removesuffix('_id')}=COLUMN) or rename it"
            if len(names) > MOST_COLUMNS and not usual["item_id"] + usual[value]:
                hint = f"if each column is an item, {NO_TRIPLES.format('melt')}"
            raise DataError(f"{where} has no column {column or name!r}; it has {_listed(names)}: {hint}")
        if names.count(column) > 1:
            raise DataError(f"{where} has {names.count(column)} columns {column!r}; rename all but the wanted one")
        found[name] = column
    return found


def _listed(names: list[str], most: int = 20) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def as_frame(data: Any) -> Any:
    """A DataFrame of pandas or pyarrow itself, a narwhals frame of another library's, and None for all else."""
    if isinstance(data, pd.DataFrame) or _is_arrow(data):
        return data
    frame = nw.from_native(data, pass_through=True)
    return frame if isinstance(frame, (nw.DataFrame, nw.LazyFrame)) else None


def _is_arrow(data: Any) -> bool:
    """Whether it is a table of pyarrow, which may have two columns of one name; narwhals refuses these."""
    return type(data).__module__.startswith("pyarrow") and hasattr(data, "column_names")


def no_frame(data: Any, other: str, value: str = "rating") -> DataError:
    """The error that says what to give in place of ``data``: a DataFrame or the ``other``."""
    made = f"pandas.DataFrame({{'user': ..., 'item': ..., '{value}': ...}})"
    kind = type(data).__name__
    return DataError(f"{value}s are given as a DataFrame or as {other}, not as a value of type {kind}; build {made}")


def _read_frame(data: Any, choose: Choose, value: str) -> pd.DataFrame:
    """The chosen columns of a DataFrame under our names, its rows numbered from 1."""
    frame = as_frame(data)
    if frame is None:
        raise no_frame(data, "the path of a file", value)
    if isinstance(frame, pd.DataFrame):
        names = list(map(str, frame.columns))
        columns = {ours: frame.iloc[:, names.index(column)] for ours, column in choose(names).items()}
    elif _is_arrow(frame):
        cells = {ours: frame.column(column) for ours, column in choose(list(frame.column_names)).items()}
        coded = {ours: hasattr(cell.type, "index_type") for ours, cell in cells.items()}  # as categories of polars are
        columns = {
            ours: (cell.cast(cell.type.value_type) if coded[ours] else cell).to_pandas() for ours, cell in cells.items()
        }
    else:
        chosen = choose(frame.collect_schema().names())
        frame = frame.select(*dict.fromkeys(chosen.values()))
        frame = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
        columns = {ours: _as_pandas(frame[column]) for ours, column in chosen.items()}
    index = pd.RangeIndex(1, len(frame) + 1, name="row")
    return pd.DataFrame({ours: column.set_axis(index) for ours, column in columns.items()})


def _as_pandas(column: nw.Series) -> pd.Series:
    if not column.implementation.is_polars():
        return column.to_pandas()
    flat = column.dtype in (nw.Boolean, nw.String, nw.Date, nw.Datetime) or column.dtype.is_numeric()
    if flat and column.dtype not in (nw.Int128, nw.UInt128):
        return pd.Series(column.to_numpy())  # to_pandas needs pyarrow
    return pd.Series(column.to_list(), dtype=object)
