"""Matrix factorization by alternating least squares, in closed form (Koren, Bell and Volinsky 2009).

Minimises ``sum_rated (r - p_u . q_i)^2 + sum_u w_u |p_u|^2 + sum_i w_i |q_i|^2`` with the weights of a ``Penalty``.
``unrated_weight`` adds unrated entries as zeros (Hu et al. 2008).

The regularization pulls predictions towards 0, so it matters where 0 lies. An ``offset`` is subtracted from the
ratings, which puts 0 where it is on a scale from 1 to 5. The same ratings on another scale, 1001 to 1005 for
example, then give the same result.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

ROWS = 8192  # users or items that are solved at once


@dataclass(frozen=True)
class Penalty:
    """What the square of a row of factors costs: the regularization, times a weight.

    Attributes:
        regularization: lambda.
        by_count: the weight is the number of the row's ratings (ALS-WR, Zhou et al. 2008), else 1.
        prior_ratings: added to that number, which keeps rows of few ratings near 0.
    """

    regularization: float
    by_count: bool = True
    prior_ratings: float = 0.0

    def of(self, count: NDArray) -> NDArray[np.float64]:
        """The cost for rows with ``count`` ratings, ``(n,)``; 0 for those without."""
        weight = count + self.prior_ratings if self.by_count else np.ones(len(count))
        return self.regularization * np.where(count > 0, weight, 0.0)


def offset(low: float, high: float) -> float:
    """What to subtract from ratings so that the lowest becomes a quarter of the span, as 1 is of 1 to 5."""
    return low - (high - low) / 4


def half_sweep(
    ratings: sp.csr_matrix, fixed: NDArray, penalty: Penalty, unrated_weight: float = 0.0, centered: bool = False
) -> NDArray[np.float64]:
    """The exact minimum over the factors of the rows of ``ratings``, given those of its columns.

    The normal equations of many rows come from one sparse product. A row without ratings gets the mean factor, or 0 if
    the ratings are ``centered``, residuals to what such a row is predicted by.
    """
    batches = [ratings[start : start + ROWS] for start in range(0, ratings.shape[0], ROWS)]
    solved = [_solve(batch, fixed, penalty, unrated_weight) for batch in batches]
    factors = np.concatenate(solved)
    empty = np.diff(ratings.indptr) == 0
    factors[empty] = 0 if centered else factors[~empty].mean(axis=0)
    return factors


def _solve(ratings: sp.csr_matrix, fixed: NDArray, penalty: Penalty, unrated: float) -> NDArray:
    k = fixed.shape[1]
    rated = sp.csr_matrix((np.ones(ratings.nnz), ratings.indices, ratings.indptr), shape=ratings.shape)
    outer = (fixed[:, :, None] * fixed[:, None, :]).reshape(len(fixed), k * k)
    gram = (1 - unrated) * (rated @ outer).reshape(-1, k, k) + unrated * (fixed.T @ fixed)
    count = np.maximum(np.diff(ratings.indptr), 1)  # any cost makes rows without ratings solvable
    gram += penalty.of(count)[:, None, None] * np.eye(k)
    return np.linalg.solve(gram, (ratings @ fixed)[:, :, None])[:, :, 0]
