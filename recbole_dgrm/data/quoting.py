"""Text tables whose quotation marks quote cells, in the dialect of the module csv."""

import csv
import io
from collections.abc import Iterator
from itertools import chain

import numpy as np

from recbole_dgrm.errors import DataError

UNIT = "\x1f"  # the separator of rows that were rewritten
QUOTING = (",", ";", "|")  # with these separators quotation marks quote cells
QUOTE, BREAK = ord('"'), ord("\n")
REWRITTEN = 1 << 22  # characters of rewritten rows that are parsed at once


def is_number(text: str) -> bool:
    """Whether ``text`` can be read as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def unquoted(
    source: str, blocks: Iterator[bytes], separator: str, line: int, width: int, rating: int | None
) -> Iterator[tuple[bytes, str]]:
    """The blocks and their separator; from the first on where quotation marks do more than quote cells, rewritten."""
    if separator not in QUOTING:
        yield from ((data, separator) for data in blocks)
    for data in blocks:
        if b'"' in data and not _quotes_cells(data, separator):
            rest = _without_quoting(source, chain([data], blocks), separator, line, width, rating)
            yield from ((rows, UNIT) for rows in rest)
        else:
            yield data, separator
            line += data.count(b"\n")


def _quotes_cells(data: bytes, separator: str) -> bool:
    """Whether all quotation marks quote cells, or are doubled within quoted cells, and no cell has a line break."""
    text = np.frombuffer(data + b"\n", np.uint8)
    marks = np.flatnonzero(text == QUOTE)
    if len(marks) % 2 or (np.searchsorted(marks, np.flatnonzero(text == BREAK)) % 2).any():
        return False
    around = text[np.concatenate([marks[::2] - 1, marks[1::2] + 1])]  # before the first byte is the last line feed
    return bool(np.isin(around, [ord(separator), BREAK, QUOTE]).all())


def _without_quoting(
    source: str, blocks: Iterator[bytes], separator: str, line: int, width: int, rating: int | None
) -> Iterator[bytes]:
    """The same rows with unquoted cells and ``UNIT`` as separator.

    A line break within a cell becomes a carriage return; blank lines after such a row keep the line numbers right.
    """
    result, record = list[str](), list[str]()

    def texts() -> Iterator[str]:
        for data in blocks:
            for text in io.TextIOWrapper(io.BytesIO(data), "utf-8", newline="\n"):
                record.append(text)
                yield text

    def is_row(text: str) -> bool:
        cells = text.rstrip("\n").split(separator)
        return len(cells) == width and (rating is None or is_number(cells[rating].strip('"')))

    reader, number, size = csv.reader(texts(), delimiter=separator, strict=True), line, 0
    try:
        for cells in reader:
            if len(record) > 1:
                rows = list(map(is_row, record))
                if any(rows[1:-1]) or (rows[0] and rows[-1]):  # the last line alone may be the cells after a text
                    raise DataError(
                        f"{source}: a quotation mark in line {number} makes one cell of several lines, and line "
                        f"{number + rows.index(True, 1)} among them is a row; remove the mark, or the line breaks"
                    )
            result.append(UNIT.join(cells).replace("\n", "\r") + "\n" * len(record))
            number, size = number + len(record), size + len(result[-1])
            record.clear()
            if size > REWRITTEN:
                yield "".join(result).encode()
                result, size = [], 0
    except csv.Error as error:
        raise DataError(
            f"{source}: a quotation mark in line {number} does not quote a cell ({error}); write it twice within a "
            "quoted cell, and quote cells that begin with one"
        ) from None
    yield "".join(result).encode()
