"""Read the chosen columns of a file or a DataFrame into a DataFrame of pandas, whose index counts lines or rows.

pandas and pyarrow read; ``text_tables`` checks for faults that pandas would repair silently.
"""

import bz2
import codecs
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain
from pathlib import Path
from types import NoneType
from typing import Any

import narwhals.stable.v2 as nw
import numpy as np
import pandas as pd

from recbole_dgrm.data.text_tables import Choose, Reading, read_text
from recbole_dgrm.data.values import categories, joined
from recbole_dgrm.errors import DataError, UserError

BLOCK = 1 << 23  # bytes that are read, decoded and parsed at once
FREE, RATIO = 1 << 26, 200  # a compressed file may have so many bytes, plus so many times its size
PACKED: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
PARQUET, JSON = (".parquet", ".pq"), (".json", ".jsonl", ".ndjson")
NO_TEXT = ".xls .xlsx .ods .pkl .pickle .npy .npz .mat .h5 .hdf5 .feather .rds .rdata .sqlite .db"


def read_file(source: Path, reading: Reading, choose: Choose, numbers: Collection[str] = ()) -> pd.DataFrame:
    """Read the chosen columns of a file; its suffix says whether it is Parquet, JSON or a text table.

    Args:
        choose: called with the names of all columns; returns the column for each field.
        numbers: see ``read_text``.

    Returns:
        A table with the fields. Its index counts lines of the file from 1 and is named "line"; for Parquet and JSON
        arrays it counts rows and is named "row".

    Raises:
        DataError: the file does not exist, or cannot be read.
    """
    if not source.is_file():
        raise DataError(f"{source} does not exist")
    kind = "CSV"
    try:
        with _opened(source) as (name, file):
            ending = next((end for end in map(str.lower, reversed(Path(name).suffixes)) if end not in PACKED), "")
            if ending in NO_TEXT.split():
                raise DataError(f"{source} has a format that cannot be read; save it as CSV, JSON lines or Parquet")
            kind = "Parquet" if ending in PARQUET else "JSON" if ending in JSON else kind
            if kind == "Parquet":
                is_packed = source.suffix.lower() not in PARQUET
                return _read_parquet(
                    source, io.BytesIO(b"".join(_bounded(source, file))) if is_packed else source, choose
                )
        blocks = partial(_blocks, source, reading.encoding)
        if kind == "JSON":
            return _read_json(source, blocks, choose, numbers)
        return read_text(str(source), blocks(), reading, choose, numbers)
    except UserError:
        raise
    except Exception as error:  # parsers raise many kinds of errors
        raise DataError(f"{source} cannot be read as {kind}: {str(error) or type(error).__name__}") from error


@contextmanager
def _opened(source: Path) -> Iterator[tuple[str, Any]]:
    """The name of a file and its content, decompressed while it is read; for an archive those of its only member."""
    if source.suffix.lower() != ".zip":
        with PACKED.get(source.suffix.lower(), open)(source, "rb") as file:
            yield source.name, file
        return
    with zipfile.ZipFile(source) as archive:
        members = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]
        if len(members) != 1:
            raise DataError(f"{source} has {len(members)} files; unpack it and name one")
        with archive.open(members[0]) as file:
            yield members[0], file


def _bounded(source: Path, file: Any) -> Iterator[bytes]:
    """The blocks of an opened file, unless it decompresses to far more than ratings do."""
    size, most = 0, FREE + RATIO * source.stat().st_size
    while block := file.read(BLOCK):
        if (size := size + len(block)) > most:
            raise DataError(f"{source} unpacks to more than {most:,} bytes, as ratings never do; unpack it yourself")
        yield block


def codec(encoding: str) -> str:
    """Python's name of an encoding; for UTF-8 the one that skips a byte-order mark."""
    return "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding


def _blocks(source: Path, encoding: str) -> Iterator[bytes]:
    """The text of a file in UTF-8, without a byte-order mark, in blocks of whole lines that end with a line feed."""
    size, begun, is_empty = 0, list[str](), True
    try:
        decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(codec(encoding))(), translate=True)
        with _opened(source) as (_, file):
            for data in chain(_bounded(source, file), [b""]):
                size += len(data)
                text = decoder.decode(data, final=not data)
                if "\0" in text:
                    raise UnicodeError("it has NUL bytes, as UTF-16 does")
                end = text.rfind("\n") + 1 if data else len(text)
                begun.append(text[: end or None])
                if end or not data:
                    block, begun = "".join(begun), [text[end:]]
                    if is_empty := is_empty and not block.strip():
                        break
                    if block:
                        yield block.encode()
    except (UnicodeError, LookupError) as error:
        what, remedy = str(error), "name its encoding: --encoding=latin-1, cp1252, utf-16, ..."
        if isinstance(error, UnicodeDecodeError):
            place = size - len(error.object) + error.start
            what = what.replace(f"position {error.start}", f"position {place}", 1)
        raise DataError(f"{source} cannot be read as text in {encoding} ({what}); {remedy}") from None
    if is_empty:
        raise DataError(f"{source} is empty")


