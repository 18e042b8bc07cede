"""Features of a row from the columns that it has ratings in: a few components of a singular value decomposition."""

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

SMALLEST = 1e-5  # of the largest singular value; smaller ones are rounding errors


@dataclass(frozen=True)
class Features:
    """Features ``F`` of rows by their truncated singular value decomposition.

    Attributes:
        left: ``U``, ``(n, f)``; for rows that were not in the decomposition ``F V / size``.
        size: the singular values, ``(f,)``.
        right: ``V``, ``(n_columns, f)``.
    """

    left: NDArray[np.float64]
    size: NDArray[np.float64]
    right: NDArray[np.float64]

    @classmethod
    def of(cls, matrix: sp.csr_matrix, rated: NDArray[np.bool_], most: int) -> "Features":
        """The ``most`` largest components of a matrix ``(n, n_columns)``, computed from its ``rated`` rows."""
        known = matrix[rated]
        if most < min(known.shape) / 2:
            from scipy.sparse.linalg import svds  # slow to load

            _, size, right = svds(known, most, v0=np.ones(min(known.shape)))
        else:
            _, size, right = np.linalg.svd(known.toarray(), full_matrices=False)
        order = np.argsort(-size)[:most]
        order = order[size[order] > SMALLEST * size.max()]
        size, right = size[order], right[order].T
        return cls(matrix @ right / size, size, right)

    def at(self, rows: NDArray) -> "Features":
        """The features of some of the rows."""
        return replace(self, left=self.left[rows])

    def of_rows(self, matrix: sp.csr_matrix) -> "Features":
        """The features of other rows ``(n, n_columns)``, in the same components."""
        return replace(self, left=matrix @ self.right / self.size)

    def times(self, coefficients: NDArray) -> NDArray[np.float64]:
        """``F B`` for the coefficients ``(f, d)`` of the components, ``(n, d)``."""
        return product(self.left, self.size[:, None] * coefficients)


def product(left: NDArray, right: NDArray) -> NDArray[np.float64]:
    """A matrix product by torch, because the threads of numpy's library and of torch would slow each other down."""
    return (torch.from_numpy(left) @ torch.from_numpy(right)).numpy()


def shares(ratings: sp.csr_matrix) -> sp.csr_matrix:
    """1 / sqrt(number of ratings of the row) at each rated place, ``(n, n_columns)``."""
    count = np.diff(ratings.indptr)
    value = np.repeat(1 / np.sqrt(np.maximum(count, 1)), count)
    return sp.csr_matrix((value, ratings.indices, ratings.indptr), ratings.shape)
