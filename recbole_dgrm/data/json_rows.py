"""The rows of a JSON file: an array of objects, or an object per line."""

import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_dgrm.errors import DataError, UserError

Choose = Callable[[list[str]], dict[str, str]]  # names of all columns -> name of ours to that of the file
LINES = 10_000  # that are read at once


def read_json(source: Path, data: bytes, choose: Choose) -> pd.DataFrame:
    """Read the chosen columns, which may be named by any row; a row has no value in a column that it does not name.

    Raises:
        DataError: a row is no JSON object, with its line or row.
    """
    names: dict[str, None] = {}
    repeated: dict[str, None] = {}

    def row_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(row := dict(pairs)) < len(pairs):
            repeated.update(dict.fromkeys(name for name, _ in pairs if [one for one, _ in pairs].count(name) > 1))
        return row

    for *_, rows in _json_rows(source, data, row_of):
        for row in rows:
            names |= dict.fromkeys(row) if not row.keys() <= names.keys() else {}
    chosen = choose([*names, *repeated])
    places: list[int] = []
    cells: dict[str, list[Any]] = {column: [] for column in chosen.values()}
    for _, numbers, rows in _json_rows(source, data):
        places += numbers
        for column, values in cells.items():
            values += [row.get(column) for row in rows]
    index = pd.Index(places, name="row" if data.lstrip()[:1] == b"[" else "line", dtype="int64")
    return pd.DataFrame({ours: pd.Series(cells[column], index, object) for ours, column in chosen.items()})


def _json_rows(source: Path, data: bytes, hook: Any = None) -> Iterator[tuple[str, list[int], list[dict[str, Any]]]]:
    """Many rows of JSON at once, with their numbers and what is numbered."""
    kind, line, decode = "line", 1, json.JSONDecoder(object_pairs_hook=hook).decode
    try:
        if data.lstrip()[:1] == b"[":
            kind, line = "row", 0
            rows = decode(data.decode())
            yield kind, list(range(1, len(rows) + 1)), _objects(source, kind, range(1, len(rows) + 1), rows)
            return
        texts = enumerate(io.TextIOWrapper(io.BytesIO(data), "utf-8", newline="\n"), 1)
        while some := list(islice(texts, LINES)):
            numbers = [number for number, text in some if text.strip()]
            rows = None
            with suppress(ValueError, RecursionError):  # one call for many lines is three times as fast
                rows = decode(f"[{','.join(text for _, text in some if text.strip())}]")
            if rows is None or len(rows) != len(numbers):
                rows = []
                for line, text in some:  # noqa: B007 - named where it is no JSON
                    rows += [decode(text)] if text.strip() else []
            yield kind, numbers, _objects(source, kind, numbers, rows)
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        raise DataError(f"{source}: line {line or getattr(error, 'lineno', 1)} is no JSON: {error}") from None


def _objects(source: Path, kind: str, numbers: Iterable[int], rows: list[Any]) -> list[dict[str, Any]]:
    if not {dict}.issuperset(map(type, rows)):
        place = next(number for number, row in zip(numbers, rows, strict=True) if not isinstance(row, dict))
        raise DataError(f"{source}: {kind} {place} is no JSON object; one object per rating is expected")
    return rows
