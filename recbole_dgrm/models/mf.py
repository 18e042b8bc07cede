"""MF: matrix factorization by alternating least squares, in closed form (Koren, Bell and Volinsky 2009).

    minimise  sum_rated (r - p_u . q_i)^2 + sum_u w_u |p_u|^2 + sum_i w_i |q_i|^2

with the weights of ``MF.penalties``. The DGRM paper does not state whether the regularization counts once per row
(plain) or once per rating (ALS-WR), so ``regularize_by`` chooses. ``unrated_weight`` adds unrated entries as zeros (Hu
et al. 2008). The sums of the normal equations are computed in float32, their solutions in float64.

ALS-WR hardly regularizes rows with few ratings: for a user with one rating it predicts about that rating for all items.
So by default residuals to user and item biases are factorized (``center: bias``), in units of a quarter of the scale's
range, and each row is regularized as if it had ``prior_ratings`` more ratings. ``center: none, prior_ratings: 0`` is
ALS-WR on ratings.

The regularization pulls predictions towards 0, so the position of 0 matters. Without a centre an ``offset`` is
subtracted from the ratings, so that 0 is where it is on a scale from 1 to 5. The same ratings on another scale, for
example 1001 to 1005, then give the same result.
"""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from recbole_dgrm.errors import OptionError
from recbole_dgrm.maths.sparse import Places, outer_products, symmetric
from recbole_dgrm.models.base import ProfileRecommender
from recbole_dgrm.options import CenterKind, Share, read

ROWS = 8192  # rows (users or items) that are solved at once
SUMS = torch.float32  # of the normal equations, which are solved in float64
CACHE = 1 << 20  # bytes of products of factors that a processor's cache has room for
LEAST = 4  # ratings per row and block of columns, on average; with fewer, adding up the blocks takes longest


@dataclass(frozen=True)
class MFOptions:
    """Keys of ``properties/model/MF.yaml``, where each is explained."""

    factors: PositiveInt
    regularization: PositiveFloat
    regularize_by: Literal["count", "plain"]
    prior_ratings: NonNegativeFloat
    center: CenterKind
    unrated_weight: Share


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
        less, self.unit = self._reference()
        ratings = self.rating_matrix()
        ratings.data = ((ratings.data - less) / self.unit).astype(np.float32)
        self.squares = float(np.square(ratings.data, dtype=np.float64).sum())
        self.users, self.items = Side(ratings.tocsc(), self.options.factors), Side(ratings.T, self.options.factors)
        # It is saved unless it is 0, so that factors that were saved without an offset cannot be loaded with one.
        self.register_buffer("offset", torch.tensor(less, dtype=torch.float64), persistent=less != 0)
        scale = np.sqrt(np.abs(ratings.data).mean(dtype=np.float64) / self.options.factors)
        self.user_factors = self._parameter(self.n_users, scale)
        self.item_factors = self._parameter(self.width, scale)

    def _reference(self) -> tuple[float, float]:
        """The number to subtract from the (perhaps centred) ratings, and the number to divide them by."""
        if self.implicit:
            return 0.0, 1.0
        low, high = self.scale.low, self.scale.high
        return (0.0, (high - low) / 4 or 1.0) if self.center.is_fitted else (offset(low, high), 1.0)

    def penalties(self, count: Tensor) -> Tensor:
        """The weights ``w`` of rows with ``count`` ratings, ``(n,)``: lambda, or with ``regularize_by: count`` lambda
        times the number of ratings (ALS-WR, Zhou et al. 2008), ``prior_ratings`` included.
        """
        o = self.options
        if o.regularize_by == "plain":
            return torch.full(count.shape, o.regularization, dtype=torch.float64)
        return o.regularization * (count.double() + (0.0 if self.implicit else o.prior_ratings))

    def _parameter(self, n_rows: int, scale: float) -> nn.Parameter:
        start = scale * (1 + 0.1 * torch.randn(n_rows, self.options.factors, dtype=torch.float64))
        return nn.Parameter(start, requires_grad=False)

    def sweep(self) -> float:
        """Solve for all users, then for all items, and return the objective per rating; rows without ratings add 0.

        After the second solution ``A_i q_i = b_i`` the objective is ``sum r^2 - sum_i b_i . q_i + sum_u w_u |p_u|^2``.
        """
        self.half_sweep("user")
        explained = self.half_sweep("item")
        count = self.users.count
        penalty = self.penalties(count) * (count > 0) @ self.user_factors.cpu().square().sum(dim=1)
        return (self.squares - explained + penalty.item()) / int(count.sum())

    def half_sweep(self, name: str) -> float:
        """Set the factors of ``user`` or ``item`` to the exact minimum given those of the other, and return the sum of
        ``b . x`` over the rows ``x`` of these factors, with the right sides ``b`` of their normal equations.
        """
        side, own, other = self.users, self.user_factors, self.item_factors
        if name == "item":
            side, own, other = self.items, other, own
        # Any penalty makes the equations of rows without ratings solvable.
        penalty = self.penalties(side.count.clamp(min=1))
        factors, explained = side.solve(other.detach().cpu(), penalty, self.options.unrated_weight)
        rated = side.count > 0
        factors[~rated] = 0 if self.center.is_fitted else factors[rated].mean(dim=0)
        own.copy_(factors)
        return explained

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


