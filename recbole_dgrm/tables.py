"""Tables from files: CSV, JSON lines, Parquet; only the columns that are wanted, with numbers to name a bad row by."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from recbole_dgrm.errors import DataError, UserError

Choose = Callable[[list[str]], dict[str, str]]  # names of all columns -> name of ours to that of the file
SEPARATORS = ",\t;|"


def read_table(source: Path, separator: str | None, choose: Choose) -> pd.DataFrame:
    """The chosen columns of a file under our names; its ending says the format.

    Returns:
        A table whose index counts lines (``index.name`` is "line") or, of Parquet, rows ("row") of the file from 1.

    Raises:
        DataError: no such file, or it cannot be read.
    """
    if not source.is_file():
        raise DataError(f"{source} does not exist")
    endings = [ending.lower() for ending in source.suffixes]
    if endings[-1:] in ([".parquet"], [".pq"]):
        kind, reader = "Parquet", _parquet
    elif set(endings[-2:]) & {".jsonl", ".ndjson", ".json"}:
        kind, reader = "JSON lines", _json_lines
    else:
        kind, reader = "CSV", lambda source, choose: _csv(source, separator, choose)
    try:
        return reader(source, choose)
    except UserError:
        raise
    except Exception as error:  # whatever a parser stumbles over, it is the file that cannot be read
        raise DataError(f"{source} cannot be read as {kind}: {str(error) or type(error).__name__}") from error


def _csv(source: Path, separator: str | None, choose: Choose) -> pd.DataFrame:
    if separator is None:  # the whole header as one cell: \x1f separates nothing
        first = str(pd.read_csv(source, sep="\x1f", header=None, nrows=1, dtype=str, quoting=3).iloc[0, 0])
        separator = max(SEPARATORS, key=first.count)
    names = [str(name) for name in pd.read_csv(source, sep=separator, nrows=0)]
    chosen = choose(names)
    positions = {names.index(column): field for field, column in chosen.items()}
    table = pd.read_csv(
        source, sep=separator, dtype=str, header=0, names=list(range(len(names))), usecols=list(positions),
        skip_blank_lines=False, index_col=False,
    )  # fmt: skip
    table.index = pd.RangeIndex(2, len(table) + 2, name="line")
    return table.rename(columns=positions)[list(chosen)].dropna(how="all")  # a blank line is all missing


def _json_lines(source: Path, choose: Choose) -> pd.DataFrame:
    chosen, rows, numbers = None, [], []
    opened = gzip.open if source.suffix.lower() == ".gz" else open
    with opened(source, "rt", encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{source}: line {number} is no JSON: {error}") from None
            if not isinstance(row, dict):
                raise DataError(f"{source}: line {number} is no JSON object; one object per line is expected")
            chosen = chosen or choose(list(row))
            rows.append([row.get(column) for column in chosen.values()])
            numbers.append(number)
    index = pd.Index(numbers, name="line", dtype="int64")
    return pd.DataFrame(rows, columns=list(chosen or []), index=index)


def _parquet(source: Path, choose: Choose) -> pd.DataFrame:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{source}: Parquet needs pyarrow: pip install 'recbole-dgrm[parquet]'") from None
    with pyarrow.parquet.ParquetFile(source) as file:
        chosen = choose(file.schema_arrow.names)
        table = file.read(columns=list(chosen.values()), use_pandas_metadata=False).to_pandas(ignore_metadata=True)
    table.index = pd.RangeIndex(1, len(table) + 1, name="row")
    return table.rename(columns={column: field for field, column in chosen.items()})[list(chosen)]
