import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap, entropy, ks_2samp, wasserstein_distance

from recbole_dgrm.evaluation import distribution
from recbole_dgrm.evaluation.distribution import (
    SMOOTHING,
    Bins,
    Sample,
    counts_by_user,
    distance_intervals,
    distances,
    effective_number,
    kl_divergence,
    ks_p_values,
    level_shares,
)
from recbole_dgrm.maths.levels import rating_levels

STARS = rating_levels(1, 5, 1)
STARS_BINS = Bins(tuple(STARS))
shares = st.lists(st.integers(0, 50), min_size=5, max_size=5).filter(any).map(lambda c: np.array(c) / sum(c))
repeatable = settings(max_examples=60, deadline=None, derandomize=True)


def test_rating_levels_run_from_low_to_high():
    assert STARS.tolist() == [1, 2, 3, 4, 5]
    assert rating_levels(0.5, 5, 0.5).tolist() == [0.5, 1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5]
    assert rating_levels(1, 2, 0.1) == pytest.approx([1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2])
    assert rating_levels(0, 0.3, 0.1) == pytest.approx([0, 0.1, 0.2, 0.3])  # 0.3 / 0.1 is just below 3


HALVES = rating_levels(0.5, 5, 0.5)


@pytest.mark.parametrize(
    ("levels", "values", "rounded"),
    [
        (STARS, [2.49, 2.5, 2.51, 3.5, 4.5, 1.5], [2, 3, 3, 4, 5, 2]),  # halfway goes up
        (STARS, [-3.0, 0.2, 5.4, 99.0], [1, 1, 5, 5]),  # beyond the scale is its end
        (HALVES, [0.0, 0.74, 0.75, 3.2, 3.25, 4.9], [0.5, 0.5, 1.0, 3.0, 3.5, 5.0]),
    ],
)
def test_predictions_round_to_the_nearest_level(levels, values, rounded):
    for value, level in zip(values, rounded, strict=True):
        assert levels[level_shares(np.array([value]), levels).argmax()] == level
    whole = level_shares(np.array(values), levels)
    assert whole.tolist() == pytest.approx([rounded.count(level) / len(values) for level in levels])


@repeatable
@given(shares, shares)
def test_eq_26_is_the_entropy_that_scipy_computes(p, q):
    divergence = kl_divergence(p, q)
    assert divergence >= -1e-12
    assert divergence == pytest.approx(entropy(p + SMOOTHING, q + SMOOTHING), abs=1e-12)
    assert kl_divergence(p, p.copy()) == 0


@repeatable
@given(shares, shares)
def test_distances_agree_with_scipy(p, q):
    found = distances(p, q, STARS)
    assert found["kl"] == kl_divergence(p, q)
    assert found["reverse_kl"] == kl_divergence(q, p)
    middle = (p + q) / 2
    assert found["js"] == pytest.approx((entropy(p, middle) + entropy(q, middle)) / 2, abs=1e-9)
    assert found["wasserstein"] == pytest.approx(wasserstein_distance(STARS, STARS, p, q), abs=1e-12)
    assert distances(p, p, STARS)["js"] == distances(p, p, STARS)["wasserstein"] == 0


def test_distances_of_a_stack_are_those_of_its_rows():
    p, q = np.array([[0.2, 0.3, 0.5], [1.0, 0, 0]]), np.array([0.1, 0.1, 0.8])
    stacked = distances(p, q, np.array([1, 1.5, 2]))
    for row in range(2):
        for name, value in distances(p[row], q, np.array([1, 1.5, 2])).items():
            assert stacked[name][row] == pytest.approx(value)


def test_the_effective_number_counts_equal_shares():
    assert effective_number(np.array([0.25, 0.25, 0.25, 0.25])) == pytest.approx(4)
    assert effective_number(np.array([1.0, 0, 0])) == 1
    assert effective_number(np.array([0.9, 0.1])) == pytest.approx(math.exp(entropy([0.9, 0.1])))


@repeatable
@given(
    st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=60),
    st.sampled_from([(1, 5, 1), (0.5, 5, 0.5), (0, 10, 1)]),
)
def test_bins_give_the_shares_of_levels_and_the_moments(values, scale):
    bins, values = Bins(tuple(rating_levels(*scale))), np.array(values, dtype=np.float32)
    found = Sample.of(bins, torch.as_tensor(values))
    np.testing.assert_allclose(found.shares, level_shares(values, bins.levels))
    assert found.n == found.counts.sum() == len(values)
    assert found.mean == pytest.approx(values.astype(float).mean(), abs=1e-9)
    assert found.std == pytest.approx(values.astype(float).std(), abs=1e-6)