class Side:
    """The ratings of the rows of one side, in blocks of columns for whose factors the cache has room.

    So the time of a half sweep is proportional to the number of ratings.

    Args:
        ratings: ``(n, n_columns)``.
        n_factors: k.

    Attributes:
        count: the number of ratings of each row, ``(n,)``.
    """

    def __init__(self, ratings: sp.csc_matrix, n_factors: int):
        n_rows, n_columns = ratings.shape
        self.count = torch.bincount(torch.from_numpy(ratings.indices), minlength=n_rows)
        least = int(LEAST * n_rows * n_columns / ratings.nnz)
        self._size = min(n_columns, max(CACHE // (2 * n_factors * (n_factors + 1)), least))
        blocks = (ratings[:, start : start + self._size].tocsr() for start in range(0, n_columns, self._size))
        arrays = ((block.indices, block.indptr, block.data) for block in blocks)
        self._blocks = [tuple(map(torch.from_numpy, block)) for block in arrays]

    def solve(self, fixed: Tensor, penalty: Tensor, unrated: float) -> tuple[Tensor, float]:
        """The rows ``x`` ``(n, k)`` that solve the normal equations ``A x = b``, and the sum of ``b . x``.

        Args:
            fixed: the factors of the columns, ``(n_columns, k)``.
            penalty: the weights of the rows' squared norms, ``(n,)``.
            unrated: the weight of unrated entries.
        """
        gram, right = self._sums(fixed.to(SUMS))
        everywhere = unrated * fixed.T @ fixed
        solved = []
        for part, b, diagonal in zip(gram.split(ROWS), right.split(ROWS), penalty.split(ROWS), strict=True):
            a = (1 - unrated) * symmetric(part.double(), fixed.shape[1]) + everywhere
            a.diagonal(dim1=1, dim2=2).add_(diagonal.unsqueeze(-1))
            solved.append(torch.cholesky_solve(b.double().unsqueeze(-1), torch.linalg.cholesky(a)).squeeze(-1))
        rows = torch.cat(solved)
        return rows, (right * rows).sum().item()

    def _sums(self, fixed: Tensor) -> tuple[Tensor, Tensor]:
        """The sums over rated columns of ``q q'`` (its upper triangle) and of ``rating * q``."""
        n_rows, k = len(self.count), fixed.shape[1]
        bags = partial(embedding_bag, mode="sum", include_last_offset=True)
        gram, right = fixed.new_zeros(n_rows, k * (k + 1) // 2), fixed.new_zeros(n_rows, k)
        for (column, start, value), q in zip(self._blocks, fixed.split(self._size), strict=True):
            gram += bags(column, outer_products(q), start)
            right += bags(column, q, start, per_sample_weights=value.to(q.dtype))
        return gram, right


def offset(low: float, high: float) -> float:
    """The number to subtract from ratings so that the lowest is a quarter of the range, as 1 is on a 1 to 5 scale."""
    return low - (high - low) / 4
