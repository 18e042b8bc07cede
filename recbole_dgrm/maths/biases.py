"""User and item biases, the simplest predictor of ratings and the centre of residuals."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from numpy.typing import NDArray

SWEEPS = 10


@dataclass(frozen=True)
class Biases:
    """The model ``rating ~ mean + user[u] + item[i]``, where unseen users and items have bias 0."""

    mean: float
    user: NDArray[np.float64]
    item: NDArray[np.float64]

    def predict(self, user: NDArray, item: NDArray) -> NDArray[np.float64]:
        """The predicted ratings of pairs, in the shape of the broadcast ids."""
        return self.mean + self.user[user] + self.item[item]

    def for_users(self, user: NDArray, item: NDArray, rating: NDArray, n_users: int, shrinkage: float) -> Self:
        """The biases of other users, solved from their ratings ``(n,)``; mean and items stay as they are."""
        left = rating - self.mean - self.item[item]
        return replace(self, user=np.bincount(user, left, minlength=n_users) / _counts(user, n_users, shrinkage))


def fit_biases(user: NDArray, item: NDArray, rating: NDArray, n_users: int, n_items: int, shrinkage: float) -> Biases:
    """Ridge-regularised biases by coordinate descent (Koren 2008, section 2.1).

    Minimises ``sum (r - mean - b_u - b_i)^2 + shrinkage * (|b_u|^2 + |b_i|^2)``.

    Args:
        user, item, rating: training triples, shape ``(n,)``.
        n_users, n_items: sizes of the returned vectors.
        shrinkage: pseudo-count that pulls a bias towards 0, >= 0.
    """
    mean = float(rating.mean())
    centred = rating - mean
    b_user, b_item = np.zeros(n_users), np.zeros(n_items)
    count_user, count_item = _counts(user, n_users, shrinkage), _counts(item, n_items, shrinkage)
    for _ in range(SWEEPS):
        b_item = np.bincount(item, centred - b_user[user], minlength=n_items) / count_item
        b_user = np.bincount(user, centred - b_item[item], minlength=n_users) / count_user
    return Biases(mean, b_user, b_item)


def _counts(row: NDArray, n_rows: int, shrinkage: float) -> NDArray[np.floating]:
    return np.bincount(row, minlength=n_rows) + max(shrinkage, 1e-9)
