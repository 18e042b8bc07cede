"""The rating scale of a data set: which ratings occur, and from which rating on an item is relevant.

Up to ``MOST_LEVELS`` distinct ratings are levels, evenly spaced or not. More are a continuous scale: distributions
are then compared in ``BINS`` bins that hold equally many ratings each, and a level is the middle of a bin.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from recbole_dgrm.errors import DataError
from recbole_dgrm.maths.levels import NOISE, even_step, nearest_level, rating_levels

MOST_LEVELS = 100  # more distinct ratings make a continuous scale
BINS = 20  # that a continuous scale is cut into
RESOLUTION = 0.01  # float32 must resolve this share of the distance between two levels
STRAY = 1e5  # a rating that is so many times as far from the median as most others are wide belongs to no scale
NAMED = 12  # the most levels that a sentence lists


@dataclass(frozen=True)
class RatingScale:
    """What is known of the ratings before anything is learnt from them.

    Attributes:
        low, high: the ends; predictions are clipped to them where they are shown as ratings.
        levels: the distinct ratings, sorted; of a continuous scale the middles of its bins.
        threshold: an item rated below is not relevant; rounded to float32, as ratings are before they meet it.
        continuous: whether ``levels`` are bins.
    """

    low: float
    high: float
    levels: tuple[float, ...]
    threshold: float
    continuous: bool = False

    @property
    def step(self) -> float | None:
        """The distance between two levels; None if it is not the same for all, or the scale is continuous."""
        return None if self.continuous else even_step(np.asarray(self.levels))


def find_scale(
    rating: NDArray[np.float64],
    ends: Sequence[float] | None,
    step: float | None,
    threshold: float | None,
    place: Callable[[int], str],
    note: Callable[[str], None],
    past: NDArray[np.bool_] | None = None,
) -> RatingScale:
    """The scale of ratings ``(n,)``, all finite, checked against what is declared.

    Args:
        ends: lowest and highest rating, if they are declared.
        step: distance between two levels, if it is declared.
        threshold: from which rating on an item is relevant, if it is declared.
        place: names the place of a rating in its file, by its index.
        note: called with sentences on what was taken from the data.
        past: the ratings that a median or bins may be taken from, if not all; which ratings there can be, and their
            ends, are taken from all.

    Raises:
        DataError: the ratings contradict what is declared, are all equal, or are more than float32 can tell apart.
    """
    low, high = map(float, ends or (rating.min(), rating.max()))
    _check_ratings(rating, low, high, step, place)
    if ends is None:
        note(f"rating_scale is taken from the data: {[low, high]}")
    levels, learnt, middle = distinct_ratings(rating), rating if past is None else rating[past], (low + high) / 2
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
    if (least := middle if threshold is None else threshold) > rating.max():
        origin = " (the middle of rating_scale)" if threshold is None else ""
        what = f"no rating reaches rating_threshold={least:g}{origin}, the highest is {rating.max():g}"
        raise DataError(f"{what}: no item would be relevant; lower it")
    if least <= rating.min():
        note(f"every rating reaches rating_threshold={least:g}: all items are relevant")
    return RatingScale(low, high, tuple(map(float, levels)), float(np.float32(least)), is_continuous)


def distinct_ratings(rating: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ratings that occur, sorted ``(n_levels,)``; of ratings that only noise tells apart, the most frequent."""
    value, count = np.unique(rating, return_counts=True)
    group = np.cumsum(np.append(False, np.diff(value) > NOISE * (value[-1] - value[0])))
    order = np.lexsort((-count, group))
    return value[order[np.unique(group[order], return_index=True)[1]]]


def without_noise(rating: NDArray[np.float64], scale: RatingScale) -> NDArray[np.float64]:
    """The ratings with each put exactly on its level; those of a continuous scale stay as they are."""
    levels = np.asarray(scale.levels)
    return rating if scale.continuous else levels[nearest_level(rating, levels)]


def _check_ratings(
    rating: NDArray[np.float64], low: float, high: float, step: float | None, place: Callable[[int], str]
) -> None:
    """Check that ratings differ, fit what is declared, and have no value that is far from all others."""

    def refuse(bad: NDArray[np.bool_], what: str, remedy: str) -> None:
        if bad.any():
            first = int(np.argmax(bad))
            raise DataError(f"{bad.sum()} ratings {what}, the first in {place(first)}: {rating[first]:g}; {remedy}")

    outside = (rating < low) | (rating > high)
    refuse(outside, f"lie outside rating_scale=[{low:g}, {high:g}]", "correct the data or the scale")
    if rating.min() == rating.max():
        raise DataError(
            f"all ratings are {rating[0]:g}: there is nothing to learn; for implicit data use --protocol=full"
        )
    most = np.sort(rating)[(rest := max(1, len(rating) // 100)) : -rest]
    if len(most) and (spread := most[-1] - most[0]):
        far = np.abs(rating - np.median(rating)) > STRAY * spread
        what = f"lie so far from the others ({most[0]:g} to {most[-1]:g}) that float32 cannot hold both"
        refuse(far, what, "correct or remove these rows")
    if step is not None:
        above = (rating - low) / step
        missed = np.abs(above - above.round()) * step > NOISE * (high - low)
        remedy = "leave rating_step out (~), then the levels are the ratings that occur"
        refuse(missed, f"are no whole number of rating_step={step:g} above {low:g}", remedy)


def _check_resolution(levels: NDArray, rating: NDArray[np.float64], place: Callable[[int], str]) -> None:
    """Check that float32, in which models compute, has enough numbers between neighbouring ``levels``."""
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
