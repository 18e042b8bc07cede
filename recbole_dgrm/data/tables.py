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
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from itertools import chain, compress
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
KINDS = {".parquet": "Parquet", ".pq": "Parquet", ".json": "JSON", ".jsonl": "JSON", ".ndjson": "JSON"}  # else CSV
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
        with _opened(source) as (name, _):
            ending = next((end for end in map(str.lower, reversed(Path(name).suffixes)) if end not in PACKED), "")
        if ending in NO_TEXT.split():
            raise DataError(f"{source} has a format that cannot be read; save it as CSV, JSON lines or Parquet")
        kind = KINDS.get(ending, kind)
        if kind == "Parquet":
            return _read_parquet(source, choose)
        if kind == "JSON":
            return _read_json(source, reading.encoding, choose, numbers)
        return read_text(str(source), _blocks(source, reading.encoding), reading, choose, numbers)
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


def _most(source: Path) -> int:
    """The number of bytes that a file may unpack to."""
    return FREE + RATIO * source.stat().st_size


def codec(encoding: str) -> str:
    """Python's name of an encoding; for UTF-8 the one that skips a byte-order mark."""
    return "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding


def _blocks(source: Path, encoding: str) -> Iterator[bytes]:
    """The text of a file in UTF-8, without a byte-order mark, in blocks of whole lines that end with a line feed."""
    size, most, begun, is_empty = 0, _most(source), list[str](), True
    try:
        decoder = io.IncrementalNewlineDecoder(codecs.getincrementaldecoder(codec(encoding))(), translate=True)
        with _opened(source) as (_, file):
            for data in chain(iter(partial(file.read, BLOCK), b""), [b""]):
                if (size := size + len(data)) > most:
                    what = f"unpacks to more than {most:,} bytes, as ratings never do"
                    raise DataError(f"{source} {what}; unpack it yourself")
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


def first_line(source: Path, encoding: str) -> str:
    """The first line of a text file."""
    return next(_blocks(source, encoding)).partition(b"\n")[0].decode()


def _read_json(source: Path, encoding: str, choose: Choose, numbers: Collection[str]) -> pd.DataFrame:
    """Read an array of objects, or an object per line; an object that lacks a column has a missing value there."""
    names, chosen = dict[str, None](), dict[str, str]()

    def tables() -> Iterator[pd.DataFrame]:
        for number, (place, rows) in enumerate(_json_rows(source, _blocks(source, encoding))):
            names.update(dict.fromkeys(chain.from_iterable(rows)))
            if number == 0:
                with suppress(DataError):  # later blocks may have more columns
                    chosen.update(choose(list(names)))
            cells = {field: [row.get(column) for row in rows] for field, column in chosen.items()}
            yield pd.DataFrame(
                {field: _packed(values, place, field in numbers) for field, values in cells.items()}, place
            )

    table = joined(tables())
    return table if chosen == choose(list(names)) else joined(tables())


def _json_rows(source: Path, blocks: Iterator[bytes]) -> Iterator[tuple[pd.Index, list[dict[str, Any]]]]:
    """The objects of each block of lines, or of a whole array, and the numbers of their lines or rows."""
    first, line = next(blocks), 1
    if first.lstrip()[:1] == b"[":
        rows = _parsed(source, line, b"".join([first, *blocks]))
        yield _checked(source, rows, pd.RangeIndex(1, len(rows) + 1, name="row"))
        return
    for data in chain([first], blocks):
        texts = data.rstrip().split(b"\n")
        places = pd.RangeIndex(line, line + len(texts), name="line")
        if not all(is_filled := list(map(bool, map(bytes.strip, texts)))):
            places, texts = places[is_filled], list(compress(texts, is_filled))
        try:
            rows = json.loads(b"[%s]" % b",".join(texts))
        except (ValueError, RecursionError):
            rows = []
        if len(rows) != len(texts):  # find the line
            rows = list(map(partial(_parsed, source), places, texts))
        yield _checked(source, rows, places)
        line += data.count(b"\n")


def _parsed(source: Path, line: int, text: bytes) -> Any:
    """The JSON value that begins in a line."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        line += getattr(error, "lineno", 1) - 1
        raise DataError(f"{source}: line {line} is not valid JSON: {error}") from None


def _checked(source: Path, rows: list[Any], places: pd.Index) -> tuple[pd.Index, list[dict[str, Any]]]:
    if not set(map(type, rows)) <= {dict}:
        place = next(place for place, row in zip(places, rows, strict=True) if not isinstance(row, dict))
        raise DataError(f"{source}: {places.name} {place} is not a JSON object; one object per rating is expected")
    return places, rows


def _packed(values: list[Any], place: pd.Index, is_number: bool) -> pd.Series:
    """A column of plain values in little memory: as float64, or as categories of texts or of whole numbers."""
    kinds = set(map(type, values)) - {NoneType}
    if is_number and kinds <= {int, float}:
        with suppress(OverflowError):
            return pd.Series(np.array(values, np.float64), place)
    column = pd.Series(values, place, dtype=object)
    return categories(column) if kinds in (set(), {int}, {str}) else column


def _read_parquet(source: Path, choose: Choose) -> pd.DataFrame:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{source}: Parquet needs pyarrow: pip install 'recbole-dgrm[parquet]'") from None
    with pyarrow.parquet.ParquetFile(source) as parquet:
        chosen = choose(parquet.schema_arrow.names)
        if 8 * (values := parquet.metadata.num_rows * len(chosen)) > _most(source):
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
    elif _is_arrow(frame):  # texts become categories, because most ids occur often
        columns = {
            field: frame.select([column]).to_pandas(strings_to_categorical=True, ignore_metadata=True)[column]
            for field, column in choose(frame.column_names).items()
        }
    else:
        chosen = choose(frame.collect_schema().names())
        frame = frame.lazy().select(*dict.fromkeys(chosen.values())).collect()
        is_polars = frame.implementation.is_polars()  # whose to_pandas needs pyarrow
        columns = {
            field: pd.Series(frame[column].to_numpy()) if is_polars else frame[column].to_pandas()
            for field, column in chosen.items()
        }
    index = pd.RangeIndex(1, len(frame) + 1, name="row")
    return pd.DataFrame({field: column.set_axis(index) for field, column in columns.items()})
