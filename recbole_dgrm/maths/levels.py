"""The levels of a rating scale: equally spaced or not, and which is nearest to a rating."""

import numpy as np
from numpy.typing import NDArray

NOISE = 1e-9  # of the span of a scale: ratings that lie closer are one, written with other last digits


def rating_levels(low: float, high: float, step: float) -> NDArray:
    """The ratings a user can give, ``low, low + step, ..., high``."""
    return low + step * np.arange(round((high - low) / step) + 1)


def even_step(levels: NDArray) -> float | None:
    """The distance between neighbouring ``levels`` if it is always the same, but for noise in the last digits."""
    step = float(f"{np.diff(levels).min():.6g}")
    grid = rating_levels(levels[0], levels[-1], step)
    same = len(grid) == len(levels) and np.abs(grid - levels).max() <= NOISE * (levels[-1] - levels[0])
    return step if same else None


def nearest_level(rating: NDArray, levels: NDArray) -> NDArray[np.int64]:
    """Index of the level nearest to each rating, after clipping to the scale; a halfway value goes up."""
    return np.searchsorted((levels[1:] + levels[:-1]) / 2, rating, side="right")
