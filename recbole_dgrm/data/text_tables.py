"""Read a text table with pandas, after a check that every row has as many fields as the first line.

Without the check pandas fills up rows that are too short, and merges many lines into one cell after a single quotation
mark. Between tabs, blanks or ``::`` a quotation mark is an ordinary character, unless all cells of a column are quoted.
Between commas, semicolons and bars it quotes cells, in the dialect of the module csv.
"""

import csv
import io
import logging
import re
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from recbole_dgrm.data.values import categories, joined
from recbole_dgrm.errors import DataError

LOG = logging.getLogger(__name__)
Choose = Callable[[list[str]], dict[str, str]]  # from the names of all columns: field -> its column
BLANKS = r"\s+"  # the separator of any number of blanks and tabs
SEPARATORS = ("::", "\t", ";", ",", "|")  # that are guessed; blanks if none of them occurs
SAMPLE, BEGIN = 50, 1 << 16  # a separator is guessed from so many lines within so many bytes
EXCEL = re.compile(rb"sep=(.)\n+", re.IGNORECASE)  # a line that Excel writes above the header
TYPED = re.compile(r"(.*):(?:token|float)(?:_seq)?$")  # a column's name in RecBole's atomic format
USUAL = ["user", "item", "rating", "timestamp"]  # columns of well-known files without a header
LIKE_TIME = 1e8  # larger numbers are not ratings but seconds since 1970
WIDE = 8  # a file without a header and with more columns of numbers is a matrix
NO_TRIPLES = "these rows are not triples (a user, an item and one rating per row); pandas.DataFrame.{} makes such rows"
QUOTING = (",", ";", "|")  # with these separators quotation marks quote cells
UNIT = "\x1f"  # the separator of rows that were rewritten
REWRITTEN = 1 << 22  # characters of rewritten rows that are parsed at once
EXACT = {"float_precision": "round_trip"} if pd.__version__ < "3.1" else {}  # from 3.1 on all numbers are exact


@dataclass(frozen=True)
class Reading:
    """How to read ratings, as far as it cannot be seen from them.

    Attributes:
        fields: field (``user_id``, ``item_id``, ``rating``, ``timestamp``) to column. Other fields are guessed from
            usual names; ``timestamp`` may be missing, and "" leaves it out.
        separator: separator of a text table; guessed if it is None.
        encoding: encoding of a text table or JSON.
        columns: names of the columns of a text table without a header line; ``_`` for a column that is not used.
        missing: ratings, as they are written, that mean that nothing was rated: their rows are left out. "", "NA" and
            the like mean every missing value.
        usual: field to a column that is tried before the usual names, if ``fields`` does not have the field.
    """

    fields: Mapping[str, str] = field(default_factory=dict)
    separator: str | None = None
    encoding: str = "utf-8"
    columns: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    usual: Mapping[str, str] = field(default_factory=dict)


