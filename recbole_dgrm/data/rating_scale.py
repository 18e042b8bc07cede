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
    outside = (rating < low) | (rating > high)
    _refuse(
        outside, rating, place, f"ratings lie outside rating_scale=[{low:g}, {high:g}]", "correct the data or the scale"
    )
    if rating.min() == rating.max():
        raise DataError(
            f"all ratings are {rating[0]:g}: there is nothing to learn; for implicit data use --protocol=full"
        )
    _check_strays(rating, place)
    if ends is None:
        note(f"rating_scale is taken from the data: {[low, high]}")
    levels, learnt = distinct_ratings(rating), rating if past is None else rating[past]
    number = len(levels)
    if step is not None:
        above = (rating - low) / step
        missed = np.abs(above - above.round()) * step > NOISE * (high - low)
        said = f"ratings are no whole number of rating_step={step:g} above {low:g}"
        _refuse(missed, rating, place, said, "leave rating_step out (~), then the levels are the ratings that occur")
        number = round((high - low) / step) + 1
    continuous = number > MOST_LEVELS
    if continuous:
        bins = f"{BINS} bins of equally many ratings each"
        note(f"{number:,} distinct ratings make a continuous scale: distributions are compared in {bins}")
        levels = _middles(learnt, levels)
    elif step is None:
        note(f"the levels of the ratings are taken from the data: {_named(levels)}")
    else:
        levels = rating_levels(low, high, step)
    _check_resolution(levels, rating, place)
    median = float(np.median(learnt)) if continuous else None
    found = _threshold(rating, low, high, threshold, median, note)
    return RatingScale(low, high, tuple(map(float, levels)), found, continuous)


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


def _check_strays(rating: NDArray[np.float64], place: Callable[[int], str]) -> None:
    """Check that no rating is so far from the others that float32 cannot hold their differences in one scale."""
    most = np.sort(rating)[(rest := max(1, len(rating) // 100)) : -rest]
    if len(most) and (spread := most[-1] - most[0]):
        far = np.abs(rating - np.median(rating)) > STRAY * spread
        said = f"ratings lie so far from the others ({most[0]:g} to {most[-1]:g}) that float32 cannot hold both"
        _refuse(far, rating, place, said, "correct or remove these rows")


def _check_resolution(levels: NDArray, rating: NDArray[np.float64], place: Callable[[int], str]) -> None:
    """Check that models, which compute in float32, can tell the ``levels`` apart."""
    if not (blurred := _blurred(levels)).any():
        return
    first = int(np.argmax(blurred))
    said = f"the ratings {levels[first]:.12g} and {levels[first + 1]:.12g} lie too close together for float32"
    if not _blurred(levels - levels[0]).any():
        remedy = f"subtract a constant from all ratings, {levels[0]:.12g} for example"
        raise DataError(f"{said}, in which models compute: {remedy}")
    nearest = nearest_level(rating, levels)
    rows = [np.flatnonzero(nearest == level) for level in (first, first + 1)]
    rare = int(len(rows[1]) <= len(rows[0]))
    count = f"{len(rows[rare]):,} rows have {levels[first + rare]:.12g}, the first in {place(int(rows[rare][0]))}"
    raise DataError(f"{said}; {count}: correct or remove such rows, or round all ratings")


def _blurred(levels: NDArray) -> NDArray[np.bool_]:
    """Between which neighbouring levels float32 has too few numbers, ``(n_levels - 1,)``."""
    largest = np.abs(np.stack([levels[:-1], levels[1:]])).max(axis=0)
    return np.spacing(largest.astype(np.float32)) > RESOLUTION * np.diff(levels)


def _middles(rating: NDArray, values: NDArray) -> NDArray[np.float64]:
    """The middles of bins that hold equally many ratings; the two ends where nearly all ratings are equal."""
    shares = (np.arange(BINS) + 0.5) / BINS
    middles = np.unique(np.quantile(rating, shares, method="closest_observation"))
    return middles if len(middles) > 1 else values[[0, -1]]


def _threshold(
    rating: NDArray, low: float, high: float, given: float | None, median: float | None, note: Callable[[str], None]
) -> float:
    """The threshold: the given one, else the ``median`` of a continuous scale, else the middle."""
    origin = "the middle of rating_scale"
    if given is None and median is not None:
        given, origin = median, "the median of the ratings"
        note(f"rating_threshold is {origin}: {given:g}")
    threshold = (low + high) / 2 if given is None else given
    if threshold > rating.max():
        said = f"rating_threshold={threshold:g}" + (f" ({origin})" if given is None else "")
        raise DataError(
            f"no rating reaches {said}, the highest is {rating.max():g}: no item would be relevant; lower it"
        )
    if threshold <= rating.min():
        note(f"every rating reaches rating_threshold={threshold:g}: all items are relevant")
    return float(np.float32(threshold))


def _refuse(bad: NDArray, rating: NDArray, place: Callable[[int], str], said: str, remedy: str) -> None:
    if bad.any():
        first = int(np.argmax(bad))
        raise DataError(f"{bad.sum()} {said}, the first in {place(first)}: {rating[first]:g}; {remedy}")


def _named(levels: NDArray) -> str:
    if len(levels) > NAMED:
        return f"{len(levels)} levels from {levels[0]:g} to {levels[-1]:g}"
    return ", ".join(f"{level:.10g}" for level in levels)
