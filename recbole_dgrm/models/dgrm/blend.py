"""The part of a prediction that is solved in closed form, not learnt by gradients.

*Centring* makes profiles residuals to user and item biases. *Blending* replaces a share of the predicted ratings by
the mean of factorizations (ALS-WR) of several sizes, which are cheap and differ enough from a network to help it.
"""

from collections.abc import Sequence

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recbole_dgrm.maths.als import averaged_factors, averaged_rows, offset
from recbole_dgrm.maths.biases import Biases, fit_biases
from recbole_dgrm.maths.sparse import Places, products_at

SWEEPS = 10


class ClosedForm(nn.Module):
    """Biases and factors of training ratings; before either is fitted it changes nothing.

    Args:
        n_users, n_items: the numbers of rows and columns of the ratings.
    """

    center_user: Tensor
    center_item: Tensor
    factors_user: Tensor
    factors_item: Tensor
    offset: Tensor

    def __init__(self, n_users: int, n_items: int):
        super().__init__()
        self.blend = 0.0
        self.register_buffer("offset", torch.tensor(0.0), persistent=False)
        self._biases: Biases | None = None
        self._set("center", np.zeros(n_users), np.zeros(n_items))
        self._set("factors", np.zeros((n_users, 0)), np.zeros((n_items, 0)))

    def center(self, ratings: sp.csr_matrix, shrinkage: float) -> None:
        """Fit the biases that profiles are residuals to."""
        user, item = _positions(ratings)
        self._biases, self._shrinkage = fit_biases(user, item, ratings.data, *ratings.shape, shrinkage), shrinkage
        self._set("center", self._biases.mean + self._biases.user, self._biases.item)

    def blend_with(
        self,
        ratings: sp.csr_matrix,
        scale: tuple[float, float],
        share: float,
        sizes: Sequence[int],
        regularization: float,
        seed: int,
    ) -> None:
        """Fit the factorizations that have ``share`` of a prediction; ``scale`` is the lowest and highest rating."""
        self.blend, self._sizes, self._regularization = share, sizes, regularization
        self.offset.fill_(offset(*scale))
        self._set("factors", *averaged_factors(self._shifted(ratings), sizes, regularization, SWEEPS, seed))

    def _shifted(self, ratings: sp.csr_matrix) -> sp.csr_matrix:
        """The ratings minus the offset of the factorizations; an entry that becomes 0 stays an entry."""
        return sp.csr_matrix((ratings.data - self.offset.item(), ratings.indices, ratings.indptr), ratings.shape)

    def set_users(self, ratings: sp.csr_matrix) -> None:
        """Solve the users of other ``ratings``; the items stay as they were fitted."""
        n_users = ratings.shape[0]
        center, factors = np.zeros(n_users), np.zeros((n_users, 0))
        if self._biases:
            user, item = _positions(ratings)
            biases = self._biases.for_users(user, item, ratings.data, n_users, self._shrinkage)
            center = biases.mean + biases.user
        if self.blend:
            item_factors = self.factors_item.double().cpu().numpy()
            factors = averaged_rows(self._shifted(ratings), item_factors, self._sizes, self._regularization)
        self._set("center", center, self.center_item)
        self._set("factors", factors, self.factors_item)

    def residual(self, user: Tensor, column: Tensor, rating: Tensor) -> Tensor:
        """The residuals ``(n,)`` of ratings ``(n,)`` of pairs ``(n,)``."""
        return rating - (self.center_user[user] + self.center_item[column])

    def complete(self, user: Tensor, x_0_hat: Tensor) -> Tensor:
        """The predicted ratings ``(B, I)`` of users ``(B,)`` that follow from predicted residuals ``(B, I)``."""
        rating = x_0_hat + self.center_user[user].unsqueeze(-1) + self.center_item
        if not self.blend:
            return rating
        return torch.lerp(rating, self.factors_user[user] @ self.factors_item.T + self.offset, self.blend)

    def complete_at(self, user: Tensor, places: Places, x_0_hat: Tensor) -> Tensor:
        """The predicted ratings ``(n,)`` at places of the batch that follow from residuals ``(n,)``."""
        rating = x_0_hat + self.center_user[user[places.row]] + self.center_item[places.column]
        if not self.blend:
            return rating
        product = products_at(places, self.factors_user[user], self.factors_item)
        return torch.lerp(rating, product + self.offset, self.blend)

    def _set(self, name: str, *tables: np.ndarray | Tensor) -> None:
        for side, table in zip(("user", "item"), tables, strict=True):
            self.register_buffer(f"{name}_{side}", torch.as_tensor(table, dtype=torch.float32), persistent=False)


def _positions(ratings: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """The row and column of every entry, in the order of ``data``."""
    entries = ratings.tocoo()
    return entries.row, entries.col