def _read_json(
    source: Path, blocks: Callable[[], Iterator[bytes]], choose: Choose, numbers: Collection[str]
) -> pd.DataFrame:
    """Read an array of objects, or an object per line; an object that lacks a column has a missing value there."""
    wanted: dict[str, str] | None = None  # the columns that are kept, after the first block or the first reading
    names: dict[str, None] = {}

    def tables() -> Iterator[pd.DataFrame]:
        nonlocal wanted
        for place, rows in _json_rows(source, blocks()):
            names.update(dict.fromkeys(chain.from_iterable(rows)))
            if wanted is None:
                with suppress(DataError):  # a later block may have more columns
                    wanted = choose(list(names))
                wanted = wanted or {}
            cells = {field: [row.get(column) for row in rows] for field, column in wanted.items()}
            yield pd.DataFrame(
                {field: _packed(values, field in numbers).set_axis(place) for field, values in cells.items()}, place
            )

    table = joined(tables())
    if (chosen := choose(list(names))) != wanted:
        wanted = chosen
        table = joined(tables())
    return table


def _json_rows(source: Path, blocks: Iterator[bytes]) -> Iterator[tuple[pd.Index, list[dict[str, Any]]]]:
    """The objects of each block of lines, or of a whole array, and the numbers of their lines or rows."""
    first, line = next(blocks), 1
    is_array = first.lstrip()[:1] == b"["
    for data in [b"".join([first, *blocks])] if is_array else chain([first], blocks):
        texts = [data] if is_array else data.rstrip().split(b"\n")
        places = pd.RangeIndex(line, line + len(texts), name="line")
        if not all(filled := list(map(bytes.strip, texts))):
            places, texts = places[np.array(list(map(bool, filled)))], list(filter(None, filled))
        try:
            rows = json.loads(data if is_array else b"[%s]" % b",".join(texts))
        except (ValueError, RecursionError):
            rows = []
        if set(map(type, rows)) != {dict} or not (is_array or len(rows) == len(texts)):  # find the line
            found = (_objects(source, place, text, is_array) for place, text in zip(places, texts, strict=True))
            rows = list(chain.from_iterable(found))
        line += data.count(b"\n")
        if texts:
            yield pd.RangeIndex(1, len(rows) + 1, name="row") if is_array else places, rows


def _objects(source: Path, line: int, text: bytes, is_array: bool) -> list[dict[str, Any]]:
    """The object in a line, or the objects of an array that begins in it."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        place = line - 1 + getattr(error, "lineno", 1)
        raise DataError(f"{source}: line {place} is not valid JSON: {error}") from None
    rows = content if is_array else [content]
    for number, row in enumerate(rows, line):
        if not isinstance(row, dict):
            kind = "row" if is_array else "line"
            raise DataError(f"{source}: {kind} {number} is not a JSON object; one object per rating is expected")
    return rows


def _packed(values: list[Any], is_number: bool) -> pd.Series:
    """A column of plain values in little memory: as float64, or as categories of texts or of whole numbers."""
    kinds = set(map(type, values)) - {NoneType}
    if is_number and kinds <= {int, float}:
        with suppress(OverflowError):
            return pd.Series(np.array(values, np.float64))
    column = pd.Series(values, dtype=object)
    return categories(column) if kinds in ({int}, {str}) else column


def _read_parquet(source: Path, file: Any, choose: Choose) -> pd.DataFrame:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{source}: Parquet needs pyarrow: pip install 'recbole-dgrm[parquet]'") from None
    with pyarrow.parquet.ParquetFile(file) as parquet:
        chosen = choose(parquet.schema_arrow.names)
        if 8 * (values := parquet.metadata.num_rows * len(chosen)) > FREE + RATIO * source.stat().st_size:
            raise DataError(f"{source} unpacks to {values:,} values, as ratings of its size never do")
        return read_frame(parquet.read(columns=list(chosen.values())), lambda _: chosen)


def as_frame(data: Any) -> Any:
    """``data`` itself for a DataFrame of pandas or pyarrow, a narwhals frame for other libraries; else None."""
    if isinstance(data, pd.DataFrame) or _is_arrow(data):
        return data
    frame = nw.from_native(data, pass_through=True)
    return frame if isinstance(frame, (nw.DataFrame, nw.LazyFrame)) else None


def _is_arrow(data: Any) -> bool:
    """Whether it is a table of pyarrow, which may have two columns of the same name; narwhals raises an error then."""
    return type(data).__module__.startswith("pyarrow") and hasattr(data, "column_names")


def read_frame(data: Any, choose: Choose) -> pd.DataFrame:
    """The chosen columns of a DataFrame by field, with an index that counts rows from 1."""
    frame = as_frame(data)
    if isinstance(frame, pd.DataFrame):
        names = list(map(str, frame.columns))
        columns = {field: frame.iloc[:, names.index(column)] for field, column in choose(names).items()}
    elif _is_arrow(frame):
        columns = {field: _from_arrow(frame.column(column)) for field, column in choose(frame.column_names).items()}
    else:
        chosen = choose(frame.collect_schema().names())
        frame = frame.select(*dict.fromkeys(chosen.values()))
        frame = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
        columns = {field: _as_pandas(frame[column]) for field, column in chosen.items()}
    index = pd.RangeIndex(1, len(frame) + 1, name="row")
    return pd.DataFrame({field: column.set_axis(index) for field, column in columns.items()})


def _from_arrow(column: Any) -> pd.Series:
    """A column of pyarrow as one of pandas; texts become categories, because most ids occur often."""
    return (column.dictionary_encode() if str(column.type) in ("string", "large_string") else column).to_pandas()


def _as_pandas(column: nw.Series) -> pd.Series:
    if not column.implementation.is_polars():
        return column.to_pandas()
    as_array = column.dtype.is_float() or (column.dtype.is_integer() and column.dtype not in (nw.Int128, nw.UInt128))
    return pd.Series(column.to_numpy() if as_array else column.to_list())  # to_pandas needs pyarrow
