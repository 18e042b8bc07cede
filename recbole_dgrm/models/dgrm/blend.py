"""The part of a prediction that is solved in closed form or sampled, not learnt by gradients.

*Centring* makes profiles residuals to user and item biases. *Blending* replaces a share of a prediction: of ratings by
those of a Bayesian factorization (``recbole_dgrm.maths.gibbs``), of scores under implicit feedback, both standardised
per user, by those of a ridge regression on a user's other items (``recbole_dgrm.maths.ridge``).
"""

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recbole_dgrm.maths.biases import Biases, fit_biases
from recbole_dgrm.maths.factorization import Factorization
from recbole_dgrm.maths.ridge import ItemRidge
from recbole_dgrm.maths.sparse import Places

TINY = 1e-12


class ClosedForm(nn.Module):
    """Biases of ratings and another model to blend with; before they are given it changes nothing.

    Args:
        n_users, n_items: the numbers of rows and columns of the ratings.

    Attributes:
        share: of the other model in a prediction.
        other: the other model; None without.
    """

    center_user: Tensor
    center_item: Tensor
    share: Tensor

    def __init__(self, n_users: int, n_items: int):
        super().__init__()
        self.other: Factorization | ItemRidge | None = None
        self._biases: Biases | None = None
        self.register_buffer("share", torch.tensor(0.0))
        self._set_center(np.zeros(n_users), np.zeros(n_items))

    def center(self, ratings: sp.csr_matrix, shrinkage: float) -> None:
        """Fit the biases that profiles are residuals to."""
        user, item = _positions(ratings)
        self._biases, self._shrinkage = fit_biases(user, item, ratings.data, *ratings.shape, shrinkage), shrinkage
        self._set_center(self._biases.mean + self._biases.user, self._biases.item)

    def blend_with(self, other: Factorization | ItemRidge, share: float) -> None:
        """Blend with another model, which ``learn`` trains."""
        self.other = other
        self.share.fill_(share)

    def learn(self) -> None:
        """Sample or solve the other model, unless that is done."""
        if isinstance(self.other, Factorization):
            while self.other.sweeps < self.other.how.sweeps:
                self.other.sweep()
        elif self.other:
            self.other.solve()

    def set_users(self, ratings: sp.csr_matrix) -> None:
        """Solve the users of other ``ratings``; the items stay as they were fitted."""
        if self._biases:
            user, item = _positions(ratings)
            biases = self._biases.for_users(user, item, ratings.data, ratings.shape[0], self._shrinkage)
            self._set_center(biases.mean + biases.user, self.center_item)
        else:
            self._set_center(np.zeros(ratings.shape[0]), self.center_item)
        if self.other:
            self.other.set_users(ratings)

    def residual(self, user: Tensor, column: Tensor, rating: Tensor) -> Tensor:
        """The residuals ``(n,)`` of ratings ``(n,)`` of pairs ``(n,)``."""
        return rating - (self.center_user[user] + self.center_item[column])

    def complete(self, user: Tensor, x_0_hat: Tensor) -> Tensor:
        """The predicted ratings ``(B, I)`` of users ``(B,)`` that follow from predicted residuals ``(B, I)``."""
        rating = x_0_hat.float() + self.center_user[user].unsqueeze(-1) + self.center_item
        if not self.share:
            return rating
        if isinstance(self.other, ItemRidge):
            return torch.lerp(_standardised(rating), _standardised(self.other.ratings(user)), self.share)
        return torch.lerp(rating, self._others.ratings(user), self.share)

    def complete_at(self, user: Tensor, places: Places, x_0_hat: Tensor) -> Tensor:
        """The predicted ratings ``(n,)`` at places of the batch that follow from residuals ``(n,)``."""
        rating = x_0_hat.float() + self.center_user[user[places.row]] + self.center_item[places.column]
        return torch.lerp(rating, self._others.ratings_at(user, places), self.share) if self.share else rating

    def deviations_at(self, user: Tensor, places: Places, rated: Places) -> Tensor | None:
        """The factorization's standard deviations ``(n,)``; None where it has no share in a prediction."""
        known = isinstance(self.other, Factorization) and bool(self.share)
        return self._others.deviations_at(user, places, rated) if known else None

    @property
    def alone(self) -> bool:
        """Whether the other model has the whole prediction, so that no residual is needed."""
        return bool(self.share == 1)

    @property
    def reads_rows(self) -> bool:
        """Whether a prediction depends on those for the user's other items."""
        return isinstance(self.other, ItemRidge) and bool(self.share)

    @property
    def _others(self) -> Factorization:
        assert isinstance(self.other, Factorization)
        return self.other

    def _set_center(self, user: np.ndarray | Tensor, item: np.ndarray | Tensor) -> None:
        for name, table in (("center_user", user), ("center_item", item)):
            self.register_buffer(name, torch.as_tensor(table, dtype=torch.float32), persistent=False)


def _standardised(score: Tensor) -> Tensor:
    """Scores ``(B, I)`` with mean 0 and deviation 1 in each row."""
    return (score - score.mean(dim=1, keepdim=True)) / score.std(dim=1, keepdim=True).clamp(min=TINY)


def _positions(ratings: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """The row and column of every entry, in the order of ``data``."""
    entries = ratings.tocoo()
    return entries.row, entries.col
