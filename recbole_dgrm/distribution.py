"""Distances between rating distributions (paper, section 4.4.1)."""

import numpy as np
from numpy.typing import NDArray

SMOOTHING = 1e-6


def rating_levels(low: float, high: float, step: float) -> NDArray[np.float64]:
    """The ratings a user can give, ``low, low + step, ..., high``."""
    return low + step * np.arange(round((high - low) / step) + 1)


def level_shares(rating: NDArray, levels: NDArray) -> NDArray[np.float64]:
    """Share of ``rating`` at each level, after clipping to the scale and rounding to the nearest level.

    A halfway value goes up. Shape ``(len(levels),)``, sums to 1.
    """
    edges = (levels[1:] + levels[:-1]) / 2
    counts = np.bincount(np.searchsorted(edges, rating, side="right"), minlength=len(levels))
    return counts / counts.sum()


def kl_divergence(p: NDArray, q: NDArray) -> float:
    """``KL(p || q)`` in nats, with additive smoothing so that an empty level stays finite (Eq. 26)."""
    p, q = (p + SMOOTHING) / (p + SMOOTHING).sum(), (q + SMOOTHING) / (q + SMOOTHING).sum()
    return float((p * np.log(p / q)).sum())
