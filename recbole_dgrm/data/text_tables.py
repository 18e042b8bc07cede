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

from recbole_dgrm.data.quoting import BREAK, QUOTE, QUOTING, UNIT, is_number, unquoted
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
    """Read the chosen columns of a text table, block by block.

    Args:
        source: the name of the table in errors.
        blocks: its bytes, in UTF-8, in blocks of whole lines that end with a line feed.
        choose: called with the names of all columns; returns the column for each field.
        numbers: fields that are read as float64 if all of their values are numbers; other fields are categories of
            texts.

    Raises:
        DataError: a row has another number of fields, a quotation mark merges lines, or no column has a name.
    """
    data = next(blocks)
    separator, start = reading.separator, len(data) - len(data.lstrip(b"\n"))
    if excel := EXCEL.match(data, start):
        separator, start = separator or excel[1].decode(), excel.end()
    separator = separator or guess_separator(data[start : start + BEGIN + 1])
    line, blocks = 1 + data.count(b"\n", 0, start), chain([data[start:]], blocks)
    if separator == BLANKS or len(separator.encode()) > 1:
        blocks, separator = map(partial(_with_unit, separator), blocks), UNIT
    data = next(blocks)
    head, _, rows = data.partition(b"\n")
    first = [cell.strip('"') for cell in _cells(head.decode(), separator)]
    names, has_header = _names(first, f"{source}: line {line}", reading.columns, choose)
    chosen, begin, data = choose(names), line + has_header, rows if has_header else data
    kinds = {names.index(column): "float64" if name in numbers else object for name, column in chosen.items()}
    rating = names.index(chosen["rating"]) if "rating" in chosen else None

    def tables() -> Iterator[pd.DataFrame]:
        nonlocal kinds, begin
        for rows, cut in unquoted(source, chain([data], blocks), separator, begin, len(first), rating):
            lines, width, begin = _check_widths(source, rows, cut, begin, line, first)
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


def guess_separator(data: bytes) -> str:
    """The separator that occurs equally often in each of the first lines, or blanks if there is none."""
    lines = [line for line in data[:BEGIN].decode(errors="replace").split("\n") if line.strip()]
    if len(data) > BEGIN and len(lines) > 1:
        lines.pop()  # the last line may be incomplete
    lines = lines[:SAMPLE]
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


def _cells(text: str, separator: str) -> list[str]:
    quoted = separator in QUOTING and '"' in text
    return next(csv.reader([text], delimiter=separator)) if quoted else text.split(separator)


def _check_widths(
    source: str, data: bytes, separator: str, begin: int, line: int, first: list[str]
) -> tuple[pd.Index, int, int]:
    """Check that rows have as many fields as the ``first``, which is in ``line``, not counting empty ones at the end.

    Returns:
        The numbers ``(n,)`` of the lines that are not blank, the largest number of fields, and the number of the next
        line; ``begin`` is that of the first line of ``data``.
    """
    width, signs = len(first), separator + "\n" + ('"' if separator in QUOTING else "")
    sign = np.frombuffer(data.translate(None, bytes(set(range(256)) - set(signs.encode()))), np.uint8)
    if (is_mark := sign == QUOTE).any():
        sign = sign[~is_mark & (np.cumsum(is_mark, dtype=np.uint8) % 2 == 0)]  # without those in quoted cells
    ends = np.flatnonzero(sign == BREAK)
    widths = np.diff(ends if data.endswith(b"\n") or not data else np.append(ends, len(sign)), prepend=-1)
    odd = np.flatnonzero(widths != width)
    if not len(odd):
        return pd.RangeIndex(begin, begin + len(widths), name="line"), width, begin + len(widths)
    texts = data.split(b"\n")
    for place in odd:
        cells = _cells(texts[place].decode(), separator)
        if texts[place] and (len(cells) < _filled(first) or _filled(cells) > width):
            raise DataError(
                f"{source}: line {begin + place} has {len(cells)} fields, but line {line} has {width}: "
                f"{' | '.join(cells)[:80]!r}; a decimal comma, an unquoted comma in a text, and the row numbers of R "
                f"each make one more; if a line lists the items of a user, {NO_TRIPLES.format('explode')}"
            )
    filled = np.delete(np.arange(len(widths)), [place for place in odd if not texts[place]])
    return pd.Index(begin + filled, name="line"), widths[filled].max(initial=0), begin + len(widths)


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
        quoting=csv.QUOTE_MINIMAL if separator in QUOTING else csv.QUOTE_NONE,
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
