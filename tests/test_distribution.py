import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy

from recbole_dgrm.distribution import SMOOTHING, kl_divergence, level_shares, rating_levels

STARS = rating_levels(1, 5, 1)
shares = st.lists(st.integers(0, 50), min_size=5, max_size=5).filter(any).map(lambda c: np.array(c) / sum(c))
repeatable = settings(max_examples=60, deadline=None, derandomize=True)


def test_rating_levels_run_from_low_to_high():
    assert STARS.tolist() == [1, 2, 3, 4, 5]
    assert rating_levels(0.5, 5, 0.5).tolist() == [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]
    assert rating_levels(1, 2, 0.1) == pytest.approx([1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2])
    assert rating_levels(0, 0.3, 0.1) == pytest.approx([0, 0.1, 0.2, 0.3])  # 0.3 / 0.1 is just below 3


def test_level_shares_count_each_level():
    assert level_shares(np.array([1, 5, 5, 4]), STARS).tolist() == [0.25, 0, 0, 0.25, 0.5]


def test_predictions_outside_the_scale_are_clipped_to_its_ends():
    assert level_shares(np.array([-3.0, 0.2, 5.4, 99.0]), STARS).tolist() == [0.5, 0, 0, 0, 0.5]


@pytest.mark.parametrize(("value", "level"), [(2.49, 2), (2.5, 3), (2.51, 3), (3.5, 4), (4.5, 5), (1.5, 2)])
def test_predictions_round_to_the_nearest_level_and_halfway_goes_up(value, level):
    assert level_shares(np.array([value]), STARS)[level - 1] == 1


@pytest.mark.parametrize(
    ("value", "level"), [(0.0, 0.5), (0.74, 0.5), (0.75, 1.0), (3.2, 3.0), (3.25, 3.5), (4.9, 5.0)]
)
def test_half_star_scales_round_to_half_stars(value, level):
    levels = rating_levels(0.5, 5, 0.5)
    assert levels[level_shares(np.array([value]), levels).argmax()] == level


@repeatable
@given(st.lists(st.floats(-10, 10), min_size=1, max_size=50))
def test_level_shares_sum_to_1(rating):
    share = level_shares(np.array(rating), STARS)
    assert share.shape == (5,)
    assert share.sum() == pytest.approx(1)


def test_eq_26_of_two_hand_worked_distributions():
    p, q = np.array([0.5, 0.5]), np.array([0.25, 0.75])
    assert kl_divergence(p, q) == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3), abs=1e-5)
    assert kl_divergence(q, p) == pytest.approx(0.25 * math.log(1 / 2) + 0.75 * math.log(3 / 2), abs=1e-5)


@repeatable
@given(shares)
def test_eq_26_of_equal_distributions_is_0(p):
    assert kl_divergence(p, p.copy()) == 0


@repeatable
@given(shares, shares)
def test_eq_26_is_the_entropy_that_scipy_computes(p, q):
    divergence = kl_divergence(p, q)
    assert divergence >= -1e-12
    assert divergence == pytest.approx(entropy(p + SMOOTHING, q + SMOOTHING), abs=1e-12)


def test_eq_26_stays_finite_with_empty_levels():
    p, q = np.array([1.0, 0, 0]), np.array([0, 0, 1.0])
    assert math.isfinite(kl_divergence(p, q))
    assert kl_divergence(p, q) == pytest.approx(math.log(1e6), rel=1e-3)


def test_eq_26_grows_as_predictions_leave_the_given_ratings():
    given_ratings = level_shares(np.array([1, 2, 3, 4, 4, 5, 5]), STARS)
    near = level_shares(np.array([1, 2, 3, 4, 4, 4, 5]), STARS)
    far = level_shares(np.full(7, 5.0), STARS)
    assert 0 < kl_divergence(near, given_ratings) < kl_divergence(far, given_ratings)
