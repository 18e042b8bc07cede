"""The state of a model and of random generators as tensors and plain Python, which ``weights_only=True`` can read."""

import random
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray

FORMATS = ("csr", "csc", "coo", "lil", "dok")  # of sparse matrices
LARGEST = 1 << 28  # rows or columns: users and items together; a format by columns takes memory for each


def pack(value: Any) -> Any:
    """Turn an array or a sparse matrix into tensors, and leave plain data as they are; ``unpack`` undoes it.

    Raises:
        TypeError: the value cannot be kept as plain data.
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
    """The value that ``pack`` was given.

    Raises:
        ValueError: it is a sparse matrix that scipy's C code could not be trusted with.
    """
    if isinstance(value, dict) and "array" in value:
        return value["array"].numpy()
    if isinstance(value, dict) and "sparse" in value:
        data, indices, indptr = (part.numpy() for part in value["sparse"])
        check_csr(data, indices, indptr, value["shape"])
        if value["format"] not in FORMATS:  # others take memory by their shape
            raise ValueError(f"a sparse matrix of format {value['format']!r}")
        return scipy.sparse.csr_matrix((data, indices, indptr), shape=value["shape"]).asformat(value["format"])
    return value


def check_csr(data: NDArray, indices: NDArray, indptr: NDArray, shape: Any) -> None:
    """Check the parts of a matrix in compressed rows, of which scipy checks only a few.

    Raises:
        ValueError: they do not form a matrix of ``shape``.
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
    """Check that the tensors, arrays and sparse matrices of a model hold finite numbers.

    Args:
        infinite: the names of those that may hold infinity, for example a best score before the first validation.

    Raises:
        ValueError: one of them holds another number.
    """
    for name, value in values.items():
        numbers = value.tocsr().data if scipy.sparse.issparse(value) else value
        if isinstance(numbers, (torch.Tensor, np.ndarray)):
            numbers = torch.as_tensor(numbers)
            if not (numbers.isnan().logical_not() if name in infinite else numbers.isfinite()).all():
                raise ValueError(f"{name} holds what is no finite number")


def forms(values: Mapping[str, Any]) -> dict[str, str | None]:
    """Type and shape of what a model keeps beside its weights; None for what it makes later."""
    names = {torch.Tensor: "tensor", np.ndarray: "array", scipy.sparse.spmatrix: "sparse matrix"}
    found = {}
    for name, value in values.items():
        kind = next((text for kind, text in names.items() if isinstance(value, kind)), type(value).__name__)
        found[name] = None if value is None else f"{kind} {tuple(getattr(value, 'shape', ()))}"
    return found


def check_forms(kept: Mapping[str, Any], wanted: Mapping[str, str | None]) -> None:
    """Check that ``kept`` has the ``forms`` that the model had when it was built.

    Raises:
        ValueError: it has others.
    """
    if set(kept) != set(wanted):
        raise ValueError(f"it keeps {sorted(kept)}, not {sorted(wanted)}")
    for name, form in forms(kept).items():
        if wanted[name] is not None and form != wanted[name]:
            raise ValueError(f"{name} is no {wanted[name]} but a {form}")


def check_optimizer(optimizer: Any) -> None:
    """Check the state of an optimizer, or of each of a mapping of optimizers; torch does not check it.

    Raises:
        ValueError: a tensor does not have the shape of its parameter, or holds a number that is not finite.
    """
    for one in optimizer.values() if isinstance(optimizer, Mapping) else [optimizer]:
        for parameter, kept in one.state.items():
            for name, value in kept.items():
                if isinstance(value, torch.Tensor) and value.dim() and value.shape != parameter.shape:
                    raise ValueError(f"the optimizer's {name} is {tuple(value.shape)}, not {tuple(parameter.shape)}")
                check_finite({f"the optimizer's {name}": value})


def random_state(loader: torch.Generator) -> dict[str, Any]:
    """The state of every random generator of a training: those of the loader, torch, numpy and Python."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "loader": loader.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)],
    }


def set_random_state(state: dict[str, Any], loader: torch.Generator) -> None:
    """Set every random generator to a state that ``random_state`` has returned.

    Raises:
        ValueError: numpy would begin outside its table of numbers, which it does not check itself.
    """
    loader.set_state(state["loader"].cpu())
    torch.set_rng_state(state["torch"].cpu())
    torch.cuda.set_rng_state_all([cuda.cpu() for cuda in state["cuda"]])
    random.setstate(state["python"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    if not 0 <= position <= len(keys):
        raise ValueError(f"a random state at {position} of {len(keys)} numbers")
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss))
