"""MF: matrix factorization by alternating least squares, in closed form (Koren, Bell and Volinsky 2009).

    minimise  sum_rated (r - p_u . q_i)^2 + sum_u w_u |p_u|^2 + sum_i w_i |q_i|^2

with the weights of a ``Penalty``. The DGRM paper does not state whether the regularization counts once per row (plain)
or once per rating (ALS-WR), so ``regularize_by`` chooses. ``unrated_weight`` adds unrated entries as zeros (Hu et al.
2008).

ALS-WR hardly regularizes rows with few ratings: for a user with one rating it predicts about that rating for all items.
So by default residuals to user and item biases are factorized (``center: bias``), in units of a quarter of the scale's
range, and each row is regularized as if it had ``prior_ratings`` more ratings. ``center: none, prior_ratings: 0`` is
ALS-WR on ratings.

The regularization pulls predictions towards 0, so the position of 0 matters. Without a centre an ``offset`` is
subtracted from the ratings, so that 0 is where it is on a scale from 1 to 5. The same ratings on another scale, for
example 1001 to 1005, then give the same result.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from recbole_dgrm.errors import OptionError
from recbole_dgrm.maths.sparse import Places
from recbole_dgrm.models.base import ProfileRecommender
from recbole_dgrm.options import Share, read

ROWS = 8192  # rows (users or items) that are solved at once


@dataclass(frozen=True)
class MFOptions:
    """Keys of ``properties/model/MF.yaml``, where each is explained."""

    factors: PositiveInt
    regularization: PositiveFloat
    regularize_by: Literal["count", "plain"]
    prior_ratings: NonNegativeFloat
    center: Literal["none", "bias"]
    unrated_weight: Share


@dataclass(frozen=True)
class Penalty:
    """The L2 penalty of a row of factors: lambda times a weight.

    Attributes:
        regularization: lambda.
        by_count: whether the weight is the number of the row's ratings (ALS-WR, Zhou et al. 2008); else it is 1.
        prior_ratings: added to that number, which keeps rows with few ratings near 0.
    """

    regularization: float
    by_count: bool = True
    prior_ratings: float = 0.0

    def of(self, count: NDArray) -> NDArray[np.float64]:
        """The penalties of rows with ``count`` ratings, ``(n,)``; 0 for rows without ratings."""
        weight = count + self.prior_ratings if self.by_count else np.ones(len(count))
        return self.regularization * np.where(count > 0, weight, 0.0)


class MF(ProfileRecommender):
    """Matrix factorization by ALS; users and items without ratings get the centre, or without one the mean factors."""

    Options = MFOptions
    takes_new_users = False
    by_profiles = False

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.options = read(MFOptions, config)
        if self.implicit and self.options.unrated_weight == 0:
            raise OptionError("unrated_weight=0 learns a constant from implicit feedback; set it above 0, e.g. to 0.1")
        self.center = self.centered(config)
        self.ratings = self.rating_matrix()
        less, self.unit = self._reference()
        self.ratings.data = (self.ratings.data - less) / self.unit
        self.penalty = self._penalty()
        # It is saved unless it is 0, so that factors that were saved without an offset cannot be loaded with one.
        self.register_buffer("offset", torch.tensor(less, dtype=torch.float64), persistent=less != 0)
        scale = np.sqrt(np.abs(self.ratings.data).mean() / self.options.factors)
        self.user_factors = self._parameter(self.n_users, scale)
        self.item_factors = self._parameter(self.width, scale)

    def _reference(self) -> tuple[float, float]:
        """The number to subtract from the (perhaps centred) ratings, and the number to divide them by."""
        if self.implicit:
            return 0.0, 1.0
        low, high = self.scale.low, self.scale.high
        return (0.0, (high - low) / 4 or 1.0) if self.center.is_fitted else (offset(low, high), 1.0)

    def _penalty(self) -> Penalty:
        o = self.options
        return Penalty(o.regularization, o.regularize_by == "count", 0.0 if self.implicit else o.prior_ratings)

    def _parameter(self, n_rows: int, scale: float) -> nn.Parameter:
        start = scale * (1 + 0.1 * torch.randn(n_rows, self.options.factors, dtype=torch.float64))
        return nn.Parameter(start, requires_grad=False)

    def sweep(self) -> float:
        """Solve for all users, then for all items, and return the objective per rating."""
        self.half_sweep("user")
        self.half_sweep("item")
        return self.objective() / self.ratings.nnz

    def half_sweep(self, side: str) -> None:
        """Set the factors of one side, ``user`` or ``item``, to the exact minimum given those of the other."""
        sides, weight = (self.user_factors, self.item_factors), self.options.unrated_weight
        own, other = sides if side == "user" else reversed(sides)
        ratings = self.ratings if side == "user" else self.ratings.T.tocsr()
        fixed = other.detach().cpu().numpy()
        own.copy_(torch.from_numpy(half_sweep(ratings, fixed, self.penalty, weight, self.center.is_fitted)))

    def objective(self) -> float:
        """The value of the objective; no sweep increases it."""
        p, q = self.user_factors.cpu().numpy(), self.item_factors.cpu().numpy()
        coo = self.ratings.tocoo()
        predicted = np.einsum("nk,nk->n", p[coo.row], q[coo.col])
        loss = np.square(coo.data - predicted).sum()
        loss += self.options.unrated_weight * (np.einsum("kl,kl->", p.T @ p, q.T @ q) - np.square(predicted).sum())
        for factors, count in ((p, np.diff(self.ratings.indptr)), (q, np.bincount(coo.col, minlength=self.width))):
            loss += (self.penalty.of(count) * np.square(factors).sum(axis=1)).sum()
        return float(loss)

    @torch.no_grad()
    def score_profiles(self, user: Tensor) -> Tensor:
        """Predicted ratings ``(B, I)``: the products ``p_u . q_i`` plus the offset or the centre."""
        products = self.unit * (self.user_factors[user] @ self.item_factors.T)
        return (products + self.offset).float() + self.center.rows(user)

    @torch.no_grad()
    def score_at(self, user: Tensor, places: Places) -> Tensor:
        """Predicted ratings ``(n,)`` at ``places``."""
        products = self.user_factors[user[places.row]] * self.item_factors[places.column]
        return (self.unit * products.sum(-1) + self.offset).float() + self.center.at(user, places)


def offset(low: float, high: float) -> float:
    """The number to subtract from ratings so that the lowest is a quarter of the range, as 1 is on a 1 to 5 scale."""
    return low - (high - low) / 4


def half_sweep(
    ratings: sp.csr_matrix, fixed: NDArray, penalty: Penalty, unrated_weight: float = 0.0, centered: bool = False
) -> NDArray[np.float64]:
    """The exact minimum over the factors of the rows of ``ratings``, given those of its columns.

    The normal equations of many rows come from one sparse product. A row without ratings gets the mean factors, or 0 if
    the ratings are ``centered``: then its prediction is the centre.
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
    count = np.maximum(np.diff(ratings.indptr), 1)  # any penalty makes the equations of rows without ratings solvable
    gram += penalty.of(count)[:, None, None] * np.eye(k)
    return np.linalg.solve(gram, (ratings @ fixed)[:, :, None])[:, :, 0]
