"""Files of a finished run for other programs: its weights with the ids of their rows, and recommendation lists."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse
import torch
from safetensors.torch import save
from torch import Tensor

from recbole_dgrm.errors import OptionError
from recbole_dgrm.identity import WHERE
from recbole_dgrm.runs.recommender import Recommender
from recbole_dgrm.start import __version__
from recbole_dgrm.system.files import check_writable, make_folder, write_folder, write_json, write_whole

WEIGHTS, CONTENTS = "model.safetensors", "config.json"
WRITERS: dict[str, Callable[[pd.DataFrame, Path], object]] = {
    ".csv": partial(pd.DataFrame.to_csv, index=False),
    ".parquet": partial(pd.DataFrame.to_parquet, index=False),
    ".jsonl": partial(pd.DataFrame.to_json, orient="records", lines=True, force_ascii=False),
}


def export(run: Recommender, folder: Path) -> Path:
    """Write ``model.safetensors`` and ``config.json`` of a ``TrainedRun`` into a new ``folder``, all or nothing.

    ``config.json`` has the model, the data set, all keys of the run, its test result, the rating scale and the
    external ids: row ``u`` of a user table belongs to ``users[u]``, row ``i`` of an item table to ``items[i]``, and row
    0 of both is RecBole's padding ``[PAD]``. Column ``j`` of a profile belongs to ``items[j + 1]``, or with the key
    ``orientation: item`` to ``users[j + 1]``.

    Returns:
        The file of the weights.
    """
    check_new(folder)
    tensors, others = weights(run.model)
    contents = {
        "recbole_dgrm": __version__,
        **{key: run.record[key] for key in ("model", "dataset", "protocol", "seed", "hash", "test")},
        "config": {key: value for key, value in run.record["config"].items() if key not in WHERE},
        "predicts_ratings": run.config.predicts_ratings,
        "rating_scale": [run.scale.low, run.scale.high] if run.scale else run.config.run.rating_scale,
        "rating_levels": list(run.scale.levels) if run.scale else None,
        "users": ["[PAD]", *run.users],
        "items": list(run.items),
        "other": others,
    }

    def write(partial: Path) -> None:
        (partial / WEIGHTS).write_bytes(save(tensors))  # save_file raises no OSError if the disk is full
        write_json(partial / CONTENTS, contents)

    write_folder(folder, write)
    return folder / WEIGHTS


def check_new(folder: Path) -> None:
    """Check that a new ``folder`` does not exist and can be written."""
    if folder.exists():
        raise OptionError(f"{folder} exists already; choose another --output or remove it")
    check_writable(folder, "output")


def weights(model) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tables that a model has learnt, by name, and its other learnt values.

    Tables are parameters, buffers (also those that are not in checkpoints because they follow from the ratings: biases,
    factors) and arrays in attributes of RecBole's models (EASE). Buffers with a leading underscore are the ratings
    themselves and are left out. A sparse matrix becomes ``.data``, ``.indices`` and ``.indptr``.
    """
    tensors = dict(model.named_parameters())
    tensors |= {name: table for name, table in model.named_buffers() if not name.split(".")[-1].startswith("_")}
    others: dict[str, Any] = {}
    for name, value in model.other_parameter().items():
        if scipy.sparse.issparse(value):
            matrix = value.tocsr()
            for part in ("data", "indices", "indptr"):
                tensors[f"{name}.{part}"] = torch.as_tensor(getattr(matrix, part))
            others[f"{name}.shape"] = list(matrix.shape)
        elif isinstance(value, (np.ndarray, Tensor)):
            tensors[name] = torch.as_tensor(value)
        elif value is not None:
            others[name] = value
    # Copies: safetensors refuses tables that share memory.
    return {name: table.detach().cpu().contiguous().clone() for name, table in tensors.items()}, others


def check_table(path: Path) -> None:
    """Check that ``write_table`` can write the file ``path``, in the format that its suffix names."""
    if path.suffix not in WRITERS:
        raise OptionError(f"{path} does not end in one of {', '.join(WRITERS)}; the suffix names the format")
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise OptionError(f"{path} needs pyarrow, which is not installed: pip install 'recbole-dgrm[parquet]'")
    check_writable(path.parent, "output")


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table in the format that the suffix of ``path`` names; the file is whole or absent."""
    make_folder(path.parent)
    write_whole(path, partial(WRITERS[path.suffix], table))
