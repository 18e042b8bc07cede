"""Long tables, written a part at a time: CSV, JSON lines, Parquet."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from recbole_dgrm.errors import OptionError
from recbole_dgrm.files import write_whole


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


def _csv(path: Path, tables: Iterable[pd.DataFrame]) -> None:
    with open(path, "w", encoding="utf-8", newline="") as file:
        for index, table in enumerate(tables):
            table.to_csv(file, index=False, header=index == 0)


def _jsonl(path: Path, tables: Iterable[pd.DataFrame]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for table in tables:
            table.to_json(file, orient="records", lines=True, force_ascii=False)


def _parquet(path: Path, tables: Iterable[pd.DataFrame]) -> None:
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


WRITERS = {"csv": _csv, "parquet": _parquet, "jsonl": _jsonl}
