"""A CSV of ratings to RecBole's atomic format, with a dataset YAML beside it."""

from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from recbole_dgrm.errors import DataError
from recbole_dgrm.files import write_text, write_whole

GUESSES = {
    "user_id": ("user_id", "userid", "user", "reviewerid", "uid"),
    "item_id": ("item_id", "itemid", "item", "movieid", "movie_id", "asin", "productid", "product_id", "iid"),
    "rating": ("rating", "score", "stars", "overall", "value"),
    "timestamp": ("timestamp", "time", "unixreviewtime", "date"),
}
TYPES = {"user_id": "token", "item_id": "token", "rating": "float", "timestamp": "float"}


def convert(
    source: Path, target: Path, name: str, columns: dict[str, str] | None = None, separator: str | None = None
) -> Path:
    """Write ``target/name/name.inter`` and ``target/name/name.yaml`` from a CSV with a header line.

    Args:
        columns: field (``user_id``, ``item_id``, ``rating``, ``timestamp``) to column of the CSV;
            what is left out is guessed from usual names; ``timestamp`` may be missing.
        separator: of the CSV; guessed if not given.

    Returns:
        The ``.inter`` file.

    Raises:
        DataError: the file or a column is missing, a rating is no number, or the target exists.
    """
    path = target / name / f"{name}.inter"
    if path.exists():
        raise DataError(f"{path} exists already; choose another --name or remove it")
    ratings = read_ratings(source, columns, separator)
    levels = np.unique(ratings["rating"])
    if len(levels) < 2:
        raise DataError(f"all ratings of {source} are equal: {levels}; there is nothing to learn")
    scale = {
        "rating_scale": [float(levels[0]), float(levels[-1])],
        "rating_step": float(np.diff(levels).min().round(6)),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    ratings.columns = [f"{field}:{TYPES[field]}" for field in ratings]
    note = f"# Taken from {source.name}; correct the scale if not every rating occurs in it.\n"
    text = note + yaml.safe_dump(scale)
    write_text(path.with_suffix(".yaml"), text)
    write_whole(path, lambda partial: ratings.to_csv(partial, sep="\t", index=False))
    return path


def read_ratings(source: Path, columns: dict[str, str] | None = None, separator: str | None = None) -> pd.DataFrame:
    """``user_id``, ``item_id`` (text), ``rating`` and, if there is one, ``timestamp`` of a CSV; as :func:`convert`."""
    if not source.is_file():
        raise DataError(f"{source} does not exist")
    try:
        table = pd.read_csv(source, sep=separator, engine="python" if separator is None else "c", dtype=str)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise DataError(f"{source} cannot be read as CSV: {error}") from error
    return _chosen(table, source, columns or {})


def _chosen(table: pd.DataFrame, source: Path, columns: dict[str, str]) -> pd.DataFrame:
    lower = {str(column).strip().lower(): column for column in table}
    chosen = {}
    for field, guesses in GUESSES.items():
        column = columns.get(field) or next((lower[guess] for guess in guesses if guess in lower), None)
        if column is None and field == "timestamp":
            continue
        if column not in table:
            option = field.removesuffix("_id")
            raise DataError(
                f"{source} has no column {column or field!r}; it has {', '.join(map(str, table))}: "
                f"say --{option}=COLUMN"
            )
        chosen[field] = table[column]
    ratings = pd.DataFrame(chosen)
    empty = np.flatnonzero(ratings[["user_id", "item_id"]].isna().any(axis=1))
    if len(empty):
        raise DataError(f"{source}: {len(empty)} rows have no user or item, the first in line {empty[0] + 2}")
    number = pd.to_numeric(ratings["rating"], errors="coerce")
    bad = np.flatnonzero(~np.isfinite(number))
    if len(bad):
        raise DataError(
            f"{source}: {len(bad)} ratings are no numbers, the first in line {bad[0] + 2}: "
            f"{ratings['rating'].iloc[bad[0]]!r}"
        )
    ratings["rating"] = number
    if "timestamp" in ratings:
        ratings["timestamp"] = _seconds(ratings["timestamp"])
    return ratings


def _seconds(timestamp: pd.Series) -> pd.Series:
    """Numbers stay; dates become seconds since 1970."""
    number = pd.to_numeric(timestamp, errors="coerce")
    if number.notna().all():
        return number
    return pd.to_datetime(timestamp, utc=True).astype("int64") / 1e9
