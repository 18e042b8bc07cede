"""The centre of ratings: user and item biases that a model predicts residuals to.

It is fitted in closed form before a model learns, and is not learnt further. Where a user or an item has few ratings, a
model whose own part is 0 there predicts their shrunken means.
"""

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recbole_dgrm.maths.biases import Biases, fit_biases
from recbole_dgrm.maths.sparse import Places


class Center(nn.Module):
    """The table ``user[u] + item[i]``, in which ``user`` has the mean rating; 0 until it is fitted.

    It is part of the state once it is fitted, so that what was learnt without it is not read as if it had one.

    Args:
        n_users, n_items: the numbers of rows and columns of the ratings.
    """

    user: Tensor
    item: Tensor

    def __init__(self, n_users: int, n_items: int):
        super().__init__()
        self._biases: Biases | None = None
        self._set(np.zeros(n_users), np.zeros(n_items))

    def fit(self, ratings: sp.csr_matrix, shrinkage: float) -> None:
        """Fit the biases of users and items, see ``recbole_dgrm.maths.biases``."""
        (user, item), (n_users, n_items) = _positions(ratings), ratings.shape
        self._biases, self._shrinkage = fit_biases(user, item, ratings.data, n_users, n_items, shrinkage), shrinkage
        self._set(self._biases.mean + self._biases.user, self._biases.item)

    def set_users(self, ratings: sp.csr_matrix) -> None:
        """Solve the biases of other users, whose ratings are the rows of ``ratings``; the items stay as they are."""
        if self._biases is None:
            self._set(np.zeros(ratings.shape[0]), self.item)
            return
        user, item = _positions(ratings)
        biases = self._biases.for_users(user, item, ratings.data, ratings.shape[0], self._shrinkage)
        self._set(biases.mean + biases.user, self.item)

    @property
    def is_fitted(self) -> bool:
        """Whether there is a centre at all."""
        return self._biases is not None

    def pairs(self, user: Tensor, column: Tensor) -> Tensor:
        """The centre ``(n,)`` of pairs of a user and an item's column, ``(n,)`` each."""
        return self.user[user] + self.item[column]

    def rows(self, user: Tensor) -> Tensor:
        """The centre ``(B, n_items)`` of users ``(B,)``."""
        return self.user[user].unsqueeze(-1) + self.item

    def at(self, user: Tensor, places: Places) -> Tensor:
        """The centre ``(n,)`` of users ``(B,)`` at ``places`` in ``(B, n_items)``."""
        return self.pairs(user[places.row], places.column)

    def _set(self, user: np.ndarray | Tensor, item: np.ndarray | Tensor) -> None:
        for name, table in (("user", user), ("item", item)):
            self.register_buffer(name, torch.as_tensor(table, dtype=torch.float32), persistent=self.is_fitted)


def _positions(ratings: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """The row and column of every entry, in the order of ``data``."""
    entries = ratings.tocoo()
    return entries.row, entries.col
