"""Convert a user's own file of ratings into RecBole's atomic format, with a YAML file that describes it."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from recbole_dgrm.data.rating_files import Reading, read_ratings, refuse
from recbole_dgrm.data.rating_scale import RatingScale, find_scale
from recbole_dgrm.errors import DataError
from recbole_dgrm.maths.levels import even_step
from recbole_dgrm.options import check_name
from recbole_dgrm.system.files import plain, write_text, write_whole

TYPES = {"user_id": "token", "item_id": "token", "rating": "float", "timestamp": "float"}
WHOLE = ""  # the part of a data set that is not split
UNWRITABLE = r"[\t\n\r\0]"  # characters that RecBole's format cannot hold


@dataclass(frozen=True)
class Conversion:
    """The result of a conversion.

    Attributes:
        files: the ``.inter`` files.
        lines: sentences: what each file holds, what was left out, the columns, the scale.
    """

    files: list[Path]
    lines: list[str]


def convert(
    sources: Mapping[str, Path],
    target: Path,
    name: str,
    reading: Reading | None = None,
    frame: pd.DataFrame | None = None,
) -> Conversion:
    """Write ``target/name/name.inter``, or a file per part of a split, and ``target/name/name.yaml``.

    Args:
        sources: part (``train``, ``valid``, ``test``) to file, or ``WHOLE`` to the only one: CSV, JSON (lines or an
            array of objects), or Parquet, as the ending says.
        frame: the ratings, if they are in no file; the only source is then what errors call it.

    Raises:
        OptionError: the name is no plain one.
        DataError: a file or a column is missing, a value cannot be used, or the target exists.
    """
    folder = target / check_name("name", name)
    paths = {part: folder / (f"{name}.{part}.inter" if part else f"{name}.inter") for part in sources}
    for path in (*paths.values(), description := folder / f"{name}.yaml"):
        if path.exists():
            raise DataError(f"{path} exists already; choose another --name or remove it")
    read = {part: read_ratings(source, reading, frame) for part, source in sources.items()}
    tables = {part: ratings.table for part, ratings in read.items()}
    if len({tuple(table) for table in tables.values()}) > 1:
        raise DataError("some parts have a timestamp and others have none; --timestamp= leaves it out of all")
    for table, source in zip(tables.values(), sources.values(), strict=True):
        for field in ("user_id", "item_id"):
            said = f"values of {field} hold a tab or a line break, which RecBole's format cannot"
            refuse(table[field], table[field].str.contains(UNWRITABLE).to_numpy(), source, said)
    scale, notes = _scale(np.concatenate([table["rating"] for table in tables.values()]), sources)
    split = {} if WHOLE in sources else {"benchmark_filename": list(sources)}
    names = ", ".join(source.name for source in sources.values())
    make_folder(folder)
    written: list[Path] = []
    try:
        for part, table in tables.items():
            write_whole(paths[part], partial(write_atomic, table))
            written.append(paths[part])
        write_description(description, names, scale, split)
    except BaseException:
        for path in written:
            path.unlink()
        raise
    lines = [f"{paths[part].name}: {ratings.sentence()}" for part, ratings in read.items()]
    columns = next(iter(read.values())).columns
    lines.append("columns: " + ", ".join(f"{field} from {column!r}" for field, column in columns.items()))
    return Conversion(written, [*lines, *notes])


def _scale(rating: NDArray[np.float64], sources: Mapping[str, Path]) -> tuple[RatingScale, list[str]]:
    """The scale of all ratings, and sentences about it for the user."""
    where = " and ".join(map(str, sources.values()))
    if rating.min() == rating.max():
        raise DataError(f"all ratings of {where} are equal: {rating[:1]}; there is nothing to learn")
    notes: list[str] = []
    try:
        scale = find_scale(rating, None, None, None, lambda index: f"rating {index + 1}", notes.append)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    step = None if scale.continuous else even_step(np.asarray(scale.levels))
    return scale, notes if step is None else [f"{notes[0]}, in steps of {step:g}", *notes[1:]]


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
    """Write a table in RecBole's atomic format, or append its rows to such a file."""
    header = False if append else [f"{field}:{TYPES[field]}" for field in ratings]
    # quotation marks of ids stay as they are: between tabs nothing is quoted
    ratings.to_csv(path, sep="\t", index=False, header=header, mode="a" if append else "w", quoting=csv.QUOTE_NONE)


def write_description(path: Path, names: str, scale: RatingScale, more: Mapping[str, Any]) -> None:
    """Write the YAML file of a data set whose ratings have this ``scale``."""
    step = None if scale.continuous else even_step(np.asarray(scale.levels))
    content = {"rating_scale": [scale.low, scale.high]} | ({} if step is None else {"rating_step": step})
    note = f"# Taken from {names}; correct the scale if not every rating occurs in it.\n"
    write_text(path, note + yaml.safe_dump(plain({**more, **content}), default_flow_style=None, sort_keys=False))
