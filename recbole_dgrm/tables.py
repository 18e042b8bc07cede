"""Tables as files: CSV, JSON lines, Parquet.

Read: only the columns that are wanted, with numbers to name a bad row by. Written: a part at a time, whole or not.
"""

import gzip
import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from recbole_dgrm.errors import DataError, OptionError, UserError
from recbole_dgrm.files import write_whole

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
        kind, reader = "Parquet", _read_parquet
    elif set(endings[-2:]) & {".jsonl", ".ndjson", ".json"}:
        kind, reader = "JSON lines", _read_json_lines
    else:
        kind, reader = "CSV", lambda source, choose: _read_csv(source, separator, choose)
    try:
        return reader(source, choose)
    except UserError:
        raise
    except Exception as error:  # whatever a parser stumbles over, it is the file that cannot be read
        raise DataError(f"{source} cannot be read as {kind}: {str(error) or type(error).__name__}") from error


def _read_csv(source: Path, separator: str | None, choose: Choose) -> pd.DataFrame:
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


def _read_json_lines(source: Path, choose: Choose) -> pd.DataFrame:
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


def _read_parquet(source: Path, choose: Choose) -> pd.DataFrame:
    try:
        import pyarrow.parquet
    except ImportError:
        raise DataError(f"{source}: Parquet needs pyarrow: pip install 'recbole-dgrm[parquet]'") from None
    with pyarrow.parquet.ParquetFile(source) as file:
        chosen = choose(file.schema_arrow.names)
        table = file.read(columns=list(chosen.values()), use_pandas_metadata=False).to_pandas(ignore_metadata=True)
    table.index = pd.RangeIndex(1, len(table) + 1, name="row")
    return table.rename(columns={column: field for field, column in chosen.items()})[list(chosen)]


def table_format(path: Path, given: str | None = None) -> str:
    """The format that was ``given``, else that of the ending of ``path``.

    Raises:
        OptionError: there is no such format, or its library is not installed.
    """
    name = given or path.suffix[1:]
    if name not in WRITERS:
        raise OptionError(f"{path} does not end in one of {', '.join('.' + end for end in WRITERS)}: say --format")
    if name == "parquet":
        try:
            import pyarrow  # noqa: F401
        except ModuleNotFoundError:
            raise OptionError(
                "--format=parquet needs pyarrow, which is not installed: pip install 'recbole-dgrm[parquet]'"
            ) from None
    return name


def write_tables(path: Path, tables: Iterable[pd.DataFrame], name: str) -> None:
    """Write ``tables``, which have the same columns, one below the other; whole or not at all."""
    write_whole(path, lambda partial: WRITERS[name](partial, tables))


def _write_csv(path: Path, tables: Iterable[pd.DataFrame]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        for index, table in enumerate(tables):
            table.to_csv(file, index=False, header=index == 0)


def _write_jsonl(path: Path, tables: Iterable[pd.DataFrame]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for table in tables:
            table.to_json(file, orient="records", lines=True, force_ascii=False)


def _write_parquet(path: Path, tables: Iterable[pd.DataFrame]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    writer = None
    try:
        for table in tables:
            rows = pa.Table.from_pandas(table, schema=writer.schema if writer else None, preserve_index=False)
            writer = writer or pq.ParquetWriter(path, rows.schema)
            writer.write_table(rows)
    finally:
        if writer:
            writer.close()


WRITERS = {"csv": _write_csv, "parquet": _write_parquet, "jsonl": _write_jsonl}
