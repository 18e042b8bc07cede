"""Significance of differences between models: a test over users and trainings, corrected for the number of models."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

SIGNIFICANT = 0.05
FEW = 2  # seeds that leave one degree of freedom, by which no difference can be told from chance
DECIMALS = 10  # of a difference; the digits after them come from the order of sums in floating point


@dataclass(frozen=True)
class Comparison:
    """Two-sided test of a row against the baseline on the same users and seeds.

    All users of a seed share one split and one trained model of each row, so that part of a difference does not average
    out over users. The test therefore treats both users and seeds as samples. With one seed it can only compare these
    two trainings; with two seeds it is never called significant.

    Attributes:
        users, common_seeds: how many there are.
        difference: row minus baseline: mean over seeds of the mean over users; ``low`` and ``high`` are the ends of its
            95 % interval.
        p: p-value of the test; ``holm`` is corrected for the rows of the cell.
        seed_std: standard deviation of the difference over seeds that users do not explain; NaN for one seed.
    """

    users: int
    common_seeds: int
    difference: float
    low: float
    high: float
    p: float
    seed_std: float = np.nan
    holm: float = np.nan

    @property
    def significant(self) -> bool:
        """Whether the corrected p-value is below 5 %, and the seeds are not two."""
        return self.holm < SIGNIFICANT and self.common_seeds != FEW


def holm(p: NDArray) -> NDArray:
    """P-values ``(m,)`` after Holm's step-down correction for ``m`` tests."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    factors = len(p) - np.arange(len(p))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return adjusted


def compare(pairs: Sequence[tuple[pd.Series, pd.Series]]) -> Comparison:
    """Test the difference of two models over users and seeds.

    The analysis of variance of the crossed random effects of users and seeds gives the variance of the mean, and
    Satterthwaite's approximation its degrees of freedom. Users may lack in some seeds: a seed then has the mean over
    its own users. For one seed this is the paired t-test.

    Args:
        pairs: for each seed the values of row and baseline, indexed by user.
    """
    differences = [(ours - theirs).dropna().round(DECIMALS) for ours, theirs in pairs]
    whole = pd.concat(differences)
    d, seed = whole.to_numpy(), np.repeat(np.arange(len(pairs)), list(map(len, differences)))
    user, names = pd.factorize(whole.index)
    n, n_users, n_seeds = len(d), len(names), len(pairs)
    means = np.array([each.mean() for each in differences])
    mean = float(means.mean())
    if n_users < 2 or not d.any():
        return Comparison(n_users, n_seeds, mean, mean, mean, 1.0)
    weight = 1 / (n_seeds * np.bincount(seed))[seed]
    of_users = n_users / (n_users - 1) * (np.bincount(user, weight * (d - mean)) ** 2).sum()
    of_seeds = of_rest = 0.0
    rest_freedom = n - n_users - n_seeds + 1
    if n_seeds > 1:
        of_seeds = means.var(ddof=1) / n_seeds
        of_rest = (weight**2).sum() * _interaction(d, user, seed) / rest_freedom if rest_freedom > 0 else 0.0
    variance = max(of_users + of_seeds - of_rest, of_users)
    spread = of_users**2 / (n_users - 1) + of_seeds**2 / max(n_seeds - 1, 1) + of_rest**2 / max(rest_freedom, 1)
    freedom = variance**2 / spread if spread else np.inf
    error = np.sqrt(variance)
    half = error * scipy.stats.t.ppf(0.975, freedom)
    p = 2 * scipy.stats.t.sf(abs(mean) / error, freedom) if error else 0.0
    seed_std = np.sqrt(n_seeds * max(of_seeds - of_rest, 0)) if n_seeds > 1 else np.nan
    return Comparison(n_users, n_seeds, mean, float(mean - half), float(mean + half), float(p), float(seed_std))


def _interaction(d: NDArray, user: NDArray, seed: NDArray) -> float:
    """The sum of squares of ``d`` ``(n,)`` that is left after effects of users and of seeds are fitted."""
    columns = np.column_stack([d, np.eye(seed.max() + 1)[seed]])
    count = np.bincount(user)
    for column in columns.T:
        column -= (np.bincount(user, column) / count)[user]
    value, effects = columns[:, 0], columns[:, 1:]
    fitted = np.linalg.lstsq(effects.T @ effects, effects.T @ value, rcond=None)[0]
    return float(((value - effects @ fitted) ** 2).sum())