def test_bins_are_a_tenth_of_a_step_and_reach_beyond_the_scale():
    assert (STARS_BINS.edges[0], STARS_BINS.edges[-1], len(STARS_BINS.centres)) == (-0.5, 6.5, 70)
    counts = STARS_BINS.count(torch.tensor([-9.0, -0.45, 3.0, 3.09, 6.49, 100.0]))
    assert {int(index): int(counts[index]) for index in np.flatnonzero(counts)} == {0: 2, 35: 2, 69: 2}


def test_a_scale_with_many_levels_has_two_bins_a_step():
    bins = Bins(tuple(rating_levels(0, 1000, 1)))
    assert np.diff(bins.edges).tolist() == [0.5] * len(bins.centres)
    values = torch.tensor([0.0, 499.6, 1000.0, 1500.0])
    assert Sample.of(bins, values).shares[[0, 500, 1000]].tolist() == [0.25, 0.25, 0.5]


@repeatable
@given(st.lists(st.floats(-2, 8, width=32), min_size=2, max_size=40), st.integers(1, 39))
def test_samples_add_and_subtract(values, cut):
    one, two = torch.tensor(values[:cut]), torch.tensor(values[cut:] or [3.0])
    whole = Sample.of(STARS_BINS, torch.cat([one, two]))
    parts = Sample.of(STARS_BINS, one), Sample.of(STARS_BINS, two)
    for found in (parts[0] + parts[1], (whole - parts[0]) + parts[0]):
        assert found.counts.tolist() == whole.counts.tolist()
        assert (found.n, found.mean) == (whole.n, pytest.approx(whole.mean, abs=1e-9))
    back = Sample.from_dict(STARS_BINS, whole.to_dict())
    assert (back.n, back.mean, back.std) == (whole.n, pytest.approx(whole.mean), pytest.approx(whole.std, abs=1e-6))


def test_counts_by_user():
    row, rating = np.array([1, 0, 1, 1]), np.array([5.0, 1.0, 4.6, 2.0])
    assert counts_by_user(row, rating, STARS).toarray().tolist() == [[1, 0, 0, 0, 0], [0, 1, 0, 0, 2]]


def test_intervals_hold_the_value_and_agree_with_scipys_bootstrap(monkeypatch):
    rng = np.random.default_rng(1)
    predicted, given_ratings = (
        rng.poisson([1, 2, 9, 9, 4], (400, 5)) + 1.0,
        rng.poisson([2, 3, 7, 9, 5], (400, 5)) + 1.0,
    )

    def statistic(index, axis):
        p, q = (counts[index].sum(axis=-2) for counts in (predicted, given_ratings))
        return kl_divergence(p / p.sum(-1, keepdims=True), q / q.sum(-1, keepdims=True))

    peer = bootstrap((np.arange(400),), statistic, n_resamples=2000, method="percentile", random_state=rng, batch=50)
    sparse = sp.csr_matrix(predicted), sp.csr_matrix(given_ratings)
    found = distance_intervals(*sparse, STARS, seed=3, draws=2000)
    value, low, high = found["kl"]
    assert value == pytest.approx(statistic(np.arange(400), -1))
    assert low < value < high
    width = high - low
    assert (low, high) == pytest.approx(tuple(peer.confidence_interval), abs=0.12 * width)
    monkeypatch.setattr(distribution, "WEIGHTS", 400 * 300)  # in blocks, the same draws
    assert distance_intervals(*sparse, STARS, seed=3, draws=2000) == found


@pytest.mark.parametrize("grid", [True, False], ids=["with ties", "without ties"])
def test_ks_p_values_are_scipys(grid):
    rng = np.random.default_rng(2)
    size = rng.integers(1, 40, 60)
    row = rng.permutation(np.repeat(np.arange(60), size))
    given_ratings = rng.integers(1, 6, len(row)).astype(float)
    predicted = rng.normal(given_ratings, 1)
    predicted = predicted.round() if grid else predicted
    found = ks_p_values(row, predicted, given_ratings)
    for user in range(60):
        mine = row == user
        assert found[user] == pytest.approx(ks_2samp(predicted[mine], given_ratings[mine]).pvalue, abs=1e-12)
