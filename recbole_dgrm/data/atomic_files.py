"""Find, check and read ratings in RecBole's atomic format."""

import hashlib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_dgrm.data.columns import check_columns, typed_columns
from recbole_dgrm.data.text_tables import TextTable
from recbole_dgrm.errors import DataError


def source_files(config: Any) -> list[Path]:
    """The ``.inter`` files of the data set of ``config``."""
    folder, name, parts = Path(config["data_path"]), config["dataset"], config.run.benchmark_filename
    names = [f"{name}.inter"] if parts is None else [f"{name}.{part}.inter" for part in parts]
    return [folder / file for file in names]


def source_hash(config: Any, with_test: bool = True) -> str:
    """Hash of the bytes of all files of the data set: ratings, users, items and its YAML file.

    Args:
        with_test: without it, a test part that is a file of its own is not opened.

    Raises:
        DataError: a file of ratings cannot be read.
    """
    stem, more = Path(config["data_path"]) / config["dataset"], config["additional_feat_suffix"] or []
    suffixes = ["user", "item", *([more] if isinstance(more, str) else more), "yaml"]
    ratings = source_files(config)
    if not with_test and config.run.benchmark_filename:
        ratings.pop()
    others = [path for suffix in suffixes if (path := stem.with_name(f"{stem.name}.{suffix}")).is_file()]
    digest = hashlib.sha256()
    for path in [*ratings, *others]:
        if path in others:
            digest.update(path.suffix.encode())
        try:
            with open(path, "rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"the data file {path} cannot be read: {error.strerror}; put it back") from error
    return digest.hexdigest()[:16]


def check_source(config: Any) -> None:
    """Check that the files exist and name the columns that are needed.

    Raises:
        DataError: what is missing and where it belongs.
    """
    folder, name = Path(config["data_path"]), config["dataset"]
    if not folder.is_dir():
        raise DataError(
            f"there is no folder {folder}; put the ratings into {folder}/{name}.inter (recbole-dgrm convert makes it "
            "from a table, recbole-dgrm download fetches well-known ones) or say where they are: "
            f"--data_path=DIR with DIR/{name}/{name}.inter"
        )
    for path in source_files(config):
        check_columns(config, _check_header(path, config))


def _check_header(path: Path, config: Any) -> dict[str, str]:
    """The columns that a file names, with their types, after checking that the needed ones are among them."""
    if not path.is_file():
        raise DataError(f"{path} does not exist; RecBole's atomic format wants the ratings there")
    try:
        with open(path, encoding=config["encoding"]) as lines:
            header = lines.readline().rstrip("\r\n")
    except (UnicodeError, LookupError) as error:
        remedy = "save it in UTF-8, or say --encoding=latin-1, cp1252, ..."
        raise DataError(f"{path} cannot be read as text in {config['encoding']}: {error}; {remedy}") from None
    separator = config["field_separator"]
    columns = typed_columns(path, header, separator)
    needed = {config["USER_ID_FIELD"]: "token", config["ITEM_ID_FIELD"]: "token"}
    if config.run.feedback == "rating":
        needed[config["RATING_FIELD"]] = "float"
    for name, kind in needed.items():
        if columns.get(name) != kind:
            raise DataError(
                f"{path} has no column {name}:{kind}; its first line is {header!r} and must name columns as "
                f"name:type, separated by {separator!r}; other names are set with USER_ID_FIELD, "
                "ITEM_ID_FIELD, RATING_FIELD"
            )
    return columns


def read_atomic(
    path: Path, separator: str, encoding: str, wanted: Collection[str], types: Mapping[str, type], rating: str
) -> pd.DataFrame:
    """The ``wanted`` columns, called ``name:type``, of a file in RecBole's format; the index holds the lines.

    A sequence that is missing is an empty one.

    Raises:
        DataError: a row has another number of fields than the first, or a number is none.
    """
    table = TextTable.open(path, separator, encoding)
    places = {place: name for place, name in enumerate(table.first) if name in wanted}
    numbers = frozenset(name for name in wanted if types[name] is not str)
    rated = next((place for place, name in enumerate(table.first) if name == f"{rating}:float"), None)
    empty = {name: "" for name in places.values() if name.endswith("_seq")}
    try:
        return table.read(places, rating=rated, numbers=numbers).fillna(empty)
    except ValueError:
        text = table.read(places, rating=rated).fillna(empty)
    for name in numbers:
        bad = text[name].notna() & pd.to_numeric(text[name], errors="coerce").isna()
        if bad.any():
            line, column = bad.idxmax(), name.partition(":")[0]
            raise DataError(f"{path}: the {column} in line {line} is {text[name][line]!r}, not a number") from None
    return text.astype(dict.fromkeys(numbers, "float64"))