def read_text(
    source: str, blocks: Iterator[bytes], reading: Reading, choose: Choose, numbers: Collection[str]
) -> pd.DataFrame:
    """Read the chosen columns of a text table, block by block; see ``read_file``.

    Args:
        source: the name of the table in errors.
        blocks: its bytes, in UTF-8, in blocks of whole lines that end with a line feed.
        numbers: fields that are read as float64 if all of their values are numbers; other fields are categories of
            texts.
    """
    data = next(blocks)
    separator, start = reading.separator, len(data) - len(data.lstrip(b"\n"))
    if excel := EXCEL.match(data, start):
        separator, start = separator or excel[1].decode(), excel.end()
    separator = separator or guess_separator(data[start:])
    line, blocks = 1 + data.count(b"\n", 0, start), chain([data[start:]], blocks)
    if separator == BLANKS or len(separator.encode()) > 1:
        blocks, separator = map(partial(_with_unit, separator), blocks), UNIT
    data = next(blocks)
    head, _, rows = data.partition(b"\n")
    cells = next(csv.reader([head.decode()], delimiter=separator)) if separator in QUOTING else None
    first = [cell.strip('"') for cell in cells or head.decode().split(separator)]
    names, has_header = _names(first, f"{source}: line {line}", reading.columns, choose)
    chosen, begin, data = choose(names), line + has_header, rows if has_header else data
    kinds = {names.index(column): "float64" if name in numbers else object for name, column in chosen.items()}
    rating = names.index(chosen["rating"]) if "rating" in chosen else None

    def tables() -> Iterator[pd.DataFrame]:
        nonlocal kinds, begin
        for rows, cut in _unquoted(source, chain([data], blocks), separator, begin, len(first), rating):
            lines, width = _check_widths(source, rows, cut, begin, line, first)
            begin += rows.count(b"\n")
            if not len(lines):
                continue
            try:
                table = _parsed(rows, cut, width, kinds)
            except ValueError:  # a value is not a number
                kinds = dict.fromkeys(kinds, object)
                table = _parsed(rows, cut, width, kinds)
            if len(table) != len(lines):
                raise DataError(f"{source} has {len(lines)} rows, and pandas finds {len(table)}; save it again as CSV")
            yield table.set_axis([*chosen], axis=1).set_axis(lines)

    table = joined(tables())
    if table.empty:
        return pd.DataFrame(columns=[*chosen], index=pd.RangeIndex(0, name="line"))
    if separator not in QUOTING:
        for name in chosen.keys() - numbers:
            table[name] = _without_quotes(table[name])
    return table


