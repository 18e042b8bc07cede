"""The state of a model and of random generators as tensors and plain Python, which ``weights_only=True`` can read."""

import random
from typing import Any

import numpy as np
import scipy.sparse
import torch


def pack(value: Any) -> Any:
    """Turn an array or a sparse matrix into tensors; plain values stay as they are. ``unpack`` is the inverse.

    Raises:
        TypeError: the value has a type that a checkpoint cannot store.
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
    raise TypeError(f"a {type(value).__name__} cannot be stored in a checkpoint")


def unpack(value: Any) -> Any:
    """The value from the result of ``pack``."""
    if isinstance(value, dict) and "array" in value:
        return value["array"].numpy()
    if isinstance(value, dict) and "sparse" in value:
        parts = tuple(part.numpy() for part in value["sparse"])
        matrix = scipy.sparse.csr_matrix(parts, shape=value["shape"])
        matrix.check_format()  # scipy's C code does not check for indices outside the matrix
        return matrix.asformat(value["format"])
    return value


def random_state(loader: torch.Generator) -> dict[str, Any]:
    """The states of all random generators that training uses: those of the loader, torch, numpy and Python."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    return {
        "loader": loader.get_state(),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all(),
        "python": random.getstate(),
        "numpy": [name, torch.from_numpy(keys.astype(np.int64)), int(position), int(has_gauss), float(gauss)],
    }


def set_random_state(state: dict[str, Any], loader: torch.Generator) -> None:
    """Set all random generators to the states from ``random_state``."""
    loader.set_state(state["loader"].cpu())
    torch.set_rng_state(state["torch"].cpu())
    torch.cuda.set_rng_state_all([cuda.cpu() for cuda in state["cuda"]])
    random.setstate(state["python"])
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.cpu().numpy().astype(np.uint32), position, has_gauss, gauss))
