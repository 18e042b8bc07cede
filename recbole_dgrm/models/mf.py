"""MF: matrix factorization by alternating least squares, see ``recbole_dgrm.maths.als``.

The DGRM paper does not state whether the regularization counts once per row (plain) or once per rating (ALS-WR),
so ``regularize_by`` chooses.

Where rows have few ratings, ALS-WR hardly regularizes: a user with one rating gets it back for all items. So by default
the factors are those of residuals to user and item biases (``center: bias``), in quarters of the scale's span, and each
row is regularized as if it had ``prior_ratings`` more. ``center: none, prior_ratings: 0`` is ALS-WR of ratings.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from recbole_dgrm.errors import OptionError
from recbole_dgrm.maths.als import Penalty, half_sweep, offset
from recbole_dgrm.models.base import ProfileRecommender
from recbole_dgrm.options import Share, read


@dataclass(frozen=True)
class MFOptions:
    """Keys of ``properties/model/MF.yaml``, where each is explained."""

    factors: PositiveInt
    regularization: PositiveFloat
    regularize_by: Literal["count", "plain"]
    prior_ratings: NonNegativeFloat
    center: Literal["none", "bias"]
    unrated_weight: Share


class MF(ProfileRecommender):
    """Matrix factorization by ALS; a user or item without ratings gets the centre, or without one the mean factor."""

    Options = MFOptions
    takes_new_users = False
    by_profiles = False

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.options = read(MFOptions, config)
        if self.implicit and self.options.unrated_weight == 0:
            raise OptionError("unrated_weight=0 learns a constant from implicit feedback; set it above 0, e.g. 0.1")
        self.center = self.centered(config)
        self.ratings = self.rating_matrix()
        less, self.unit = self._reference()
        self.ratings.data = (self.ratings.data - less) / self.unit
        self.penalty = self._penalty()
        # It is saved unless it is 0, so that factors of a version without an offset are not read as if they had one.
        self.register_buffer("offset", torch.tensor(less, dtype=torch.float64), persistent=less != 0)
        scale = np.sqrt(np.abs(self.ratings.data).mean() / self.options.factors)
        self.user_factors = self._parameter(self.n_users, scale)
        self.item_factors = self._parameter(self.width, scale)

    def _reference(self) -> tuple[float, float]:
        """What is subtracted from the ratings, which may be centred, and what they are divided by then."""
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
        """The value of the objective, which every sweep lowers."""
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
