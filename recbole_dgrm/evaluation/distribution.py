"""Distributions of predicted ratings, counted in fixed bins, and their distances from those of given ratings.

See sections 4.4.1 (Figs. 2-6, Table 2) and 4.4.4 (Fig. 8) of the paper. A distribution is an array of shares with the
levels as its last dimension, so every distance takes one distribution or a stack of them.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_dgrm.errors import DataError
from recbole_dgrm.maths.levels import even_step, nearest_level

TINY = np.finfo(float).tiny
SMOOTHING = 1e-6  # added to every share, so that the divergence from an empty level is finite
BINS_PER_LEVEL = 10  # so that a figure shows the shape between two levels
FEW_LEVELS = 50  # with more levels than this, the levels alone show the shape
BINS_PER_LEVEL_OF_MANY = 2
WEIGHTS = 1 << 22  # bootstrap weights that are in memory at once: 32 MiB


def level_shares(rating: NDArray, levels: NDArray) -> NDArray[np.float64]:
    """The share of ratings that are nearest to each level, ``(n_levels,)``; the shares sum to 1."""
    counts = np.bincount(nearest_level(rating, levels), minlength=len(levels))
    return counts / counts.sum()


def kl_divergence(p: NDArray, q: NDArray) -> NDArray[np.float64]:
    """``KL(p || q)`` in nats, with additive smoothing so that an empty level stays finite (Eq. 26)."""
    p, q = (
        (shares + SMOOTHING) / (shares + SMOOTHING).sum(axis=-1, keepdims=True) for shares in np.broadcast_arrays(p, q)
    )
    return (p * np.log(p / q)).sum(axis=-1)


def js_divergence(p: NDArray, q: NDArray) -> NDArray[np.float64]:
    """Jensen-Shannon divergence in nats, between 0 and log 2."""
    middle = (p + q) / 2
    return (_x_log(p, p / np.maximum(middle, TINY)) + _x_log(q, q / np.maximum(middle, TINY))).sum(axis=-1) / 2


def wasserstein(p: NDArray, q: NDArray, levels: NDArray) -> NDArray[np.float64]:
    """Wasserstein-1 distance of shares over ``levels``, in units of the ratings."""
    gap = np.abs(np.cumsum(p, axis=-1) - np.cumsum(q, axis=-1))[..., :-1]
    return (gap * np.diff(levels)).sum(axis=-1)


def effective_number(shares: NDArray) -> NDArray[np.float64]:
    """``exp`` of the entropy: the number of equally frequent values that has this entropy."""
    return np.exp(-_x_log(shares, shares).sum(axis=-1))


def _x_log(x: NDArray, y: NDArray) -> NDArray[np.float64]:
    """``x log y``, and 0 where ``x`` is 0."""
    return x * np.log(np.where(x > 0, y, 1))


@dataclass(frozen=True)
class Bins:
    """Fixed bins around the levels of a rating scale; the outermost bins also count the values beyond them.

    The values that are nearest to one level are divided into equal bins. Below the lowest and above the highest level
    there are bins for one more step, as wide as the distance to the neighbouring level.
    """

    scale: tuple[float, ...]

    @cached_property
    def levels(self) -> NDArray[np.float64]:
        """The sorted levels, ``(n_levels,)``."""
        return np.asarray(self.scale, dtype=np.float64)

    @cached_property
    def step(self) -> float | None:
        """The distance between neighbouring levels; None if the distances differ."""
        return even_step(self.levels)

    @cached_property
    def per_level(self) -> int:
        """The number of bins of each level."""
        return BINS_PER_LEVEL if len(self.scale) <= FEW_LEVELS else BINS_PER_LEVEL_OF_MANY

    @cached_property
    def borders(self) -> NDArray[np.float64]:
        """The borders between levels, and those around the lowest and the highest, ``(n_levels + 1,)``."""
        middles = (self.levels[1:] + self.levels[:-1]) / 2
        ends = 2 * self.levels[[0, -1]] - middles[[0, -1]]
        return np.concatenate([ends[:1], middles, ends[1:]])

    @cached_property
    def edges(self) -> NDArray[np.float64]:
        """The edges of all bins, ``(n_bins + 1,)``; each border is exactly an edge."""
        gap = np.diff(self.levels)
        knots = np.concatenate([[self.borders[0] - gap[0]], self.borders, [self.borders[-1] + gap[-1]]])
        parts = np.linspace(knots[:-1], knots[1:], self.per_level, endpoint=False, axis=1)
        return np.append(parts.ravel(), knots[-1])

    @cached_property
    def centres(self) -> NDArray[np.float64]:
        """The centres of all bins, ``(n_bins,)``."""
        return (self.edges[1:] + self.edges[:-1]) / 2

    def count(self, value: Tensor) -> NDArray[np.int64]:
        """The number of values in each bin, ``(n_bins,)``."""
        last = len(self.centres) - 1
        if self.step:  # eight times as fast as the binary search
            place = (value - self.edges[0]) / (self.step / self.per_level)
            index = place.clamp_(0, last).to(torch.uint8 if last < 256 else torch.int32)
        else:
            inner = torch.as_tensor(self.edges[1:-1], device=value.device)
            index = torch.bucketize(value.double(), inner, right=True, out_int32=True)
        return torch.bincount(index.flatten(), minlength=last + 1).cpu().numpy()

    def level_counts(self, counts: NDArray) -> NDArray:
        """Counts per level, ``(..., n_levels)``, from counts per bin, ``(..., n_bins)``."""
        start = self.per_level * np.arange(1, len(self.scale) + 1)
        start[0] = 0
        return np.add.reduceat(counts, start, axis=-1)


@dataclass(frozen=True)
class Sample:
    """A summary of many ratings or predictions: their counts in bins, their mean and their standard deviation.

    Attributes:
        counts: number of values in each bin, ``(n_bins,)``.
        n, total, squares: number, sum and sum of squares of the values.
    """

    bins: Bins
    counts: NDArray[np.int64]
    n: int
    total: float
    squares: float

    @classmethod
    def of(cls, bins: Bins, value: Tensor) -> Self:
        """The sample of all entries of ``value``."""
        wide = value.double()
        return cls(bins, bins.count(value), value.numel(), float(wide.sum()), float(wide.square().sum()))

    def __add__(self, other: "Sample") -> "Sample":
        n, total, squares = self.n + other.n, self.total + other.total, self.squares + other.squares
        return Sample(self.bins, self.counts + other.counts, n, total, squares)

    def __sub__(self, other: "Sample") -> "Sample":
        """This sample without ``other``, which must be a part of it."""
        return self + Sample(other.bins, -other.counts, -other.n, -other.total, -other.squares)

    @property
    def mean(self) -> float:
        """The mean of the values, which are not clipped to the scale."""
        return self.total / self.n

    @property
    def std(self) -> float:
        """The standard deviation of the values, which are not clipped to the scale."""
        return float(np.sqrt(max(self.squares / self.n - self.mean**2, 0.0)))

    @property
    def shares(self) -> NDArray[np.float64]:
        """The share of each level, ``(n_levels,)``, after clipping and rounding the values to levels."""
        return self.bins.level_counts(self.counts) / self.n

    @property
    def ends(self) -> float:
        """The share of the lowest and the highest level together."""
        return float(self.shares[[0, -1]].sum())

    @property
    def values(self) -> float:
        """The effective number of bins that have values: 1 for a constant."""
        return float(effective_number(self.counts / self.n))

    def to_dict(self) -> dict[str, Any]:
        """The sample as JSON values, for the record."""
        return {"n": self.n, "mean": self.mean, "std": self.std, "counts": self.counts.tolist()}

    @classmethod
    def from_dict(cls, bins: Bins, content: dict[str, Any]) -> Self:
        """The sample from the result of ``to_dict``."""
        if (number := len(content["counts"])) != len(bins.centres):
            message = f"a record has counts of {number} bins, its rating scale has {len(bins.centres)}"
            raise DataError(f"{message}; make its run again")
        n, mean, std = content["n"], content["mean"], content["std"]
        return cls(bins, np.array(content["counts"]), n, n * mean, n * (std**2 + mean**2))


def distances(predicted: NDArray, given: NDArray, levels: NDArray) -> dict[str, NDArray[np.float64]]:
    """All distances between shares ``(..., n_levels)`` of the ``levels`` ``(n_levels,)``; ``kl`` is that of Table 2."""
    return {
        "kl": kl_divergence(predicted, given),
        "reverse_kl": kl_divergence(given, predicted),
        "js": js_divergence(predicted, given),
        "wasserstein": wasserstein(predicted, given, levels),
    }


def counts_by_user(row: NDArray, rating: NDArray, levels: NDArray) -> sp.csr_matrix:
    """How often each user gives each level, ``(n_users, n_levels)``; ``row`` is the user of each rating, from 0."""
    shape = int(row.max()) + 1, len(levels)
    return sp.csr_matrix((np.ones(len(row)), (row, nearest_level(rating, levels))), shape)


def distance_intervals(
    predicted: sp.csr_matrix, given: sp.csr_matrix, levels: NDArray, seed: int, draws: int = 1000, level: float = 0.95
) -> dict[str, tuple[float, float, float]]:
    """Distances with percentile intervals of probability ``level`` from a bootstrap over users with ``draws`` samples.

    ``predicted`` and ``given`` are sparse counts by user, ``(n_users, n_levels)``, resampled with the same users. The
    result has for each distance its value and the lower and upper end of its interval.
    """
    n_users, rng = given.shape[0], np.random.default_rng(seed)
    parts: list[tuple[NDArray, NDArray]] = []
    for start in range(0, draws, size := max(1, WEIGHTS // n_users)):
        weights = rng.multinomial(n_users, np.full(n_users, 1 / n_users), size=min(size, draws - start))
        parts.append((weights @ predicted, weights @ given))
    counts = [np.concatenate(part) for part in zip(*parts, strict=True)]
    drawn = [part / part.sum(axis=1, keepdims=True) for part in counts]
    whole = [np.asarray(part.sum(axis=0)).ravel() / part.sum() for part in (predicted, given)]
    ends = [(1 - level) / 2, (1 + level) / 2]
    intervals = {name: np.quantile(value, ends) for name, value in distances(*drawn, levels).items()}
    return {name: (float(value), *map(float, intervals[name])) for name, value in distances(*whole, levels).items()}


def ks_p_values(row: NDArray, predicted: NDArray, given: NDArray) -> NDArray[np.float64]:
    """Per user ``(n_users,)`` the p-value of the two-sample Kolmogorov-Smirnov test of predicted and given ratings.

    It equals ``scipy.stats.ks_2samp``. For samples of the same size it depends only on that size and the statistic, so
    it is computed once for each such pair. ``row`` is the user of each pair, numbered from 0 without gaps, ``(n,)``.
    """
    user, value = np.concatenate([row, row]), np.concatenate([predicted, given])
    order = np.lexsort((value, user))
    user, value = user[order], value[order]
    lead = np.cumsum(np.repeat([1, -1], len(row))[order])  # 0 after the last value of each user
    last_of_tie = np.append((np.diff(value) != 0) | (np.diff(user) != 0), True)
    size = np.bincount(row)
    start = np.append(0, np.cumsum(2 * size)[:-1])
    gap = np.maximum.reduceat(np.where(last_of_tie, np.abs(lead), 0), start)
    pairs, index = np.unique(np.stack([size, gap]), axis=1, return_inverse=True)
    return np.array([_ks_p_value(n, k) for n, k in pairs.T])[index.reshape(-1)]


def _ks_p_value(n: int, k: int) -> float:
    """The p-value for two samples of size ``n`` whose distribution functions are at most ``k / n`` apart.

    It is exact: ``2 sum_j (-1)^(j-1) C(2n, n-jk) / C(2n, n)`` over j = 1, 2, ... (Gnedenko and Korolyuk 1951), in
    nested form. ``scipy.stats``, which has it too, takes a third of a second to load.
    """
    if k == 0:
        return 1.0
    outside, place = 0.0, np.arange(k)
    for j in reversed(range(n // k)):
        outside = float(np.prod((n - j * k - place) / (n + j * k + place + 1))) * (1 - outside)
    return min(2 * outside, 1.0)
