"""Read and write tables as CSV, JSON or Parquet.

Reading takes the wanted columns only and numbers the rows, so that a bad one can be named. Writing takes a table in
parts, and the file is whole or absent.
"""

import gzip
import json
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import pandas as pd

from recbole_dgrm.data.text_tables import SHOWN, UTF_8, TextTable, codec, is_number
from recbole_dgrm.errors import DataError, OptionError, UserError
from recbole_dgrm.system.files import write_whole

Choose = Callable[[list[str]], dict[str, str]]  # names of all columns -> name of ours to that of the file
LOG = logging.getLogger(__name__)
USUAL = ["user", "item", "rating", "timestamp"]  # columns of the files without a header that everybody has
UNWANTED = "_"  # name of a column that nobody reads
NO_TEXT = ".xls .xlsx .ods .pkl .pickle .npy .npz .mat .h5 .hdf5 .feather .rds .rdata .sqlite .db"
LIKE_TIME = 1e8  # a number as large is no rating, but seconds since 1970


@dataclass(frozen=True)
class Layout:
    """What a user says about the layout of a text file that cannot be seen from it.

    Attributes:
        separator: of a CSV; guessed if not given.
        encoding: of CSV and JSON.
        columns: names of the columns of a CSV without a header line; ``_`` for one that is not wanted.
    """

    separator: str | None = None
    encoding: str = UTF_8
    columns: tuple[str, ...] = ()


def read_table(source: Path, layout: Layout, choose: Choose) -> pd.DataFrame:
    """Read the chosen columns of a file under our names; the format follows from the file's ending.

    Returns:
        A table whose index counts lines (``index.name`` is "line") or, of Parquet and JSON arrays, rows ("row") of the
        file from 1.

    Raises:
        DataError: no such file, or it cannot be read.
    """
    if not source.is_file():
        raise DataError(f"{source} does not exist")
    endings = [ending.lower() for ending in source.suffixes]
    if endings and endings[-1] in NO_TEXT.split():
        raise DataError(f"{source} is no table that can be read here; save it as CSV, JSON lines or Parquet")
    if endings[-1:] in ([".parquet"], [".pq"]):
        kind, reader = "Parquet", lambda: _read_parquet(source, choose)
    elif set(endings[-2:]) & {".jsonl", ".ndjson", ".json"}:
        kind, reader = "JSON", lambda: _read_json(source, layout.encoding, choose)
    else:
        kind, reader = "CSV", lambda: _read_csv(source, layout, choose)
    try:
        return reader()
    except UserError:
        raise
    except Exception as error:  # whatever a parser stumbles over, it is the file that cannot be read
        raise DataError(f"{source} cannot be read as {kind}: {str(error) or type(error).__name__}") from error


def _read_csv(source: Path, layout: Layout, choose: Choose) -> pd.DataFrame:
    table = TextTable.open(source, layout.separator, layout.encoding)
    names, has_header = _names(table, layout.columns, choose)
    chosen = choose(names)
    for column in chosen.values():
        if names.count(column) > 1:
            raise DataError(
                f"{source} has {names.count(column)} columns called {column!r}; rename all but the wanted one"
            )
    positions = {names.index(column): field for field, column in chosen.items()}
    rating = names.index(chosen["rating"]) if "rating" in chosen else None
    return table.read(positions, has_header, rating)[list(chosen)]


def _names(table: TextTable, given: tuple[str, ...], choose: Choose) -> tuple[list[str], bool]:
    """The names of the columns, and whether they stand in the first line of the file."""
    first, shown = table.first, " | ".join(table.first)[:SHOWN]
    if given:
        if len(given) != len(first):
            raise DataError(
                f"{table.source}: --columns names {len(given)} columns, but line {table.header_line} has "
                f"{len(first)}: {shown!r}; call those that are not wanted _"
            )
        return list(given), False
    try:
        choose(first)
    except DataError:
        numbers = [is_number(cell) for cell in first]
        if not any(numbers):
            raise
    else:
        return first, True
    usual = (USUAL + [UNWANTED] * len(first))[: len(first)]
    if first == [str(place) for place in range(len(first))]:
        said = "%s: its first line only numbers its columns, which are taken as %s"
        LOG.warning(said, table.source.name, ", ".join(usual))
        return usual, True
    if not all(numbers) or not 3 <= len(first) <= len(USUAL) or abs(float(first[2])) > LIKE_TIME:
        raise DataError(
            f"{table.source}: line {table.header_line} names no columns: {shown!r}; if the file has no header, say "
            f"what stands in it, for example --columns={','.join(usual)} or "
            f"--columns={','.join(['item', 'user', *usual[2:]])}, with _ for what is not wanted"
        )
    said = "%s has no header: its columns are taken as %s; if they are others, name them with --columns"
    LOG.warning(said, table.source.name, ", ".join(usual))
    return usual, False


