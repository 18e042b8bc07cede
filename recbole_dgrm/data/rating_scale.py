"""The rating scale of a data set: the levels of the ratings, and the rating from which on an item is relevant.

Up to ``MOST_LEVELS`` distinct ratings are levels, evenly spaced or not. With more, the scale is continuous:
distributions are compared in ``BINS`` bins with equally many ratings each, and a level is the middle of a bin.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_dgrm.errors import DataError
from recbole_dgrm.maths.levels import NOISE, even_step, nearest_level, rating_levels

MOST_LEVELS = 100  # with more distinct ratings the scale is continuous
BINS = 20  # bins of a continuous scale
RESOLUTION = 0.01  # the spacing of float32 numbers must be below this share of the distance between two levels
STRAY = 1e5  # a rating is an error if its distance from the median is so many times the range of 98 % of the ratings
NAMED = 12  # levels that a message lists, at most
Numbers = NDArray[np.float64]
Place = Callable[[int], str]  # from the index of a rating to its place in a file, for messages


@dataclass(frozen=True)
class RatingScale:
    """The scale of the ratings.

    Attributes:
        low, high: the ends; see ``clipped``.
        levels: the distinct ratings, sorted; for a continuous scale the middles of its bins.
        threshold: an item rated below it is not relevant; rounded to float32, like the ratings it is compared with.
        continuous: whether ``levels`` are the middles of bins.
    """

    low: float
    high: float
    levels: tuple[float, ...]
    threshold: float
    continuous: bool = False

    @property
    def step(self) -> float | None:
        """The distance between neighbouring levels; None if the distances differ or the scale is continuous."""
        return None if self.continuous else even_step(np.asarray(self.levels))

    def clipped(self, score: NDArray) -> NDArray:
        """Predictions ``(n,)`` clipped to the scale, whose ends are rounded to float32, like the ratings."""
        return np.clip(score, np.float32(self.low), np.float32(self.high))


def find_scale(
    rating: Numbers,
    ends: Sequence[float] | None,
    step: float | None,
    threshold: float | None,
    place: Place,
    note: Callable[[str], None],
    past: NDArray[np.bool_] | None = None,
) -> RatingScale:
    """The scale of finite ratings ``(n,)``, checked against the declared values.

    Args:
        ends, step, threshold: the declared lowest and highest rating, distance between neighbouring levels, and rating
            from which on an item is relevant; None if they are not declared.
        note: called with sentences about values that were taken from the data.
        past: mask of the ratings that a median or bins may be computed from, or None for all. The levels and the ends
            are taken from all ratings.

    Raises:
        DataError: the ratings contradict the declared values, are all equal, or are too close together for float32.
    """
    value, count = np.unique(rating, return_counts=True)
    low, high = map(float, ends or value[[0, -1]])
    _check_ratings(rating, value, count, (low, high), step, place)
    if ends is None:
        note(f"rating_scale is taken from the data: {[low, high]}")
    levels, learnt, middle = distinct_ratings(value, count), rating if past is None else rating[past], (low + high) / 2
    number = len(levels) if step is None else round((high - low) / step) + 1
    if is_continuous := number > MOST_LEVELS:
        bins = f"{BINS} bins of equally many ratings each"
        note(f"{number:,} distinct ratings make a continuous scale: distributions are compared in {bins}")
        shares, middle = (np.arange(BINS) + 0.5) / BINS, float(np.median(learnt))
        middles = np.unique(np.quantile(learnt, shares, method="closest_observation"))
        levels = middles if len(middles) > 1 else levels[[0, -1]]  # where nearly all ratings are equal
        if threshold is None:
            note(f"rating_threshold is the median of the ratings: {middle:g}")
    elif step is None:
        listed = ", ".join(f"{level:.10g}" for level in levels[:NAMED]) + (", ..." if number > NAMED else "")
        note(f"the levels of the ratings are taken from the data: {listed}")
    else:
        levels = rating_levels(low, high, step)
    _check_resolution(levels, rating, place)
    if (least := middle if threshold is None else threshold) > value[-1]:
        origin = " (the middle of rating_scale)" if threshold is None else ""
        what = f"no rating reaches rating_threshold={least:g}{origin}, the highest is {value[-1]:g}"
        raise DataError(f"{what}: no item would be relevant; lower it")
    if least <= value[0]:
        note(f"every rating reaches rating_threshold={least:g}: all items are relevant")
    return RatingScale(low, high, tuple(map(float, levels)), float(np.float32(least)), is_continuous)


def distinct_ratings(value: Numbers, count: NDArray[np.int64]) -> Numbers:
    """Of the distinct ratings, sorted, ``(n_values,)`` the most frequent of those that differ only by rounding."""
    group = np.cumsum(np.append(False, np.diff(value) > NOISE * (value[-1] - value[0])))
    order = np.lexsort((-count, group))
    return value[order[np.unique(group[order], return_index=True)[1]]]


def without_noise(rating: Numbers, scale: RatingScale) -> Numbers:
    """The ratings, each replaced by its nearest level; those of a continuous scale are unchanged."""
    levels = np.asarray(scale.levels)
    is_exact = scale.continuous or np.isin(pd.unique(rating), levels).all()
    return rating if is_exact else levels[nearest_level(rating, levels)]


def _check_ratings(
    rating: Numbers, value: Numbers, count: NDArray, ends: tuple[float, float], step: float | None, place: Place
) -> None:
    """Check that ratings differ, fit the declared values, and are not extremely far from all others."""

    def refuse(bad: NDArray[np.bool_], what: str, remedy: str) -> None:
        if bad.any():
            first = int(np.argmax(bad[np.searchsorted(value, rating)]))
            number = f"{count[bad].sum()} ratings {what}"
            raise DataError(f"{number}, the first in {place(first)}: {rating[first]:g}; {remedy}")

    low, high = ends
    outside = (value < low) | (value > high)
    refuse(outside, f"lie outside rating_scale=[{low:g}, {high:g}]", "correct the data or the scale")
    if len(value) == 1:
        raise DataError(
            f"all ratings are {rating[0]:g}, so there is nothing to learn; for implicit data use --protocol=full"
        )
    most = np.repeat(value, count)[(rest := max(1, len(rating) // 100)) : -rest]
    if len(most) and (spread := most[-1] - most[0]):
        median = np.median(most)
        what = f"are so far from the others ({most[0]:g} to {most[-1]:g}) that float32 cannot represent both"
        refuse(np.abs(value - median) > STRAY * spread, what, "correct or remove these rows")
    if step is not None:
        above = (value - low) / step
        missed = np.abs(above - above.round()) * step > NOISE * (high - low)
        remedy = "leave rating_step out (~), then the levels are the ratings that occur"
        refuse(missed, f"are not a whole number of steps, rating_step={step:g}, above {low:g}", remedy)


def _check_resolution(levels: NDArray, rating: Numbers, place: Place) -> None:
    """Check that neighbouring ``levels`` differ enough for float32, in which models compute."""
    largest = np.maximum(np.abs(levels[:-1]), np.abs(levels[1:])).astype(np.float32)
    blurred = np.spacing(largest) > RESOLUTION * np.diff(levels)
    if blurred.any():
        first, nearest = int(np.argmax(blurred)), nearest_level(rating, levels)
        count = np.bincount(nearest, minlength=len(levels))
        rare = first + int(count[first + 1] <= count[first])
        where = place(int(np.argmin(abs(nearest - rare))))
        raise DataError(
            f"the ratings {levels[first]:.12g} and {levels[first + 1]:.12g} lie too close together for float32; "
            f"{count[rare]:,} rows have {levels[rare]:.12g}, the first in {where}: correct or remove such rows, round "
            f"all ratings, or subtract a constant from all, {levels[0]:.12g} for example"
        )
