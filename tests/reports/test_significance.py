"""The test over users and seeds: a two-way analysis of variance, level and power by simulation, and Holm."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recbole_dgrm.reports.significance import Comparison, compare, holm


def pairs_of(difference: np.ndarray) -> list[tuple[pd.Series, pd.Series]]:
    """The rows ``(users, seeds)`` without NaN as values of two models."""
    columns = [pd.Series(column).dropna() for column in difference.T]
    return [(column, column * 0) for column in columns]


def drawn(rng, of_seeds: float, n_seeds: int, mean: float = 0.0) -> np.ndarray:
    """Differences ``(900, n_seeds)`` of two models, as large as those of RatedNDCG on ML-100K."""
    of_users, rest = rng.normal(0, 0.03, (900, 1)), rng.normal(0, 0.12, (900, n_seeds))
    return mean + of_users + rng.normal(0, of_seeds, (1, n_seeds)) + rest


def test_several_seeds_have_the_mean_squares_of_a_two_way_analysis_of_variance():
    d = drawn(np.random.default_rng(0), 0.01, 4)
    (n, k), grand, user, seed = d.shape, d.mean(), d.mean(1), d.mean(0)
    squares = k * user.var(ddof=1), n * seed.var(ddof=1), (d - user[:, None] - seed + grand).var() * n * k
    squares = np.array([*squares[:2], squares[2] / ((n - 1) * (k - 1))])
    variance = squares @ [1, 1, -1]
    freedom = variance**2 / (squares**2 / [n - 1, k - 1, (n - 1) * (k - 1)]).sum()
    error, found = math.sqrt(variance / d.size), compare(pairs_of(d))
    assert found.p == pytest.approx(2 * stats.t.sf(abs(grand) / error, freedom), abs=1e-6)
    assert found.high - grand == pytest.approx(error * stats.t.ppf(0.975, freedom), abs=1e-6)
    assert found.seed_std == pytest.approx(math.sqrt((squares[1] - squares[2]) / n), abs=1e-6)


@pytest.mark.parametrize(("n_seeds", "of_seeds", "lacking"), [(1, 0, 0), (3, 0.005, 0), (5, 0.005, 0), (5, 0.005, 0.4)])
def test_of_equal_methods_about_a_twentieth_is_significant_and_of_different_ones_more(n_seeds, of_seeds, lacking):
    rng, p = np.random.default_rng(n_seeds), []
    for mean in (0.0, 0.02):
        draws = [drawn(rng, of_seeds, n_seeds, mean) for _ in range(200)]
        for d in draws:
            d[rng.random(d.shape) < lacking] = np.nan
        p.append([compare(pairs_of(d)).p for d in draws])
    null, different = (np.array(p) < 0.05).mean(1)
    assert 0.01 <= null <= 0.08
    assert different > 0.8


def test_holm_as_worked_by_hand():
    """Sorted: .005 * 4, .01 * 3, .03 * 2, and .04 * 1, which may not fall below .06."""
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm(np.array([0.5, 0.9, 0.4])) == pytest.approx([1, 1, 1])
    assert holm(np.array([0.02, 0.02])) == pytest.approx([0.04, 0.04])


def test_significant_needs_a_corrected_p_value_below_5_percent_and_not_two_seeds():
    for seeds, p, expected in [
        (1, 0.01, True),
        (3, 0.04, True),
        (2, 0.01, False),
        (3, 0.05, False),
        (3, math.nan, False),
    ]:
        assert Comparison(9, seeds, 0.1, 0.0, 0.2, 0.001, holm=p).significant is expected
