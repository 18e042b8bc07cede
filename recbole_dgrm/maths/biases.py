"""User and item biases: the simplest predictor of ratings, and the centre to which models predict residuals."""

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from recbole_dgrm.maths.sparse import Places

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
        """The biases of other users, computed from their ratings ``(n,)``; mean and item biases are unchanged."""
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


class Center(nn.Module):
    """The centre ``user[u] + item[i]``, where ``user`` includes the mean rating; 0 until it is fitted.

    Its kinds are the values of the key ``center``: with ``mean`` it is the mean rating, with ``bias`` user + item
    biases, and with ``none`` it is not fitted.

    It is fitted before a model is trained. For users and items with few ratings, a model of the residuals then predicts
    about the shrunken means. The tables are in the state if they are fitted, so the state of a model without a centre
    cannot be loaded into a model with one.

    Args:
        n_users, n_items: the numbers of rows and columns of the ratings.
    """

    user: Tensor
    item: Tensor

    def __init__(self, n_users: int, n_items: int):
        super().__init__()
        self._biases: Biases | None = None
        self._set(np.zeros(n_users), np.zeros(n_items))

    def fit(self, ratings: sp.csr_matrix, kind: str, shrinkage: float) -> None:
        """Fit a centre of the kind ``mean`` or ``bias``; biases by ``fit_biases``."""
        (user, item), (n_users, n_items) = _positions(ratings), ratings.shape
        self._shrinkage = shrinkage if kind == "bias" else np.inf  # an infinite penalty makes all biases 0
        self._biases = fit_biases(user, item, ratings.data, n_users, n_items, self._shrinkage)
        self._set(self._biases.mean + self._biases.user, self._biases.item)

    def set_users(self, ratings: sp.csr_matrix) -> None:
        """Compute the biases of other users from the rows of ``ratings``; those of items are unchanged."""
        if self._biases is None:
            self._set(np.zeros(ratings.shape[0]), self.item)
            return
        user, item = _positions(ratings)
        biases = self._biases.for_users(user, item, ratings.data, ratings.shape[0], self._shrinkage)
        self._set(biases.mean + biases.user, self.item)

    @property
    def is_fitted(self) -> bool:
        """Whether the centre has been fitted."""
        return self._biases is not None

    def pairs(self, user: Tensor, column: Tensor) -> Tensor:
        """The centre ``(n,)`` of pairs of a user and an item column, ``(n,)`` each."""
        return self.user[user] + self.item[column]

    def at(self, user: Tensor, places: Places) -> Tensor:
        """The centre ``(n,)`` at ``places`` in ``(B, n_items)`` of users ``(B,)``."""
        return self.pairs(user[places.row], places.column)

    def rows(self, user: Tensor) -> Tensor:
        """The centre ``(B, n_items)`` of users ``(B,)``."""
        return self.user[user].unsqueeze(-1) + self.item

    def _set(self, user: np.ndarray | Tensor, item: np.ndarray | Tensor) -> None:
        for name, table in (("user", user), ("item", item)):
            self.register_buffer(name, torch.as_tensor(table, dtype=torch.float32), persistent=self.is_fitted)


def _positions(ratings: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """The row and column of every entry, in the order of ``data``."""
    entries = ratings.tocoo()
    return entries.row, entries.col