def is_number(text: str) -> bool:
    """Whether ``text`` can be read as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def guess_separator(data: bytes) -> str:
    """The separator that occurs equally often in each of the first lines, or blanks if there is none."""
    whole = data[:BEGIN].rpartition(b"\n")[0] or data[:BEGIN]  # the last line may be incomplete
    lines = [line for line in whole.decode(errors="replace").split("\n") if line.strip()][:SAMPLE]
    steady = [one for one in SEPARATORS if one in lines[0] and len({line.count(one) for line in lines}) == 1]
    best = max(steady or SEPARATORS, key=lines[0].count)
    return best if best in lines[0] else BLANKS


def _names(first: list[str], where: str, given: tuple[str, ...], choose: Choose) -> tuple[list[str], bool]:
    """The names of the columns, and whether they are in the ``first`` line of the file."""
    shown, numbers = repr(" | ".join(first)[:80]), list(map(is_number, first))
    if given:
        if len(given) != len(first):
            remedy = f"--columns names {len(given)}; write _ for columns that are not used"
            raise DataError(f"{where} has {len(first)} columns, and {remedy}: {shown}")
        return list(given), False
    if any(map(TYPED.fullmatch, first)):
        return [TYPED.sub(r"\1", name) for name in first], True
    with suppress(DataError):
        choose(first)
        return first, True
    if not any(numbers) or (len(first) > WIDE and sum(numbers) + first.count("") >= len(first) - 1):
        return first, True
    usual = (USUAL + ["_"] * len(first))[: len(first)]
    numbered = first == [str(place) for place in range(len(first))]  # as pandas numbers columns without names
    if not numbered and (not all(numbers) or not 3 <= len(first) <= len(USUAL) or abs(float(first[2])) > LIKE_TIME):
        raise DataError(
            f"{where} names no columns: {shown}; if the file has no header, name its columns, for example "
            f"--columns={','.join(usual)} or --columns={','.join(['item', 'user', *usual[2:]])}, with _ for columns "
            "that are not used"
        )
    message = "%s names no columns; they are read as %s; if that is wrong, name them with --columns"
    LOG.warning(message, where, ", ".join(usual))
    return usual, numbered


def _with_unit(separator: str, data: bytes) -> bytes:
    """The lines with ``UNIT`` in place of a separator that has several characters or is any number of blanks."""
    if separator == BLANKS:
        return re.sub(rb"[ \t]+", UNIT.encode(), re.sub(rb"(?m)^[ \t]+|[ \t]+$", b"", data))
    return data.replace(separator.encode(), UNIT.encode())


def _unquoted(
    source: str, blocks: Iterator[bytes], separator: str, line: int, width: int, rating: int | None
) -> Iterator[tuple[bytes, str]]:
    """The blocks and their separator; from the first on that has a quotation mark, with unquoted cells and ``UNIT``.

    A line break within a cell becomes a carriage return; blank lines after such a row keep the line numbers right.
    """
    quoted: Iterator[bytes] = iter(())
    for data in blocks:
        if separator in QUOTING and b'"' in data:
            quoted = chain([data], blocks)
            break
        yield data, separator
        line += data.count(b"\n")
    result, record = list[str](), list[str]()

    def texts() -> Iterator[str]:
        for data in quoted:
            for text in map(bytes.decode, data.splitlines(keepends=True)):
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
                yield "".join(result).encode(), UNIT
                result, size = [], 0
    except csv.Error as error:
        raise DataError(
            f"{source}: a quotation mark in line {number} does not quote a cell ({error}); write it twice within a "
            "quoted cell, and quote cells that begin with one"
        ) from None
    yield "".join(result).encode(), UNIT


def _check_widths(
    source: str, data: bytes, separator: str, begin: int, line: int, first: list[str]
) -> tuple[pd.Index, int]:
    """Check that rows have as many fields as the ``first``, which is in ``line``, not counting empty ones at the end.

    Returns the numbers ``(n,)`` of the lines from ``begin`` on that are not blank, and the largest number of fields.
    """
    width, others = len(first), bytes(set(range(256)) - set(f"{separator}\n".encode()))
    sign = np.frombuffer(data.translate(None, others), np.uint8)  # separators and line feeds alone
    ends = np.flatnonzero(sign == ord("\n"))
    widths = np.diff(ends if data.endswith(b"\n") or not data else np.append(ends, len(sign)), prepend=-1)
    odd = np.flatnonzero(widths != width)
    if not len(odd):
        return pd.RangeIndex(begin, begin + len(widths), name="line"), width
    texts = data.split(b"\n")
    for place in odd:
        cells = texts[place].decode().split(separator)
        if texts[place] and (len(cells) < _filled(first) or _filled(cells) > width):
            raise DataError(
                f"{source}: line {begin + place} has {len(cells)} fields, but line {line} has {width}: "
                f"{' | '.join(cells)[:80]!r}; a decimal comma, an unquoted comma in a text, and the row numbers of R "
                f"each make one more; if a line lists the items of a user, {NO_TRIPLES.format('explode')}"
            )
    filled = np.delete(np.arange(len(widths)), [place for place in odd if not texts[place]])
    return pd.Index(begin + filled, name="line"), widths[filled].max(initial=0)


def _filled(cells: list[str]) -> int:
    """The number of cells up to the last one that is not empty."""
    return max((place for place, cell in enumerate(cells, 1) if cell), default=0)


def _parsed(data: bytes, separator: str, width: int, kinds: dict[int, Any]) -> pd.DataFrame:
    table = pd.read_csv(
        io.BytesIO(data),
        sep=separator,
        header=None,
        names=range(width),
        usecols=list(kinds),
        dtype=kinds,
        index_col=False,
        quoting=csv.QUOTE_NONE,
        lineterminator="\n",
        **EXACT,
    )
    # not read as categories: those that look like numbers become numbers in pandas 3.1
    columns = {place: table[place] if kind == "float64" else categories(table[place]) for place, kind in kinds.items()}
    return pd.DataFrame(columns, copy=False)


def _without_quotes(cells: pd.Series) -> pd.Series:
    """The cells without quotation marks if all of them are quoted; else the cells themselves."""
    texts = cells.cat.categories
    if not len(texts) or not texts.str.fullmatch(r'".*"', flags=re.DOTALL).all():
        return cells
    codes, names = pd.factorize(texts.str[1:-1].str.replace('""', '"', regex=False))
    return pd.Series(pd.Categorical.from_codes(np.append(codes, -1)[cells.cat.codes], names), cells.index)