def _read_json(source: Path, encoding: str, choose: Choose) -> pd.DataFrame:
    """Read an array of objects, or one object per line."""
    opened = gzip.open if source.suffix.lower() == ".gz" else open
    with opened(source, "rt", encoding=codec(encoding)) as file:
        is_array = next((char for line in file for char in line.lstrip()[:1]), "") == "["
        file.seek(0)
        rows = enumerate(_array(source, file), 1) if is_array else _lines(source, file)
        return _table_of(source, rows, "row" if is_array else "line", choose)


def _array(source: Path, file: TextIO) -> list[Any]:
    try:
        return json.load(file)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", 1)
        raise DataError(f"{source}: line {line} is no JSON: {error}") from None


def _lines(source: Path, file: TextIO) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{source}: line {number} is no JSON: {error}") from None


def _table_of(source: Path, rows: Iterable[tuple[int, Any]], place: str, choose: Choose) -> pd.DataFrame:
    chosen, values, numbers = None, [], []
    for number, row in rows:
        if not isinstance(row, dict):
            raise DataError(f"{source}: {place} {number} is no JSON object; one object per rating is expected")
        chosen = chosen or choose(list(row))
        values.append([row.get(column) for column in chosen.values()])
        numbers.append(number)
    index = pd.Index(numbers, name=place, dtype="int64")
    return pd.DataFrame(values, columns=list(chosen or []), index=index)


def _read_parquet(source: Path, choose: Choose) -> pd.DataFrame:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{source}: Parquet needs pyarrow: pip install 'recbole-dgrm[parquet]'") from None
    with pyarrow.parquet.ParquetFile(source) as file:
        chosen = choose(file.schema_arrow.names)
        table = file.read(columns=list(chosen.values()), use_pandas_metadata=False).to_pandas(ignore_metadata=True)
    table.index = pd.RangeIndex(1, len(table) + 1, name="row")
    return table.rename(columns={column: field for field, column in chosen.items()})[list(chosen)]


def table_format(path: Path, given: str | None = None) -> str:
    """The ``given`` format, or the one that the ending of ``path`` stands for.

    Raises:
        OptionError: there is no such format, or its library is not installed.
    """
    name = given or path.suffix[1:]
    if name not in WRITERS:
        raise OptionError(f"{path} does not end in one of {', '.join('.' + end for end in WRITERS)}: say --format")
    if name == "parquet":
        try:
            import pyarrow  # noqa: F401
        except ModuleNotFoundError:
            raise OptionError(
                "--format=parquet needs pyarrow, which is not installed: pip install 'recbole-dgrm[parquet]'"
            ) from None
    return name


def write_tables(path: Path, tables: Iterable[pd.DataFrame], name: str) -> None:
    """Write tables of the same columns one below the other into a file that is whole or absent."""
    write_whole(path, lambda partial: WRITERS[name](partial, tables))


def _write_csv(path: Path, tables: Iterable[pd.DataFrame]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        for index, table in enumerate(tables):
            table.to_csv(file, index=False, header=index == 0)


def _write_jsonl(path: Path, tables: Iterable[pd.DataFrame]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for table in tables:
            table.to_json(file, orient="records", lines=True, force_ascii=False)


def _write_parquet(path: Path, tables: Iterable[pd.DataFrame]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    try:
        for table in tables:
            rows = pa.Table.from_pandas(table, schema=writer.schema if writer else None, preserve_index=False)
            writer = writer or pq.ParquetWriter(path, rows.schema)
            writer.write_table(rows)
    finally:
        if writer:
            writer.close()


WRITERS = {"csv": _write_csv, "parquet": _write_parquet, "jsonl": _write_jsonl}
