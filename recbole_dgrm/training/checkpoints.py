"""Checkpoints of plain data: tensors and plain Python only, so that ``weights_only=True`` reads them."""

import math
import random
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray

from recbole_dgrm.errors import CheckpointError
from recbole_dgrm.system.files import check_unpacked, write_whole

FIELDS = {
    "note": dict, "model": str, "epoch": int, "lines": int, "best_epoch": int, "cur_step": int,
    "best_valid_score": float, "best_valid_result": dict | None, "state_dict": dict, "best_state_dict": dict,
    "other": dict, "optimizer": dict, "random": dict,
}  # fmt: skip
FORMATS = ("csr", "csc", "coo", "lil", "dok")  # of sparse matrices
LARGEST = 1 << 28  # rows or columns: users and items together; a format by columns takes memory for each
REMEDY = "move it away, and the run begins again from its config.yaml"


def write_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write ``state``, which has the keys of ``FIELDS``; on any error the file that was there stays."""

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
    """A checkpoint as written by ``write_checkpoint``; nothing in the file can run code.

    Raises:
        CheckpointError: it is not a checkpoint of plain data, or a field is missing or of another kind.
    """
    try:
        check_unpacked(path)
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
    for name, possible in {
        "epoch": state["epoch"] >= 0, "lines": state["lines"] >= 0, "cur_step": state["cur_step"] >= 0,
        "best_epoch": -1 <= state["best_epoch"] <= state["epoch"],
        "best_valid_score": not math.isnan(state["best_valid_score"]),
    }.items():  # fmt: skip
        if not possible:
            raise CheckpointError(f"{path} is not a checkpoint of a run: {name} is {state[name]}; {REMEDY}")
    return state


def pack(value: Any) -> Any:
    """Arrays and sparse matrices as tensors, so that ``weights_only=True`` reads them; ``unpack`` undoes it.

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
    """What ``pack`` was given.

    Raises:
        ValueError: a sparse matrix that scipy's C code could not be trusted with.
    """
    if isinstance(value, dict) and "array" in value:
        return value["array"].numpy()
    if isinstance(value, dict) and "sparse" in value:
        data, indices, indptr = (part.numpy() for part in value["sparse"])
        check_csr(data, indices, indptr, value["shape"])
        if value["format"] not in FORMATS:  # others take memory by what they are told, not by what they hold
            raise ValueError(f"a sparse matrix of format {value['format']!r}")
        return scipy.sparse.csr_matrix((data, indices, indptr), shape=value["shape"]).asformat(value["format"])
    return value


def check_csr(data: NDArray, indices: NDArray, indptr: NDArray, shape: Any) -> None:
    """Whether the parts are those of a matrix of ``shape`` in compressed rows; scipy looks at a few of them only.

    Raises:
        ValueError: they are not.
    """
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(n) is int and 0 <= n < LARGEST for n in shape)):
        raise ValueError(f"a sparse matrix of shape {shape}")
    rows, columns = shape
    if not all(part.ndim == 1 for part in (data, indices, indptr)) or data.dtype.kind not in "fiub":
        raise ValueError("a sparse matrix whose parts are no vectors of numbers")
    if indices.dtype.kind != "i" or indptr.dtype.kind != "i" or not len(data) == len(indices):
        raise ValueError(f"a sparse matrix of {len(data)} values at {len(indices)} places")
    if len(indptr) != rows + 1 or indptr[0] != 0 or indptr[-1] != len(data) or (np.diff(indptr) < 0).any():
        raise ValueError(f"a sparse matrix whose {len(indptr)} row pointers do not divide its {len(data)} values")
    if len(indices) and not 0 <= indices.min() <= indices.max() < columns:
        raise ValueError(f"a sparse matrix with a place outside its {columns} columns")


def check_finite(values: Mapping[str, Any], infinite: Collection[str] = ()) -> None:
    """Whether all tensors, arrays and sparse matrices of a model hold finite numbers.

    Args:
        infinite: names of those that may hold infinity, as a best score does that nothing has reached yet.

    Raises:
        ValueError: one does not.
    """
    for name, value in values.items():
        numbers = value.tocsr().data if scipy.sparse.issparse(value) else value
        if isinstance(numbers, (torch.Tensor, np.ndarray)):
            numbers = torch.as_tensor(numbers)
            if not (numbers.isnan().logical_not() if name in infinite else numbers.isfinite()).all():
                raise ValueError(f"{name} holds what is no finite number")


def forms(values: Mapping[str, Any]) -> dict[str, str | None]:
    """Kind and shape of what a model keeps beside its weights; None where it is made later."""
    names = {torch.Tensor: "tensor", np.ndarray: "array", scipy.sparse.spmatrix: "sparse matrix"}
    found = {}
    for name, value in values.items():
        kind = next((text for kind, text in names.items() if isinstance(value, kind)), type(value).__name__)
        found[name] = None if value is None else f"{kind} {tuple(getattr(value, 'shape', ()))}"
    return found


def check_forms(kept: Mapping[str, Any], wanted: Mapping[str, str | None]) -> None:
    """Whether ``kept`` has the ``forms`` that a model has when it is built.

    Raises:
        ValueError: it has not.
    """
    if set(kept) != set(wanted):
        raise ValueError(f"it keeps {sorted(kept)}, not {sorted(wanted)}")
    for name, form in forms(kept).items():
        if wanted[name] is not None and form != wanted[name]:
            raise ValueError(f"{name} is no {wanted[name]} but a {form}")


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
                check_finite({f"the optimizer's {name}": value})


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
    """Continue all of them where ``random_state`` read them.

    Raises:
        ValueError: numpy would begin outside its table, which it does not notice.
    """
    loader.set_state(state["loader"].cpu())
    torch.set_rng_state(state["torch"].cpu())
    torch.cuda.set_rng_state_all([cuda.cpu() for cuda in state["cuda"]])
    random.setstate(state["python"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    if not 0 <= position <= len(keys):
        raise ValueError(f"a random state at {position} of {len(keys)} numbers")
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss))
