"""Read text tables (CSV and the like) so that no row is silently shifted, lost or merged with another.

Every row must have as many fields as the first; only empty fields at its end may be missing or too many. Between
tabs, blanks or ``::`` a quotation mark is a character like any other, unless all cells of a column stand in quotes.
Between commas, semicolons and bars it quotes a cell, and must be closed before the next separator. A quoted cell that
runs on over what looks like another row is refused, because that is what a lone quotation mark does.
"""

import bz2
import csv
import gzip
import io
import lzma
import re
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pandas._libs.parsers import STR_NA_VALUES

from recbole_dgrm.errors import DataError

UTF_8 = "utf-8"
MISSING = frozenset(STR_NA_VALUES)  # what pandas, and with it RecBole, takes for a missing value
BLANKS = r"\s+"  # as a separator: any number of blanks and tabs
UNIT = "\x1f"  # stands for a separator of several characters while a file is read
SEPARATORS = ("::", "\t", ";", ",", "|")  # that are guessed; blanks where none of them is there
QUOTING = (",", ";", "|")  # separators beside which quotation marks quote
SAMPLE, BEGIN = 50, 1 << 16  # lines that a separator is guessed from, and bytes that hold them
BLOCK = 1 << 26  # bytes whose separators are counted at once
SHOWN = 80  # characters of a row in a message
OPENERS: dict[str, Callable[..., Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


@dataclass(frozen=True)
class TextTable:
    """A text table in memory.

    Attributes:
        source: its file, for messages.
        data: its bytes in UTF-8, without a byte-order mark, lines ended by a line feed.
        separator: one character.
    """

    source: Path
    data: bytes
    separator: str

    @classmethod
    def open(cls, source: Path, separator: str | None = None, encoding: str = UTF_8) -> "TextTable":
        """Read a file, which may be compressed (.gz, .bz2, .xz, .zip).

        Args:
            separator: any text, or ``BLANKS``; guessed if not given.

        Raises:
            DataError: it is no text in ``encoding``, or empty.
        """
        data = _as_utf_8(source, encoding)
        if not data.strip():
            raise DataError(f"{source} is empty")
        separator = separator or guess_separator(data)
        if separator == BLANKS:
            data = re.sub(rb"[ \t]+", UNIT.encode(), re.sub(rb"(?m)^[ \t]+|[ \t]+$", b"", data))
            separator = UNIT
        elif len(separator.encode()) > 1:
            data, separator = data.replace(separator.encode(), UNIT.encode()), UNIT
        return cls(source, data, separator)

    @cached_property
    def header_line(self) -> int:
        """Number of the first line that is not blank, from 1."""
        return 1 + len(self.data) - len(self.data.lstrip(b"\n"))

    @cached_property
    def first(self) -> list[str]:
        """The cells of the first line, without their quotes."""
        start = self.header_line - 1  # the lines before it are line feeds alone
        end = self.data.find(b"\n", start)
        line = self.data[start : end if end >= 0 else None].decode()
        if self.separator in QUOTING:
            return next(csv.reader([line], delimiter=self.separator), [])
        return [_unquoted(cell) for cell in line.split(self.separator)]

    @cached_property
    def named(self) -> int:
        """The least number of fields of a row: those of the first line without empty ones at its end."""
        return _filled(self.first)

    def read(
        self,
        columns: Mapping[int, str],
        has_header: bool = True,
        rating: int | None = None,
        numbers: frozenset[str] = frozenset(),
    ) -> pd.DataFrame:
        """Read and check the wanted columns.

        Args:
            columns: place of a column in the file, from 0, to its name in the result.
            has_header: whether the first line names the columns.
            rating: place of a column of numbers: it tells a row from text that goes on over several lines.
            numbers: names of columns to read as float64, exactly as they are written; the others stay text.

        Returns:
            A table whose index, named "line", holds the numbers of the lines from 1; cells in ``MISSING`` are
            missing values.

        Raises:
            DataError: a row has another number of fields, or a quotation mark swallows lines.
            ValueError: a value of ``numbers`` is no number.
        """
        if b'"' in self.data and self.separator in QUOTING:
            table = self._read_quoted(columns, rating)
            table = table.iloc[int(has_header) :]
            return table.astype({name: "float64" for name in table if name in numbers})
        return self._read_plain(columns, has_header, numbers)

    def _read_plain(self, columns: Mapping[int, str], has_header: bool, numbers: frozenset[str]) -> pd.DataFrame:
        """Read a table in which no cell is quoted, or every cell of a column is."""
        lines = self._check_fields()
        begin = self.header_line if has_header else 0
        contiguous = len(columns) == max(columns) + 1  # with gaps between columns pandas wants a name for every field
        places = list(range(len(columns) if contiguous else max(len(self.first), max(columns) + 1)))
        table = pd.read_csv(
            io.BytesIO(self.data),
            sep=self.separator,
            header=None,
            names=places,
            usecols=sorted(columns),
            skiprows=begin,
            skip_blank_lines=False,
            quoting=csv.QUOTE_NONE,
            float_precision="round_trip",
            dtype={place: "float64" if columns.get(place) in numbers else str for place in places},
        )
        table = table.iloc[lines[lines > begin] - begin - 1].set_axis(pd.Index(lines[lines > begin], name="line"))
        table = table.rename(columns=columns)[list(columns.values())]
        if b'"' in self.data:
            for name in table.columns.difference(list(numbers)):
                table[name] = _without_quotes(table[name])
        return table

    def _check_fields(self) -> NDArray[np.int64]:
        """Check that each line has as many fields as the first; returns the numbers ``(n,)`` of those not blank."""
        found = [np.empty(0, np.int64)]
        line = start = 0
        while start < len(self.data):
            end = self.data.rfind(b"\n", start, start + BLOCK) + 1
            if end <= start:  # the last line, or one that is longer than a block
                end = self.data.find(b"\n", start) + 1 or len(self.data)
            block = np.frombuffer(self.data, np.uint8, end - start, start)
            stops = np.flatnonzero(block == ord("\n"))
            if block[-1] != ord("\n"):
                stops = np.append(stops, len(block))
            starts = np.append(0, stops[:-1] + 1)
            separators = np.flatnonzero(block == ord(self.separator))
            fields = 1 + np.diff(np.searchsorted(separators, np.append(0, stops)))
            filled = stops > starts
            for odd in np.flatnonzero(filled & (fields != len(self.first))):
                cells = bytes(block[starts[odd] : stops[odd]]).decode().split(self.separator)
                self._check_cells(cells, line + int(odd) + 1)
            found.append(line + 1 + np.flatnonzero(filled))
            line, start = line + len(stops), end
        return np.concatenate(found)

    def _check_cells(self, cells: list[str], line: int) -> None:
        """Check that a row differs from the first by empty cells at its end alone."""
        if len(cells) >= self.named and _filled(cells) <= len(self.first):
            return
        more = "a decimal comma, a comma in a text without quotation marks, and the numbers of rows that R writes each "
        hint = f"; {more}make one more" if len(cells) == len(self.first) + 1 else ""
        raise DataError(
            f"{self.source}: line {line} has {len(cells)} fields, but line {self.header_line} has {len(self.first)}: "
            f"{' | '.join(cells)[:SHOWN]!r}{hint}"
        )

    def _read_quoted(self, columns: Mapping[int, str], rating: int | None) -> pd.DataFrame:
        """Read a table in which quotation marks quote cells."""
        lines, rows, current = [], [], []

        def fed() -> Iterator[str]:
            for line in io.StringIO(self.data.decode(), newline="\n"):
                current.append(line)
                yield line

        reader, begin = csv.reader(fed(), delimiter=self.separator, strict=True), 1
        try:
            for row in reader:
                self._check_swallowed(current, begin, rating)
                if row:
                    if len(row) != len(self.first):
                        self._check_cells(row, begin)
                        row += [""] * (len(self.first) - len(row))
                    lines.append(begin)
                    rows.append([row[place] for place in columns])
                current.clear()
                begin = reader.line_num + 1
        except csv.Error as error:
            raise DataError(
                f"{self.source}: a quotation mark in line {begin} does not quote a cell ({error}); within a quoted "
                "cell write it twice, and begin no other cell with it"
            ) from None
        table = pd.DataFrame(rows, columns=list(columns.values()), index=pd.Index(lines, name="line"), dtype=object)
        return table.mask(table.isin(MISSING))

    def _check_swallowed(self, lines: list[str], begin: int, rating: int | None) -> None:
        """Check that a row of several lines is not several rows that a lone quotation mark has merged."""
        if len(lines) < 2:
            return
        rows = [self._looks_like_row(line, rating) for line in lines]
        if any(rows[1:-1]) or (rows[0] and rows[-1]):
            raise DataError(
                f"{self.source}: a quotation mark in line {begin} makes one cell of the lines {begin} to "
                f"{begin + len(lines) - 1}, and there are rows among them; remove the lone mark, or the line breaks "
                "from the cells"
            )

    def _looks_like_row(self, line: str, rating: int | None) -> bool:
        cells = line.rstrip("\n").split(self.separator)
        return len(cells) == len(self.first) and (rating is None or is_number(cells[rating].strip('"')))


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


def codec(encoding: str) -> str:
    """Python's name of an encoding; for UTF-8 the one that skips a byte-order mark."""
    return "utf-8-sig" if encoding.lower().replace("_", "-") in (UTF_8, "utf8") else encoding


def _as_utf_8(source: Path, encoding: str) -> bytes:
    data = _bytes_of(source)
    try:
        text = data.decode(codec(encoding))
    except (UnicodeError, LookupError) as error:
        raise DataError(
            f"{source} cannot be read as text in {encoding} ({error}); say which encoding it has: --encoding=latin-1, "
            "cp1252, utf-16, ..."
        ) from None
    if "\0" in text:
        remedy = "say --encoding=utf-16 if it was saved so, or remove them"
        raise DataError(f"{source} cannot be read as text in {encoding}: it holds NUL bytes; {remedy}")
    return text.replace("\r\n", "\n").replace("\r", "\n").encode()


def _bytes_of(source: Path) -> bytes:
    if source.suffix.lower() == ".zip":
        with zipfile.ZipFile(source) as archive:
            members = [name for name in archive.namelist() if not name.endswith("/") and "__MACOSX" not in name]
            if len(members) != 1:
                raise DataError(f"{source} holds {len(members)} files; unpack it and name one")
            return archive.read(members[0])
    with OPENERS.get(source.suffix.lower(), lambda path: open(path, "rb"))(source) as file:
        return file.read()


def _filled(cells: list[str]) -> int:
    """The number of cells up to the last one that is not empty."""
    return max((place for place, cell in enumerate(cells, 1) if cell), default=0)


def _without_quotes(cells: pd.Series) -> pd.Series:
    """The cells without their quotation marks, if all of them stand in such."""
    there = cells.dropna()
    quoted = there.str.startswith('"') & there.str.endswith('"') & (there.str.len() > 1)
    return cells.map(_unquoted, na_action="ignore") if len(there) and quoted.all() else cells


def _unquoted(cell: str) -> str:
    quoted = len(cell) > 1 and cell.startswith('"') and cell.endswith('"')
    return cell[1:-1].replace('""', '"') if quoted else cell


def is_number(text: str) -> bool:
    """Whether ``text`` can be read as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
