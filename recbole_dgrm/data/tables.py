"""Read the wanted columns of a file into a DataFrame whose index holds the numbers of its lines or rows.

pandas and pyarrow read, ``text_rows`` checks what pandas would repair in silence.
"""

import bz2
import codecs
import gzip
import io
import logging
import lzma
import re
import zipfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_dgrm.data.json_rows import Choose, read_json
from recbole_dgrm.data.text_rows import BLOCK, NO_TRIPLES, SHOWN, TextRows, is_number
from recbole_dgrm.errors import DataError, UserError

LOG = logging.getLogger(__name__)
BLANKS, UNIT = r"\s+", "\x1f"  # a separator: any number of blanks and tabs; what replaces one of several characters
SEPARATORS = ("::", "\t", ";", ",", "|")  # that are guessed; blanks where none of them occurs
SAMPLE, BEGIN = 50, 1 << 16  # lines that a separator is guessed from, and bytes that hold them
FREE, RATIO = 1 << 26, 200  # a packed file may unpack to so many bytes, and to so many times its size
PACKED: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
USUAL = ["user", "item", "rating", "timestamp"]  # columns of well-known files without a header
NO_TEXT = ".xls .xlsx .ods .pkl .pickle .npy .npz .mat .h5 .hdf5 .feather .rds .rdata .sqlite .db"
LIKE_TIME = 1e8  # a number as large is no rating, but seconds since 1970
WIDE = 8  # a file without a header and with more columns of numbers is a matrix
TYPED = re.compile(r"(.*):(?:token|float)(?:_seq)?$")  # a column's name in RecBole's atomic format


@dataclass(frozen=True)
class Layout:
    """What a user says about the layout of a text file that cannot be seen from it.

    Attributes:
        separator: of a text table; guessed if not given.
        encoding: of a text table or JSON.
        columns: names of the columns of a text table without a header line; ``_`` for one that is not wanted.
    """

    separator: str | None = None
    encoding: str = "utf-8"
    columns: tuple[str, ...] = ()


def read_table(source: Path, layout: Layout, choose: Choose, numbers: Collection[str] = ()) -> pd.DataFrame:
    """Read the chosen columns of a file; its ending tells Parquet, JSON and text tables apart.

    Args:
        choose: called with the names of all columns; returns our name of each wanted column and that of the file.
        numbers: those of our names whose columns hold numbers.

    Returns:
        A table whose index counts lines (``index.name`` is "line") or, of Parquet and JSON arrays, rows ("row") of the
        file from 1. A text table has texts, and float64 in columns of ``numbers`` if all of their values are numbers.

    Raises:
        DataError: no such file, or it cannot be read.
    """
    if not source.is_file():
        raise DataError(f"{source} does not exist")
    kind = "CSV"
    try:
        with _opened(source) as (name, file):
            ending = next((end for end in map(str.lower, reversed(Path(name).suffixes)) if end not in PACKED), "")
            if ending in NO_TEXT.split():
                raise DataError(f"{source} is no table that can be read here; save it as CSV, JSON lines or Parquet")
            if ending in (".parquet", ".pq"):
                kind = "Parquet"
                return _read_parquet(source, file, choose)
            kind = "JSON" if ending in (".jsonl", ".ndjson", ".json") else kind
            data = _as_utf_8(source, _unpacked(source, file), layout.encoding)
        return read_json(source, data, choose) if kind == "JSON" else _read_text(source, data, layout, choose, numbers)
    except UserError:
        raise
    except Exception as error:  # whatever a parser fails at, it is the file that cannot be read
        raise DataError(f"{source} cannot be read as {kind}: {str(error) or type(error).__name__}") from error


@contextmanager
def _opened(source: Path) -> Iterator[tuple[str, Any]]:
    """The name of a file, without the ending of what packs it, and its content, which is unpacked while it is read."""
    if source.suffix.lower() == ".zip":
        with zipfile.ZipFile(source) as archive:
            members = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]
            if len(members) != 1:
                raise DataError(f"{source} holds {len(members)} files; unpack it and name one")
            with archive.open(members[0]) as file:
                yield members[0], file
    else:
        with PACKED.get(source.suffix.lower(), open)(source, "rb") as file:
            yield source.name, file


