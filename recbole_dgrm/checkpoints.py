"""Checkpoints of plain data: tensors and plain Python only, so that ``weights_only=True`` reads them."""

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch

from recbole_dgrm.errors import CheckpointError
from recbole_dgrm.files import write_whole

FIELDS = {
    "note": dict, "model": str, "epoch": int, "lines": int, "best_epoch": int, "cur_step": int,
    "best_valid_score": float, "best_valid_result": dict | None, "state_dict": dict, "best_state_dict": dict,
    "other": dict, "optimizer": dict, "random": dict,
}  # fmt: skip
REMEDY = "move it away, and the run begins again from its config.yaml"


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write ``state``, which has the keys of :data:`FIELDS`; on any error the file that was there stays."""

    def write(partial: Path) -> None:
        with open(partial, "wb") as file:
            try:
                torch.save(state, file)
            except RuntimeError as error:
                if isinstance(error.__context__, OSError):  # torch hides it behind a complaint about its own position
                    raise error.__context__ from None
                raise

    write_whole(path, write)


def read_checkpoint(path: Path, device: torch.device) -> dict[str, Any]:
    """A checkpoint as written by :func:`write_checkpoint`; nothing in the file can run code.

    Raises:
        CheckpointError: it is not a checkpoint of plain data, or a field is missing or of another kind.
    """
    try:
        state = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"{path} is not a checkpoint of plain data ({first}); {REMEDY}") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path} is not a checkpoint of a run: it holds a {type(state).__name__}; {REMEDY}")
    for name, kind in FIELDS.items():
        if not isinstance(state.get(name), kind):
            found = (
                f"is a {type(state[name]).__name__}, not {getattr(kind, '__name__', kind)}"
                if name in state
                else "is missing"
            )
            raise CheckpointError(f"{path} is not a checkpoint of a run: {name} {found}; {REMEDY}")
    return state


def pack(value: Any) -> Any:
    """Arrays and sparse matrices as tensors, so that ``weights_only=True`` reads them; :func:`unpack` undoes it.

    Raises:
        TypeError: the value is nothing that can be kept as plain data.
    """
    if isinstance(value, np.ndarray):
        return {"array": torch.from_numpy(value)}
    if scipy.sparse.issparse(value):
        matrix = value.tocsr()
        parts = [torch.from_numpy(part) for part in (matrix.data, matrix.indices, matrix.indptr)]
        return {"sparse": parts, "shape": list(matrix.shape), "format": value.format}
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, (torch.Tensor, bool, int, float, str)):
        return value
    raise TypeError(f"a {type(value).__name__} cannot be kept as plain data")


def unpack(value: Any) -> Any:
    """What :func:`pack` was given."""
    if isinstance(value, dict) and "array" in value:
        return value["array"].numpy()
    if isinstance(value, dict) and "sparse" in value:
        parts = tuple(part.numpy() for part in value["sparse"])
        return scipy.sparse.csr_matrix(parts, shape=value["shape"]).asformat(value["format"])
    return value


def check_optimizer(optimizer: Any) -> None:
    """Whether what an optimizer (or each of a mapping of them) keeps for a parameter has its shape; torch does not ask.

    Raises:
        ValueError: it has not.
    """
    for one in optimizer.values() if isinstance(optimizer, Mapping) else [optimizer]:
        for parameter, kept in one.state.items():
            for name, value in kept.items():
                if isinstance(value, torch.Tensor) and value.dim() and value.shape != parameter.shape:
                    raise ValueError(f"the optimizer's {name} is {tuple(value.shape)}, not {tuple(parameter.shape)}")


def random_state(loader: torch.Generator) -> dict[str, Any]:
    """State of every source of randomness in training: the loader's, torch's, numpy's, Python's."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "loader": loader.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "python": random.getstate(),
        "numpy": [
            name,
            torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            int(position),
            int(has_gauss),
            float(gauss),
        ],
    }


def set_random_state(state: dict[str, Any], loader: torch.Generator) -> None:
    """Continue all of them where :func:`random_state` read them."""
    loader.set_state(state["loader"].cpu())
    torch.set_rng_state(state["torch"].cpu())
    torch.cuda.set_rng_state_all([cuda.cpu() for cuda in state["cuda"]])
    random.setstate(state["python"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss))
