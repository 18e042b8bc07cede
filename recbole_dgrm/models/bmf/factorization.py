"""Predictions from the kept sweeps of several Gibbs chains.

The predicted rating of a pair is the mean over kept sweeps of ``m + b_u + c_i + p_u . q_i``. For the user's row it uses
not the sample but the conditional mean given everything else, which has less variance. This mean follows from the
user's ratings and the items of the sweep, so new users need no training.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recbole_dgrm.maths.sparse import Places, products_at
from recbole_dgrm.models.bmf.conditionals import Design, Prior, posterior_variances
from recbole_dgrm.models.bmf.features import Features, shares
from recbole_dgrm.models.bmf.gibbs import Chain, Sample, regressors, scaled

SMALLEST = 1e-9  # of the mean; a smaller standard deviation is a rounding error: all ratings are equal
SOLVED = 10  # kept sweeps for which variances of rows are computed; these hardly differ between sweeps
KEPT_BYTES = 256 << 20  # memory for the rows of kept sweeps if ``keep_every`` is auto


@dataclass(frozen=True)
class Sampling:
    """How a factorization is sampled.

    Attributes:
        factors: k.
        implicit: the rows that have features, which come from the places of their ratings: ``both`` sides, ``user``,
            ``item`` or ``none``.
        components: the number of components of these features.
        chains: the number of chains.
        burn_in: the number of first sweeps that are not used.
        sweeps: the number of sweeps of each chain, burn-in included.
        keep_every: after burn-in, one of so many sweeps is kept; None keeps half of them, or as many as fit in 256 MiB.
        seed: the seed of all chains.
    """

    factors: int
    implicit: str
    components: int
    chains: int
    burn_in: int
    sweeps: int
    keep_every: int | None
    seed: int

    def every(self, n_rows: int) -> int:
        """``keep_every``, for this number of users and items."""
        if self.keep_every is not None:
            return self.keep_every
        size = 4 * n_rows * (self.factors + 1) * self.chains * (self.sweeps - self.burn_in)
        return max(2, -(-size // KEPT_BYTES))


class Factorization(nn.Module):
    """A factorization of ratings by several chains; its state includes their kept sweeps.

    Args:
        ratings: ``(n_users, n_items)``.
        how: the options of sampling.
    """

    user_rows: Tensor
    item_rows: Tensor
    levels: Tensor
    alphas: Tensor
    scales: Tensor
    means: Tensor
    precisions: Tensor
    coefficients: Tensor
    sweeps: Tensor
    kept: Tensor

    def __init__(self, ratings: sp.csr_matrix, how: Sampling):
        super().__init__()
        self.how, self.every = how, how.every(sum(ratings.shape))
        self.centre, deviation = float(ratings.data.mean()), float(ratings.data.std())
        self.deviation = deviation if deviation > SMALLEST * abs(self.centre) else 1.0
        self.components = user = _features(ratings, how, "user")
        sides, standard = (user, _features(ratings.T.tocsr(), how, "item")), self._standard(ratings)
        self._chains = [Chain(standard, sides, how.factors, (how.seed, number)) for number in range(how.chains)]
        self.chains = nn.ModuleList(self._chains)
        n_kept, size = how.chains * max(1, -(-(how.sweeps - how.burn_in) // self.every)), how.factors + 1
        shapes = {
            "user_rows": (ratings.shape[0], n_kept, size),
            "item_rows": (ratings.shape[1], n_kept, size),
            **dict.fromkeys(("levels", "alphas", "scales"), (n_kept,)),
            "means": (n_kept, size),
            "precisions": (n_kept, size, size),
            "coefficients": (n_kept, 0 if user is None else len(user.size), size),
        }
        for name, shape in shapes.items():
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float32 if "rows" in name else torch.float64))
        self.precisions += torch.eye(size)
        self.alphas.fill_(1)
        self.register_buffer("sweeps", torch.tensor(0))
        self.register_buffer("kept", torch.tensor(0))
        self._cached: tuple[Any, Any] = None, None

    def _standard(self, ratings: sp.csr_matrix) -> sp.csr_matrix:
        value = (ratings.data - self.centre) / self.deviation
        return sp.csr_matrix((value, ratings.indices, ratings.indptr), ratings.shape)

    def sweep(self) -> float:
        """Sweep each chain once, and return the mean over chains of the standard deviation of a rating's error."""
        samples = [chain.sweep() for chain in self._chains]
        self.sweeps += 1
        since = int(self.sweeps) - self.how.burn_in - 1
        if since < 0 or since % self.every == 0:
            first = max(0, since) // self.every * len(samples)
            for place, sample in enumerate(samples, first):
                self._keep(place, sample)
            self.kept.fill_(first + len(samples))
        return self.deviation * float(np.mean([sample.alpha**-0.5 for sample in samples]))

    def _keep(self, place: int, sample: Sample) -> None:
        self.user_rows[:, place], self.item_rows[:, place] = sample.user, sample.item
        self.levels[place], self.alphas[place], self.scales[place] = sample.level, sample.alpha, sample.scale
        self.means[place] = torch.from_numpy(sample.prior.mean)
        self.precisions[place] = torch.from_numpy(sample.prior.precision)
        self.coefficients[place] = torch.from_numpy(sample.prior.coefficients)

    def ratings(self, user: Tensor) -> Tensor:
        """The predicted ratings ``(B, n_items)`` of users ``(B,)``."""
        left, right, level = self._parts(user)
        return self._rescaled(left[0] @ right[0].T + left[1].unsqueeze(-1) + right[1] + level)

    def ratings_at(self, user: Tensor, places: Places) -> Tensor:
        """The predicted ratings ``(n,)`` of users ``(B,)`` at ``places`` in ``(B, n_items)``."""
        left, right, level = self._parts(user)
        biases = places.spread(left[1].unsqueeze(-1)) + places.column_values(right[1])
        return self._rescaled(products_at(places, left[0], right[0]) + biases + level)

    def deviations_at(self, user: Tensor, places: Places, rated: Places) -> Tensor:
        """The standard deviations ``(n,)`` of ratings of users ``(B,)`` at ``places``, with the noise of a rating.

        The variance is that of the means over sweeps, plus the mean over sweeps of two variances: the conditional
        variance of the user's row, and that of the noise of a rating.

        Args:
            rated: the places of the ratings from which the users' rows are estimated.
        """
        count = self._count
        total, squares, within = torch.zeros(3, len(places.row), dtype=torch.float64, device=user.device)
        for place in range(count):
            row, column = self.user_rows[user, place], self.item_rows[places.column, place]
            mean = (row[places.row, :-1] * column[:, :-1]).sum(1) + row[places.row, -1] + column[:, -1]
            mean = mean.double() + self.levels[place]
            total, squares = total + mean, squares + mean.square()
        solved = torch.linspace(0, count - 1, min(count, SOLVED), dtype=torch.float32).round().int().tolist()
        for place in solved:
            other, _, alpha, scale = self.item_rows[:, place], *self._numbers(place)
            table, precision = regressors(other, scale), self.precisions[place].float()
            within += posterior_variances(rated, places, table, precision, alpha) / len(solved)
        between = (squares / count - (total / count).square()).clamp(min=0)
        return (self.deviation * (within + between + (1 / self.alphas[:count]).mean()).sqrt()).float()

    def _parts(self, user: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor], Tensor]:
        """Factors and biases of users and items, and m, whose sums and products are means over the kept sweeps."""
        kept = self._count
        left = self.user_rows[user, :kept]
        return (
            ((left[..., :-1] / kept).flatten(1), left[..., -1].mean(1)),
            self._items,
            self.levels[:kept].mean().float(),
        )

    @property
    def _items(self) -> tuple[Tensor, Tensor]:
        """Factors and biases of items for ``_parts``; they are cached until the rows of a sweep are added."""
        rows = self.item_rows[:, : self._count]
        state = rows.shape, rows.data_ptr(), rows._version
        cached_state, items = self._cached
        if state != cached_state:
            items = rows[..., :-1].flatten(1), rows[..., -1].mean(1)
            self._cached = state, items
        return items

    def _rescaled(self, value: Tensor) -> Tensor:
        return value * self.deviation + self.centre

    def set_users(self, ratings: sp.csr_matrix) -> None:
        """Compute the rows of other users from ``ratings``: their conditional means in each kept sweep."""
        features = self.components and self.components.of_rows(shares(ratings))
        design = Design(self._standard(ratings))
        rows = torch.zeros(ratings.shape[0], *self.user_rows.shape[1:], dtype=torch.float32)
        for place in range(self._count):
            other, level, alpha, scale = self.item_rows[:, place], *self._numbers(place)
            target, noise = design.without(other, level), other.new_zeros(len(rows), other.shape[1])
            mean, _ = design.posterior(regressors(other, scale), target, self._prior(place), features, alpha, noise)
            rows[:, place] = scaled(mean, scale)
        self.user_rows = rows

    def _numbers(self, place: int) -> tuple[float, float, float]:
        return self.levels[place].item(), self.alphas[place].item(), self.scales[place].item()

    def _prior(self, place: int) -> Prior:
        mean, precision, coefficients = self.means[place], self.precisions[place], self.coefficients[place]
        return Prior(mean.cpu().numpy(), precision.cpu().numpy(), coefficients.cpu().numpy(), 1.0)

    @property
    def _count(self) -> int:
        return max(1, int(self.kept))


def _features(ratings: sp.csr_matrix, how: Sampling, side: str) -> Features | None:
    """The features of the rows of one side; None if it has none."""
    if how.implicit not in ("both", side):
        return None
    return Features.of(shares(ratings), np.diff(ratings.indptr) > 0, how.components)