def _unpacked(source: Path, file: Any) -> bytes:
    """All bytes of an opened file, unless it unpacks to far more than ratings do."""
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
            for start in range(0, len(data), BLOCK):  # as a whole it would need several times the memory
                decoder.decode(data[start : start + BLOCK], start + BLOCK >= len(data))
            data = data.removeprefix(codecs.BOM_UTF8)
        else:
            data = data.decode(encoding).encode()
    except (UnicodeError, LookupError) as error:
        remedy = "say which encoding it has: --encoding=latin-1, cp1252, utf-16, ..."
        raise DataError(f"{source} cannot be read as text in {encoding} ({error}); {remedy}") from None
    if b"\0" in data:
        remedy = "say --encoding=utf-16 if it was saved so, or remove them"
        raise DataError(f"{source} cannot be read as text in {encoding}: it holds NUL bytes; {remedy}")
    if not data.strip():
        raise DataError(f"{source} is empty")
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _read_text(source: Path, data: bytes, layout: Layout, choose: Choose, numbers: Collection[str]) -> pd.DataFrame:
    start, separator = len(data) - len(data.lstrip(b"\n")), layout.separator
    if excel := re.compile(rb"sep=(.)\n+", re.IGNORECASE).match(data, start):  # Excel writes it above the header
        separator, start = separator or excel[1].decode(), excel.end()
    separator = separator or guess_separator(data[start : start + BEGIN + 1])
    line, data = 1 + data.count(b"\n", 0, start), data[start:] if start else data
    if separator == BLANKS:
        data = re.sub(rb"[ \t]+", UNIT.encode(), re.sub(rb"(?m)^[ \t]+|[ \t]+$", b"", data))
    data = data.replace(separator.encode(), UNIT.encode()) if len(separator.encode()) > 1 else data
    table = TextRows(source, data, separator if len(separator.encode()) == 1 else UNIT, line)
    names, has_header = _names(table, layout.columns, choose)
    chosen = choose(names)
    return table.read({names.index(name): ours for ours, name in chosen.items()}, has_header, numbers)[list(chosen)]


def guess_separator(data: bytes) -> str:
    """The separator that occurs equally often in each of the first lines, or blanks if there is none."""
    lines = [line for line in data[:BEGIN].decode(errors="replace").split("\n") if line.strip()]
    if len(data) > BEGIN and len(lines) > 1:
        lines.pop()  # it may be cut
    counts = {one: [line.count(one) for line in lines[:SAMPLE]] for one in SEPARATORS}
    steady = {one: found[0] for one, found in counts.items() if len(set(found)) == 1}
    often = steady if any(steady.values()) else {one: found[0] for one, found in counts.items()}
    best = max(often, key=lambda one: often[one])
    return best if often[best] else BLANKS


def _names(table: TextRows, given: tuple[str, ...], choose: Choose) -> tuple[list[str], bool]:
    """The names of the columns, and whether they are in the first line of the file."""
    first, where = table.first, f"{table.source}: line {table.line}"
    shown, numbers = repr(" | ".join(first)[:SHOWN]), list(map(is_number, first))
    usual = (USUAL + ["_"] * len(first))[: len(first)]
    if given:
        if len(given) != len(first):
            remedy = f"--columns names {len(given)}; call those that are not wanted _"
            raise DataError(f"{where} has {len(first)} columns, and {remedy}: {shown}")
        return list(given), False
    if any(map(TYPED.fullmatch, first)):
        return [TYPED.sub(r"\1", name) for name in first], True
    with suppress(DataError):
        choose(first)
        return first, True
    if not any(numbers):
        return first, True
    if first == [str(place) for place in range(len(first))]:
        said = "%s: its first line only numbers its columns, which are taken as %s"
        LOG.warning(said, table.source.name, ", ".join(usual))
        return usual, True
    if len(first) > WIDE and sum(numbers) + first.count("") >= len(first) - 1:
        raise DataError(f"{where} names no columns: {shown}; if each is an item, {NO_TRIPLES.format('melt')}")
    if not all(numbers) or not 3 <= len(first) <= len(USUAL) or abs(float(first[2])) > LIKE_TIME:
        raise DataError(
            f"{where} names no columns: {shown}; if the file has no header, name its columns, for example "
            f"--columns={','.join(usual)} or --columns={','.join(['item', 'user', *usual[2:]])}, with _ for what is "
            "not wanted"
        )
    said = "%s has no header: its columns are taken as %s; if they are others, name them with --columns"
    LOG.warning(said, table.source.name, ", ".join(usual))
    return usual, False


def _read_parquet(source: Path, file: Any, choose: Choose) -> pd.DataFrame:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{source}: Parquet needs pyarrow: pip install 'recbole-dgrm[parquet]'") from None
    packed = source.suffix.lower() not in (".parquet", ".pq")
    with pyarrow.parquet.ParquetFile(io.BytesIO(_unpacked(source, file)) if packed else source) as parquet:
        chosen = choose(parquet.schema_arrow.names)
        if 8 * (values := parquet.metadata.num_rows * len(chosen)) > FREE + RATIO * source.stat().st_size:
            raise DataError(f"{source} unpacks to {values:,} values, as ratings of its size never do")
        table = parquet.read(columns=list(chosen.values()), use_pandas_metadata=False).to_pandas(ignore_metadata=True)
    table.index = pd.RangeIndex(1, len(table) + 1, name="row")
    return table.rename(columns={column: ours for ours, column in chosen.items()})[list(chosen)]
