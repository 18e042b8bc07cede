"""Ratings in a file of one's own to RecBole's atomic format, with a dataset YAML beside it."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from pandas._libs.parsers import STR_NA_VALUES  # what pandas, and with it RecBole, takes for a missing value

from recbole_dgrm.errors import DataError
from recbole_dgrm.files import plain, write_text, write_whole
from recbole_dgrm.options import RATINGS, check_name
from recbole_dgrm.tables import read_table

GUESSES = {
    "user_id": ("user_id", "userid", "user", "reviewerid", "uid"),
    "item_id": ("item_id", "itemid", "item", "movieid", "movie_id", "asin", "productid", "product_id", "iid"),
    "rating": ("rating", "score", "stars", "overall", "value"),
    "timestamp": ("timestamp", "time", "unixreviewtime", "date"),
}
TYPES = {"user_id": "token", "item_id": "token", "rating": "float", "timestamp": "float"}
WHOLE = ""  # the part of a data set that is not split
EPOCH = pd.Timestamp(0, tz="UTC")


def convert(
    sources: Mapping[str, Path], target: Path, name: str, columns: Mapping[str, str] | None = None,
    separator: str | None = None,
) -> list[Path]:  # fmt: skip
    """Write ``target/name/name.inter``, or a file per part of a split, and ``target/name/name.yaml``.

    Args:
        sources: part (``train``, ``valid``, ``test``) to file, or ``WHOLE`` to the only one: CSV with a header line,
            JSON lines, or Parquet, as the ending says.
        columns: field (``user_id``, ``item_id``, ``rating``, ``timestamp``) to column of the file;
            what is left out is guessed from usual names; ``timestamp`` may be missing, and "" leaves it out.
        separator: of a CSV; guessed if not given.

    Returns:
        The ``.inter`` files.

    Raises:
        OptionError: the name is no plain one.
        DataError: a file or a column is missing, a value cannot be used, or the target exists.
    """
    folder = target / check_name("name", name)
    paths = {part: folder / (f"{name}.{part}.inter" if part else f"{name}.inter") for part in sources}
    for path in (*paths.values(), description := folder / f"{name}.yaml"):
        if path.exists():
            raise DataError(f"{path} exists already; choose another --name or remove it")
    tables = {part: read_ratings(source, columns, separator) for part, source in sources.items()}
    if len({tuple(table) for table in tables.values()}) > 1:
        raise DataError("some parts have a timestamp and others have none; --timestamp= leaves it out of all")
    levels = np.unique(np.concatenate([table["rating"] for table in tables.values()]))
    if len(levels) < 2:
        where = " and ".join(map(str, sources.values()))
        raise DataError(f"all ratings of {where} are equal: {levels}; there is nothing to learn")
    split = {} if WHOLE in sources else {"benchmark_filename": list(sources)}
    names = ", ".join(source.name for source in sources.values())
    make_folder(folder)
    written: list[Path] = []
    try:
        for part, table in tables.items():
            write_whole(paths[part], partial(write_atomic, table))
            written.append(paths[part])
        write_description(description, names, levels, split)
    except BaseException:
        for path in written:
            path.unlink()
        raise
    return written


def make_folder(path: Path) -> None:
    """Make a folder and those above it, where there is none.

    Raises:
        DataError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"cannot make the folder {path}: {error.strerror}") from None


def write_atomic(ratings: pd.DataFrame, path: Path, append: bool = False) -> None:
    """Write fields as RecBole's atomic format, or more rows to the end of such a file."""
    header = False if append else [f"{field}:{TYPES[field]}" for field in ratings]
    ratings.to_csv(path, sep="\t", index=False, header=header, mode="a" if append else "w")


def write_description(path: Path, names: str, levels: NDArray, more: Mapping[str, Any]) -> None:
    """Write the YAML file of a data set whose ratings have these sorted ``levels`` ``(L,)``."""
    scale = {
        "rating_scale": [float(levels[0]), float(levels[-1])],
        "rating_step": float(f"{np.diff(levels).min():.6g}"),
    }
    note = f"# Taken from {names}; correct the scale if not every rating occurs in it.\n"
    write_text(path, note + yaml.safe_dump(plain({**more, **scale}), default_flow_style=None, sort_keys=False))


