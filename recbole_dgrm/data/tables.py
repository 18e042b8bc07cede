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
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import narwhals.stable.v2 as nw
import pandas as pd

from recbole_dgrm.data.text_tables import Choose, Reading, read_text
from recbole_dgrm.errors import DataError, UserError

BLOCK = 1 << 24  # bytes that are decompressed or decoded at once
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
            if kind == "Parquet" and source.suffix.lower() in PARQUET:
                return _read_parquet(source, source, choose)
            data = _unpacked(source, file)
        if kind == "Parquet":
            return _read_parquet(source, io.BytesIO(data), choose)
        data = _as_utf_8(source, data, reading.encoding)
        if kind == "JSON":
            return _read_json(source, data, choose)
        return read_text(str(source), data, reading, choose, numbers)
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


def _unpacked(source: Path, file: Any) -> bytes:
    """All bytes of an opened file, unless it decompresses to far more than ratings do."""
    content, most = io.BytesIO(), FREE + RATIO * source.stat().st_size
    while block := file.read(BLOCK):
        content.write(block)
        if content.tell() > most:
            raise DataError(f"{source} unpacks to more than {most:,} bytes, as ratings never do; unpack it yourself")
    return content.getvalue()


def codec(encoding: str) -> str:
    """Python's name of an encoding; for UTF-8 the one that skips a byte-order mark."""
    return "utf-8-sig" if encoding.lower().replace("_", "-") in ("utf-8", "utf8") else encoding


def _as_utf_8(source: Path, data: bytes, encoding: str) -> bytes:
    """The text in UTF-8, without a byte-order mark, and with lines that end with a line feed."""
    try:
        if codec(encoding) == "utf-8-sig":
            decoder = codecs.getincrementaldecoder("utf-8")()
            for start in range(0, len(data), BLOCK):  # decoding all at once would need several times the memory
                decoder.decode(data[start : start + BLOCK], start + BLOCK >= len(data))
            data = data.removeprefix(codecs.BOM_UTF8)
        else:
            data = data.decode(encoding).encode()
        if b"\0" in data:
            raise UnicodeError("it has NUL bytes, as UTF-16 does")
    except (UnicodeError, LookupError) as error:
        remedy = "name its encoding: --encoding=latin-1, cp1252, utf-16, ..."
        raise DataError(f"{source} cannot be read as text in {encoding} ({error}); {remedy}") from None
    if not data.strip():
        raise DataError(f"{source} is empty")
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _read_json(source: Path, data: bytes, choose: Choose) -> pd.DataFrame:
    """Read an array of objects, or an object per line; an object that lacks a column has a missing value there."""
    chosen = choose(list(dict.fromkeys(name for _, row in _json_rows(source, data) for name in row)))
    places: list[int] = []
    cells: dict[str, list[Any]] = {column: [] for column in chosen.values()}
    for place, row in _json_rows(source, data):
        places.append(place)
        for column, values in cells.items():
            values.append(row.get(column))
    index = pd.Index(places, name="row" if data.lstrip()[:1] == b"[" else "line", dtype="int64")
    return pd.DataFrame({field: pd.Series(cells[column], index, object) for field, column in chosen.items()})


def _json_rows(source: Path, data: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """Each object with its row number if the file is an array, else its line number."""
    is_array = data.lstrip()[:1] == b"["
    for line, text in enumerate([data] if is_array else io.BytesIO(data), 1):
        if not (text := text.rstrip()):
            continue
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            place = line - 1 + getattr(error, "lineno", 1)
            raise DataError(f"{source}: line {place} is not valid JSON: {error}") from None
        for number, row in enumerate(content if is_array else [content], line):
            if not isinstance(row, dict):
                kind = "row" if is_array else "line"
                raise DataError(f"{source}: {kind} {number} is not a JSON object; one object per rating is expected")
            yield number, row


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
        columns = {field: frame.column(column).to_pandas() for field, column in choose(frame.column_names).items()}
    else:
        chosen = choose(frame.collect_schema().names())
        frame = frame.select(*dict.fromkeys(chosen.values()))
        frame = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
        columns = {field: _as_pandas(frame[column]) for field, column in chosen.items()}
    index = pd.RangeIndex(1, len(frame) + 1, name="row")
    return pd.DataFrame({field: column.set_axis(index) for field, column in columns.items()})


def _as_pandas(column: nw.Series) -> pd.Series:
    if not column.implementation.is_polars():
        return column.to_pandas()
    as_array = column.dtype.is_float() or (column.dtype.is_integer() and column.dtype not in (nw.Int128, nw.UInt128))
    return pd.Series(column.to_numpy() if as_array else column.to_list())  # to_pandas needs pyarrow
