"""Read and check predicted ratings that something else has made, and lay them beside the pairs that they are for."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from recbole.data.dataset import Dataset

from recbole_dgrm.data.rating_files import GUESSES, fields, refuse, to_number, tokens, usual_columns
from recbole_dgrm.data.tables import Layout, read_table
from recbole_dgrm.errors import DataError

PAIR = {"user": "user_id", "item": "item_id"}
NAMES = """
    prediction predictions pred predicted predictedrating ratingpredicted ratingpred estimate estimated est score"""
USUAL: Mapping[str, list[str]] = {**{field: GUESSES[field] for field in PAIR.values()}, "prediction": NAMES.split()}
LARGEST = 1e14  # a prediction whose square is still a metric


def read_predictions(source: Path, frame: pd.DataFrame | None = None) -> pd.DataFrame:
    """Read ``user_id``, ``item_id`` and ``prediction`` from a file, in columns of these or other usual names.

    Args:
        source: CSV, JSON (lines or an array of objects) or Parquet, as the ending says.
        frame: the predictions, if they are in no file; ``source`` is then what errors call it.

    Raises:
        DataError: a column is missing, or a value is none.
    """

    def choose(names: list[str]) -> dict[str, str]:
        found = usual_columns(names, USUAL)
        if missing := [field for field in USUAL if field not in found]:
            raise DataError(
                f"{source} has no column {missing[0]!r}; it has {', '.join(names)}: call its columns user, item and "
                "prediction"
            )
        return {field: found[field] for field in USUAL}

    table = read_table(source, Layout(), choose) if frame is None else fields(frame, choose)
    for name in PAIR.values():
        table[name] = tokens(table[name], source)
    number = to_number(table["prediction"])
    bad = ~(number.abs() <= LARGEST).to_numpy()
    refuse(table["prediction"], bad, source, f"predictions are no numbers up to {LARGEST:g}")
    return table.assign(prediction=number)


def beside(part: Dataset, user: NDArray, item: NDArray, table: pd.DataFrame, source: Path) -> NDArray[np.float32]:
    """The prediction ``(n,)`` of each pair of ``part``, in the precision in which our models are judged.

    Args:
        user, item: the pairs, as numbers, ``(n,)``.
        table: from ``read_predictions``.
        source: what errors call it.

    Raises:
        DataError: a pair has no prediction, or several, or one is for another pair.
    """
    users, items = (part.field2id_token[field] for field in (part.uid_field, part.iid_field))
    row, column = (
        pd.Index(names[1:]).get_indexer(table[field]) + 1
        for field, names in zip(PAIR.values(), (users, items), strict=True)
    )
    given, wanted = pd.Index(row * part.item_num + column), pd.Index(user * part.item_num + item)
    _refuse(table, ~given.isin(wanted) | (row == 0) | (column == 0), source, "are not in the test part")
    _refuse(table, given.duplicated(), source, "are there twice")
    place = given.get_indexer(wanted)
    if (missing := place < 0).any():
        first = int(np.argmax(missing))
        raise DataError(
            f"{source} has no prediction for {missing.sum():,} of {len(wanted):,} test pairs, the first user "
            f"{str(users[user[first]])!r} and item {str(items[item[first]])!r}; every row of test.csv needs one"
        )
    return table["prediction"].to_numpy(np.float32)[place]


def _refuse(table: pd.DataFrame, bad: NDArray, source: Path, said: str) -> None:
    if bad.any():
        first = int(np.argmax(bad))
        user, item = (table[field].iloc[first][:80] for field in PAIR.values())
        raise DataError(
            f"{source}: {bad.sum():,} pairs {said}, the first in {table.index.name} {table.index[first]}: user "
            f"{user!r}, item {item!r}; one row for each row of test.csv is expected, and no other"
        )
