"""The rating scale: levels as they occur, what is declared against the data, what float32 can hold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_dgrm.data.rating_scale import BINS, MOST_LEVELS, RatingScale, distinct_ratings, find_scale, without_noise
from recbole_dgrm.errors import DataError
from recbole_dgrm.evaluation.distribution import Bins, Sample, level_shares, wasserstein
from recbole_dgrm.maths.levels import even_step

repeatable = settings(max_examples=60, deadline=None, derandomize=True)


def scale_of(rating, ends=None, step=None, threshold=None) -> tuple[RatingScale, list[str]]:
    notes: list[str] = []
    found = find_scale(np.array(rating, float), ends, step, threshold, lambda index: f"line {index + 2}", notes.append)
    return found, notes


def test_levels_are_the_ratings_that_occur_not_a_grid():
    found, notes = scale_of([0, 2, 5, 10, 2, 5])
    assert found == RatingScale(0, 10, (0, 2, 5, 10), 5, False)
    assert notes[1] == "the levels of the ratings are taken from the data: 0, 2, 5, 10"


def test_a_declared_step_gives_levels_that_do_not_occur():
    found, notes = scale_of([1, 2, 5], ends=[1, 5], step=1)
    assert found.levels == (1, 2, 3, 4, 5)
    assert not notes


def test_predictions_are_clipped_to_the_ends_and_ratings_stay_as_they_are_in_float32():
    found, _ = scale_of([0.1, 0.4, 0.7])
    rating = np.float32([0.1, 0.4, 0.7]).astype(float)
    assert found.clipped(np.array([-9, *rating, 9])).tolist() == [rating[0], *rating, rating[-1]]


def test_noise_in_the_last_digits_is_no_level():
    noisy = [0.6, 0.6000000000000001, 0.2, 0.8, 0.8, 0.7999999999999999, 1.0]
    found, _ = scale_of(noisy)
    assert found.levels == (0.2, 0.6, 0.8, 1.0)
    assert without_noise(np.array(noisy), found).tolist() == [0.6, 0.6, 0.2, 0.8, 0.8, 0.8, 1.0]


@repeatable
@given(st.lists(st.integers(-50, 50), min_size=2, max_size=60, unique=True), st.integers(0, 2**32 - 1))
def test_levels_are_found_under_any_noise_below_a_billionth_of_the_span(levels, seed):
    levels = np.sort(np.array(levels, float))
    rng = np.random.default_rng(seed)
    rating = np.repeat(levels, 5)
    noisy = rating + 1e-10 * (levels[-1] - levels[0]) * rng.uniform(-1, 1, len(rating)) * (
        np.arange(len(rating)) % 5 > 2
    )
    found = distinct_ratings(*np.unique(noisy, return_counts=True))
    assert len(found) == len(levels)
    np.testing.assert_allclose(found, levels, atol=1e-8)


@pytest.mark.parametrize("draw", ["normal", "lognormal", "mostly one"])
def test_many_distinct_ratings_are_a_continuous_scale_in_bins_of_equally_many(draw):
    rng = np.random.default_rng(0)
    rating = {
        "normal": rng.normal(3, 1, 5000),
        "lognormal": np.exp(rng.normal(3, 2, 5000)).round(),
        "mostly one": np.where(rng.random(5000) < 0.97, 1.0, rng.random(5000) * 1e6),
    }[draw]
    found, notes = scale_of(rating)
    assert found.continuous
    assert 2 <= len(found.levels) <= BINS
    assert found.threshold == pytest.approx(np.median(rating))
    assert sum("continuous scale" in note for note in notes) == 1
    if draw == "normal":
        shares = level_shares(rating, np.array(found.levels))
        np.testing.assert_allclose(shares, 1 / BINS, atol=0.03)
    np.testing.assert_array_equal(without_noise(rating, found), rating)


def test_a_hundred_levels_are_levels_and_one_more_is_continuous():
    assert not scale_of(np.arange(MOST_LEVELS))[0].continuous
    assert scale_of(np.arange(MOST_LEVELS + 1))[0].continuous
    found, notes = scale_of([1, 2, 5, 4], ends=[1, 5], step=1e-9)  # nor does a declared step make a larger table
    assert (found.continuous, found.levels) == (True, (1, 2, 4, 5))
    assert notes[0].startswith("4,000,000,001 distinct ratings make a continuous scale")


@pytest.mark.parametrize(
    ("rating", "declared", "said"),
    [
        ([1, 2, 6], {"ends": [1, 5]}, r"1 ratings lie outside rating_scale=\[1, 5\], the first in line 4: 6"),
        (
            [1, 2.5, 5],
            {"ends": [1, 5], "step": 1},
            r"ratings are not a whole .* rating_step=1, above 1, .* line 3: 2.5",
        ),
        ([0, 2, 5, 10], {"step": 2}, "rating_step=2, above 0, the first in line 4: 5; leave rating_step out"),
        ([1, 2, 4], {"threshold": 4.5}, "no rating reaches rating_threshold=4.5, the highest is 4"),
        ([1, 2, 5], {"ends": [0, 100]}, r"no rating reaches rating_threshold=50 \(the middle of rating_scale\)"),
        ([3, 3], {}, "all ratings are 3"),
        ([16777217, 16777218, 16777221], {}, "16777217 and 16777218 lie too close .* subtract a constant .* 16777217"),
        (1e7 + np.arange(5), {}, "too close together for float32"),
        ([1, 2, 3, 3, 3, 3.0000001, 4, 5], {}, "1 rows have 3.0000001, the first in line 7: correct or remove such"),
        ([0.5, 1, 1.5, 2, 3, 1e9], {}, "1 ratings are so far from the others .1 to 3. .* line 7: 1e.09; correct or"),
        (1e9 + np.arange(500) / 10, {}, "too close together for float32"),
    ],
)
def test_what_contradicts_the_data_is_refused(rating, declared, said):
    with pytest.raises(DataError, match=said):
        scale_of(rating, **declared)


def test_a_threshold_that_every_rating_reaches_is_said():
    _, notes = scale_of([1, 2, 5], threshold=0)
    assert notes[-1] == "every rating reaches rating_threshold=0: all items are relevant"


def test_a_rating_at_the_threshold_is_relevant_in_float32_too():
    found, _ = scale_of(np.arange(1, 11) / 10, threshold=0.7)
    assert np.float32(0.7) >= found.threshold
    assert np.float32(0.6) < found.threshold


@pytest.mark.parametrize("levels", [(0, 2, 5, 10), (1, 2, 3), (0.0, 0.1, 100.0)])
def test_bins_of_uneven_levels_count_as_levels_do(levels):
    torch = pytest.importorskip("torch")
    bins, rng = Bins(levels), np.random.default_rng(1)
    middles = (np.array(levels[1:]) + levels[:-1]) / 2
    values = np.concatenate([rng.uniform(-5, 15, 500), levels, middles, [-1e6, 1e6]]).astype(np.float32)
    sample = Sample.of(bins, torch.as_tensor(values))
    np.testing.assert_allclose(sample.shares, level_shares(values.astype(float), bins.levels))
    assert (np.diff(bins.edges) > 0).all()
    assert len(bins.centres) == 10 * (len(levels) + 2)
    assert (bins.step is None) == (even_step(np.array(levels)) is None)


def test_the_wasserstein_distance_knows_the_gaps_of_the_levels():
    p, q = np.array([1.0, 0, 0, 0]), np.array([0, 0, 0, 1.0])
    assert wasserstein(p, q, np.array([0, 2, 5, 10])) == 10
    assert wasserstein(p, np.array([0, 1.0, 0, 0]), np.array([0, 2, 5, 10])) == 2
