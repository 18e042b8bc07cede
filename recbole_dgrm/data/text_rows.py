"""The rows of a text table: each has as many fields as the first, and none is swallowed by a quotation mark.

Left alone, pandas fills rows that are too short, and lets a lone quotation mark make one cell of many lines. Between
tabs, blanks or ``::`` a quotation mark is a character like any other, unless all cells of a column are quoted; between
commas, semicolons and bars it quotes a cell, and a cell of several lines must not have lines that look like rows.
"""

import csv
import io
from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_dgrm.errors import DataError

QUOTING = (",", ";", "|")  # separators between which quotation marks quote
BLOCK = 1 << 24  # bytes that are checked at once
SHOWN = 80  # characters of a row in a message
NO_TRIPLES = "these rows are no triples (a user, an item and one rating per row); pandas.DataFrame.{} makes such rows"
EXACT = {"float_precision": "round_trip"} if pd.__version__ < "3.1" else {}  # from 3.1 on all numbers are exact


@dataclass(frozen=True)
class TextRows:
    """A text table in memory.

    Attributes:
        source: its file, for messages.
        data: its bytes in UTF-8 from the first line with content on, with lines that end with a line feed.
        separator: one character.
        line: the number of that line in the file.
    """

    source: Path
    data: bytes
    separator: str
    line: int = 1

    @cached_property
    def quotes(self) -> bool:
        """Whether quotation marks quote cells."""
        return self.separator in QUOTING and b'"' in self.data

    @cached_property
    def first(self) -> list[str]:
        """The cells of the first line, without their quotes."""
        cells = self._cells(io.BytesIO(self.data).readline().rstrip(b"\n"))
        return cells if self.quotes else list(map(_unquoted, cells))

    def _cells(self, row: bytes) -> list[str]:
        text = row.decode()
        return next(csv.reader([text], delimiter=self.separator)) if self.quotes else text.split(self.separator)

    def read(self, columns: dict[int, str], has_header: bool, numbers: Collection[str]) -> pd.DataFrame:
        """Check all rows, and read the columns at these places under these names.

        Returns:
            A table of texts whose index, named "line", holds the numbers of lines. Columns named in ``numbers`` are
            float64 if all of their values are numbers.

        Raises:
            DataError: a row has another number of fields, or a quotation mark swallows lines.
        """
        lines, filled, fields = self._check(next((place for place, name in columns.items() if name == "rating"), None))
        body, top = io.BytesIO(self.data), int(has_header)
        lines, filled, fields = lines[top:], filled[top:], fields[top:]
        start = len(body.readline()) if has_header else 0

        def parsed(number: type | str) -> pd.DataFrame:
            body.seek(start)
            return pd.read_csv(
                body,
                sep=self.separator,
                header=None,
                names=range(fields.max()),
                usecols=sorted(columns),
                index_col=False,
                skip_blank_lines=False,
                quoting=csv.QUOTE_MINIMAL if self.quotes else csv.QUOTE_NONE,
                dtype={place: number if name in numbers else str for place, name in columns.items()},
                **EXACT,
            )

        try:
            table = parsed("float64") if len(lines) else pd.DataFrame(columns=sorted(columns), dtype=str)
        except ValueError:  # what is no number stays a text
            table = parsed(str)
        if len(table) != len(lines):
            raise DataError(f"{self.source} has {len(lines)} rows, and pandas finds {len(table)}; save it anew as CSV")
        table = table.set_axis(pd.Index(lines, name="line")).rename(columns=columns)
        table = table if filled.all() else table[filled]
        if b'"' in self.data and not self.quotes:
            for name in table.columns.difference(list(numbers)):
                table[name] = _without_quotes(table[name])
        return table

    def _check(self, rating: int | None) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
        """Check that rows have as many fields as the first, but for empty ones at their end.

        Args:
            rating: place of a column of numbers: it tells a row from a line of text.

        Returns:
            The numbers of the lines that rows begin with, ``(n,)``, whether a row has content, and its fields.
        """
        lines, filled, found, line = [], [], [], self.line
        start, step = 0, BLOCK
        while start < len(self.data):
            end = self.data.find(b"\n", start + step) + 1 or len(self.data)
            block = np.frombuffer(self.data, np.uint8, end - start, start)
            breaks, marks = (np.flatnonzero(block == ord(char)) for char in ("\n", self.separator))
            breaks = breaks if block[-1] == ord("\n") else np.append(breaks, len(block))
            ends = breaks
            if self.quotes:
                inside = self._inside(block, line, end == len(self.data))
                if inside[-1]:  # a quoted cell goes on behind the block
                    step *= 2
                    continue
                self._check_swallowed(block, breaks, marks, inside[breaks], rating, line)
                ends, marks = breaks[~inside[breaks]], marks[~inside[marks]]
            starts = np.append(0, ends[:-1] + 1)
            fields = 1 + np.diff(np.searchsorted(marks, np.append(0, ends)))
            found.append(fields)
            lines.append(line + np.searchsorted(breaks, starts))
            filled.append(ends > starts)
            for row in np.flatnonzero(filled[-1] & (fields != len(self.first))):
                cells = self._cells(bytes(block[starts[row] : ends[row]]))
                if len(cells) < _filled(self.first) or _filled(cells) > len(self.first):
                    self._refuse_width(cells, lines[-1][row], fields[filled[-1]])
            start, line = end, line + len(breaks)
        return np.concatenate(lines), np.concatenate(filled), np.concatenate(found)

    def _refuse_width(self, cells: list[str], line: int, fields: NDArray[np.int64]) -> None:
        hint = ""
        if len(np.unique(fields)) > 2 and (fields != len(self.first)).mean() > 0.2:
            hint = f"; if a line lists the items of a user, {NO_TRIPLES.format('explode')}"
        elif len(cells) == len(self.first) + 1:
            hint = "; a decimal comma, an unquoted comma in a text, and the row numbers of R each make one more"
        raise DataError(
            f"{self.source}: line {line} has {len(cells)} fields, but line {self.line} has {len(self.first)}: "
            f"{' | '.join(cells)[:SHOWN]!r}{hint}"
        )

    def _inside(self, block: NDArray[np.uint8], begin: int, last: bool) -> NDArray[np.bool_]:
        """For each byte and for the end whether a quoted cell goes on there; marks within a word are texts."""
        quote = np.flatnonzero(block == ord('"'))
        edges = [ord(self.separator), ord("\n"), ord('"')]
        before = np.isin(block[quote - 1], edges) | (quote == 0)
        after = np.isin(block[np.minimum(quote + 1, len(block) - 1)], edges)  # the last byte is an edge itself
        marks, fits = quote[before | after], np.stack([before, after])[:, before | after]
        closes = np.arange(len(marks)) % 2
        inside = np.zeros(len(block) + 1, bool)
        inside[marks] = True
        inside = np.logical_xor.accumulate(inside)
        wrong = np.flatnonzero(~np.append(np.where(closes, fits[1], fits[0]), not last or len(marks) % 2 == 0))
        lone = quote[~before & ~after & inside[quote]]
        places = np.append(lone, marks[np.minimum(wrong, len(marks) - 1) // 2 * 2] if len(marks) else marks)
        if len(places):
            line = begin + np.count_nonzero(block[: places.min()] == ord("\n"))
            raise DataError(
                f"{self.source}: a quotation mark in line {line} does not quote a cell; within a quoted cell write it "
                "twice, and quote the cells that begin or end with one"
            )
        return inside

    def _check_swallowed(
        self,
        block: NDArray,
        breaks: NDArray,
        marks: NDArray,
        goes_on: NDArray[np.bool_],
        rating: int | None,
        begin: int,
    ) -> None:
        """Check that no cell of several lines has lines that look like rows; ``goes_on`` says where cells do."""
        begins, went_on = np.append(0, breaks[:-1] + 1), np.append(False, goes_on[:-1])
        like = 1 + np.diff(np.searchsorted(marks, np.append(0, breaks))) == len(self.first)

        def is_row(line: int) -> bool:
            cells = bytes(block[begins[line] : breaks[line]]).decode().split(self.separator)
            return bool(like[line]) and (rating is None or is_number(cells[rating].strip('"')))

        for line in np.flatnonzero(went_on & like):
            first = np.flatnonzero(~went_on[:line])[-1]
            if is_row(int(line)) and (goes_on[line] or is_row(int(first))):
                raise DataError(
                    f"{self.source}: a quotation mark in line {begin + first} makes one cell of several lines, and "
                    f"line {begin + line} among them is a row; remove the lone mark, or the line breaks"
                )


def is_number(text: str) -> bool:
    """Whether ``text`` can be read as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _filled(cells: list[str]) -> int:
    """The number of cells up to the last one that is not empty."""
    return max((place for place, cell in enumerate(cells, 1) if cell), default=0)


def _unquoted(cell: str) -> str:
    quoted = len(cell) > 1 and cell.startswith('"') and cell.endswith('"')
    return cell[1:-1].replace('""', '"') if quoted else cell


def _without_quotes(cells: pd.Series) -> pd.Series:
    """The cells without their quotation marks, if all of them are quoted."""
    known = cells.dropna()
    quoted = known.str.startswith('"') & known.str.endswith('"') & (known.str.len() > 1)
    return cells.map(_unquoted, na_action="ignore") if len(known) and quoted.all() else cells
