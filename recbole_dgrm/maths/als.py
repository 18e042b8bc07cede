"""Matrix factorization by alternating least squares, in closed form (Koren, Bell and Volinsky 2009).

Minimises ``sum_rated (r - p_u . q_i)^2 + regularization * (sum_u w_u |p_u|^2 + sum_i w_i |q_i|^2)`` with ``w = 1`` or
``w`` = number of ratings (ALS-WR, Zhou et al. 2008). ``unrated_weight`` adds unrated entries as zeros (Hu et al. 2008).

The regularization pulls predictions towards 0, so it matters where 0 lies. An ``offset`` is subtracted from the
ratings, which puts 0 where it is on a scale from 1 to 5. The same ratings on another scale, 1001 to 1005 for
example, then give the same result.
"""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

ROWS = 8192  # users or items that are solved at once


def offset(low: float, high: float) -> float:
    """What to subtract from ratings so that the lowest becomes a quarter of the span, as 1 is of 1 to 5."""
    return low - (high - low) / 4


def half_sweep(
    ratings: sp.csr_matrix, fixed: NDArray, regularization: float, by_count: bool = True, unrated_weight: float = 0.0
) -> NDArray[np.float64]:
    """The exact minimum over the factors of the rows of ``ratings``, given those of its columns.

    The normal equations of many rows come from one sparse product. A row without ratings gets the mean factor.
    """
    batches = [ratings[start : start + ROWS] for start in range(0, ratings.shape[0], ROWS)]
    solved = [_solve(batch, fixed, regularization, by_count, unrated_weight) for batch in batches]
    factors = np.concatenate(solved)
    empty = np.diff(ratings.indptr) == 0
    factors[empty] = factors[~empty].mean(axis=0)
    return factors


def _solve(ratings: sp.csr_matrix, fixed: NDArray, regularization: float, by_count: bool, unrated: float) -> NDArray:
    k = fixed.shape[1]
    rated = sp.csr_matrix((np.ones(ratings.nnz), ratings.indices, ratings.indptr), shape=ratings.shape)
    outer = (fixed[:, :, None] * fixed[:, None, :]).reshape(len(fixed), k * k)
    gram = (1 - unrated) * (rated @ outer).reshape(-1, k, k) + unrated * (fixed.T @ fixed)
    weight = np.maximum(np.diff(ratings.indptr), 1) if by_count else np.ones(ratings.shape[0])
    gram += regularization * weight[:, None, None] * np.eye(k)
    return np.linalg.solve(gram, (ratings @ fixed)[:, :, None])[:, :, 0]
