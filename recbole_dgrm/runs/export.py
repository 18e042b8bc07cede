"""What a finished run gives other programs as plain files: its weights with the ids of their rows, lists, scores."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from numpy.typing import NDArray
from safetensors.torch import save
from torch import Tensor

from recbole_dgrm.errors import OptionError
from recbole_dgrm.records import WHERE
from recbole_dgrm.runs.recommender import Recommender
from recbole_dgrm.start import __version__
from recbole_dgrm.system.files import write_folder, write_json, write_whole

WEIGHTS, CONTENTS = "model.safetensors", "config.json"


def export(run: Recommender, folder: Path) -> Path:
    """Write ``model.safetensors`` and ``config.json`` of a ``TrainedRun`` into a new ``folder``, all or nothing.

    ``config.json`` has the model, the data set, all keys of the run, its test result, the rating scale and the
    external ids: row ``u`` of a user table belongs to ``users[u]``, of an item table to ``items[i]``, both from
    RecBole's padding ``[PAD]`` on; column ``j`` of a profile is ``items[j + 1]``, or ``users[j + 1]`` with the key
    ``orientation: item``.

    Returns:
        The file of the weights.

    Raises:
        OptionError: the folder exists.
    """
    check_new(folder)
    tensors, others = weights(run.model)

    def write(partial: Path) -> None:
        (partial / WEIGHTS).write_bytes(save(tensors))  # a full disk is an OSError here, of save_file one of its own
        write_json(partial / CONTENTS, contents(run) | {"other": others})

    write_folder(folder, write)
    return folder / WEIGHTS


def write_lists(
    source: Recommender,
    users: Sequence[str],
    topk: int,
    exclude: str,
    path: Path,
    kind: str,
    deviations: bool = False,
) -> tuple[pd.DataFrame, NDArray[np.intp]]:
    """Write the recommendation lists of ``users`` into one file, whole or not at all.

    Args:
        topk, exclude, deviations: see ``Recommender.tables``.
        kind: the format, from ``table_format``.

    Returns:
        The list of the first user, and the items of all lists as ids of the model, ``(n_lists, topk)``, 0 where a list
        is shorter.
    """
    lists = []

    def kept(tables: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
        for table in tables:
            row, rank = pd.factorize(table["user"])[0], table["rank"].to_numpy() - 1
            items = np.zeros((table["user"].nunique(), topk), np.intp)
            items[row, rank] = source.ids("items", table["item"]).numpy() if len(table) else 0
            lists.append(items)
            yield table

    tables = kept(source.tables(users, topk, exclude, deviations))
    first = next(tables)
    write_tables(path, chain([first], tables), kind)
    return first[first["user"] == users[0]], np.concatenate(lists)


def write_scores(path: Path, run_dir: Path, part: str, scores: dict[str, Any]) -> None:
    """Write what evaluating a run again has found."""
    write_json(path, {"run": str(run_dir), "part": part, **scores})


def check_new(folder: Path) -> None:
    """Check that nothing is in the way of ``folder``; raises as ``export``."""
    if folder.exists():
        raise OptionError(f"{folder} exists already; choose another --output or remove it")


def weights(model) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights of a model by name, and those other values it has learnt that are no tables.

    Parameters and buffers, those too that no checkpoint keeps because they come from the ratings (biases, factors),
    and what RecBole's models keep in attributes (EASE). The ratings themselves, buffers with a leading underscore,
    stay out. A sparse matrix becomes ``.data``, ``.indices`` and ``.indptr``.
    """
    tensors = dict(model.named_parameters())
    tensors |= {name: table for name, table in model.named_buffers() if not name.split(".")[-1].startswith("_")}
    others: dict[str, Any] = {}
    for name, value in model.other_parameter().items():
        if scipy.sparse.issparse(value):
            matrix = value.tocsr()
            tensors |= {
                f"{name}.{part}": torch.as_tensor(getattr(matrix, part)) for part in ("data", "indices", "indptr")
            }
            others[f"{name}.shape"] = list(matrix.shape)
        elif isinstance(value, (np.ndarray, Tensor)):
            tensors[name] = torch.as_tensor(value)
        elif value is not None:
            others[name] = value
    # Copies: safetensors refuses tables that share memory.
    return {name: table.detach().cpu().contiguous().clone() for name, table in tensors.items()}, others


def contents(run: Recommender) -> dict[str, Any]:
    """The content of ``config.json``."""
    return {
        "recbole_dgrm": __version__,
        **{key: run.record[key] for key in ("model", "dataset", "protocol", "seed", "hash", "test")},
        "config": {key: value for key, value in run.record["config"].items() if key not in WHERE},
        "predicts_ratings": run.config.predicts_ratings,
        "rating_scale": [run.scale.low, run.scale.high] if run.scale else run.config.run.rating_scale,
        "rating_levels": list(run.scale.levels) if run.scale else None,
        "users": ["[PAD]", *run.users],
        "items": list(run.items),
    }


def table_format(path: Path, given: str | None = None) -> str:
    """The ``given`` format, or the one that the ending of ``path`` stands for.

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
    """Write tables of the same columns one below the other into a file that is whole or absent."""
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