def read_ratings(
    source: Path, columns: Mapping[str, str] | None = None, separator: str | None = None
) -> pd.DataFrame:  # fmt: skip
    """The fields of one file, as ``convert`` reads them, checked; the index is the number of the line or row."""
    table = read_table(source, separator, lambda names: _chosen(names, source, columns or {}))
    if len(table) == 0:
        raise DataError(f"{source} holds no ratings")
    for field in ("user_id", "item_id"):
        table[field] = _tokens(table[field], source)
    table["rating"] = _numbers(table["rating"], source)
    if "timestamp" in table:
        table["timestamp"] = _seconds(table["timestamp"], source)
    return table


def _chosen(names: list[str], source: Path, columns: Mapping[str, str]) -> dict[str, str]:
    """Field to column, of the columns that the file has."""
    lower = {name.strip().lower(): name for name in names}
    chosen = {}
    for field, guesses in GUESSES.items():
        column = columns.get(field)
        if field == "timestamp" and column == "":
            continue
        column = column or next((lower[guess] for guess in guesses if guess in lower), None)
        if column is None and field == "timestamp":
            continue
        if column not in names:
            raise DataError(
                f"{source} has no column {column or field!r}; it has {', '.join(names)}: "
                f"say --{field.removesuffix('_id')}=COLUMN"
            )
        chosen[field] = column
    return chosen


def _refuse(column: pd.Series, bad: NDArray, source: Path, said: str) -> None:
    """Say how many values of ``column`` are bad ``(n,)``, and show the first with its place."""
    if bad.any():
        place = int(np.argmax(bad))
        raise DataError(
            f"{source}: {bad.sum()} {said}, the first in {column.index.name} {column.index[place]}: "
            f"{str(column.iloc[place])[:80]!r}"
        )


def _tokens(column: pd.Series, source: Path) -> pd.Series:
    """Ids as text; whole floats, which numbers beside missing values become, lose their point."""
    missing = column.isna().to_numpy()
    if not missing.any():
        if pd.api.types.is_float_dtype(column) and (column % 1 == 0).all() and column.abs().max() < 2**53:
            column = column.astype("int64")
        if pd.api.types.infer_dtype(column) not in ("string", "integer"):
            odd = [not isinstance(value, (str, int)) or isinstance(value, bool) for value in column]
            _refuse(column, np.array(odd), source, f"values of {column.name} are no text and no whole number")
        text = column.astype(str)
        missing = text.isin(STR_NA_VALUES).to_numpy()
    _refuse(column, missing, source, "rows have no user or item")
    return text


def _numbers(column: pd.Series, source: Path) -> pd.Series:
    number = _to_number(column)
    _refuse(column, ~np.isfinite(number.to_numpy()), source, "ratings are no numbers")
    _refuse(column, (number < RATINGS.low).to_numpy() | (number > RATINGS.high).to_numpy(), source,
            f"ratings are out of range; allowed: {RATINGS}")  # fmt: skip
    return number


def _to_number(column: pd.Series) -> pd.Series:
    """Float64; NaN for what is no number."""
    if not pd.api.types.is_numeric_dtype(column):
        scalar = column.map(lambda value: isinstance(value, (str, int, float)), na_action=None)
        column = column.where(scalar.astype(bool)).astype(object)
    return pd.to_numeric(column, errors="coerce").astype("float64")


def _seconds(column: pd.Series, source: Path) -> pd.Series:
    """Numbers stay; dates become seconds since 1970."""
    dates = pd.api.types.is_datetime64_any_dtype(column)
    seconds = column if dates else _to_number(column)
    if dates or seconds.isna().all():
        moments = pd.to_datetime(column, utc=True, errors="coerce", format=None if dates else "ISO8601")
        seconds = (moments - EPOCH) / pd.Timedelta("1s")
    bad = ~np.isfinite(seconds.to_numpy())
    _refuse(column, bad, source, "timestamps are neither a number nor an ISO date; --timestamp= leaves them out;")
    return seconds
