"""A trained model as plain files for other programs: its weights, and what their rows and columns stand for."""

from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from safetensors.torch import save
from torch import Tensor

import recbole_dgrm
from recbole_dgrm.errors import OptionError
from recbole_dgrm.records import WHERE
from recbole_dgrm.runs.trained_run import TrainedRun
from recbole_dgrm.system.files import write_folder, write_json

WEIGHTS, CONTENTS = "model", "config.json"


def export(run: TrainedRun, folder: Path, safetensors: bool = False) -> Path:
    """Write the weights of ``run`` and ``config.json`` into a new ``folder``, all or nothing.

    ``config.json`` has the model, the data set, all keys of the run, its test result, the rating scale and the
    external ids: row ``u`` of a user table belongs to ``users[u]``, of an item table to ``items[i]``, both from
    RecBole's padding ``[PAD]`` on; column ``j`` of a profile is ``items[j + 1]``.

    Args:
        safetensors: ``model.safetensors`` instead of ``model.pt``, which ``torch.load(weights_only=True)`` reads.

    Returns:
        The file of the weights.

    Raises:
        OptionError: the folder exists.
    """
    check_new(folder)
    tensors, others = weights(run.model)
    path = folder / f"{WEIGHTS}.{'safetensors' if safetensors else 'pt'}"

    def write(partial: Path) -> None:
        if safetensors:
            (partial / path.name).write_bytes(save(tensors))
        else:
            torch.save(tensors, partial / path.name)
        write_json(partial / CONTENTS, contents(run) | {"other": others})

    write_folder(folder, write)
    return path


def check_new(folder: Path) -> None:
    """Whether nothing is in the way of ``folder``; raises as ``export``."""
    if folder.exists():
        raise OptionError(f"{folder} exists already; choose another --output or remove it")


def weights(model) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Everything that the model has learnt or solved, by name, and of it what is no table.

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


def contents(run: TrainedRun) -> dict[str, Any]:
    """What ``config.json`` says beside the weights."""
    return {
        "recbole_dgrm": recbole_dgrm.__version__,
        **{key: run.record[key] for key in ("model", "dataset", "protocol", "seed", "hash", "test")},
        "config": {key: value for key, value in run.record["config"].items() if key not in WHERE},
        "predicts_ratings": run.config.predicts_ratings,
        "rating_scale": [run.scale.low, run.scale.high] if run.scale else run.config.run.rating_scale,
        "rating_levels": list(run.scale.levels) if run.scale else None,
        "users": ["[PAD]", *run.users],
        "items": list(run.items),
    }
