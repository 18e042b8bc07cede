"""Significance of differences between models: paired tests over users, corrected for the number of models."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

SIGNIFICANT = 0.05
DECIMALS = (
    10  # digits of a difference; what averaging over seeds leaves in the last digits of a double is no difference
)


@dataclass(frozen=True)
class Comparison:
    """Two-sided tests of a row against the baseline on the same users, averaged over the seeds that both have.

    Attributes:
        difference: mean over users of row minus baseline; ``low`` and ``high`` are the ends of its 95 % t-interval.
        p_wilcoxon, p_t: p-values of the tests; ``holm_*`` are corrected for the rows of the cell.
    """

    users: int
    difference: float
    low: float
    high: float
    p_wilcoxon: float
    p_t: float
    holm_wilcoxon: float = np.nan
    holm_t: float = np.nan

    @property
    def significant(self) -> bool:
        """Whether both corrected p-values are below 5 %."""
        return max(self.holm_wilcoxon, self.holm_t) < SIGNIFICANT


def holm(p: NDArray) -> NDArray:
    """P-values ``(m,)`` after Holm's step-down correction for ``m`` tests."""
    p = np.asarray(p, dtype=float)
    order = np.argsort(p)
    factors = len(p) - np.arange(len(p))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * factors), 1.0)
    return adjusted


def compare(ours: pd.Series, theirs: pd.Series) -> Comparison:
    """Paired two-sided tests of two per-user vectors, indexed by user."""
    ours, theirs = ours.align(theirs, join="inner")
    difference = (ours - theirs).round(DECIMALS).to_numpy()
    if len(difference) < 2 or not difference.any():
        mean = float(difference.mean()) if len(difference) else np.nan
        return Comparison(len(difference), mean, mean, mean, 1.0, 1.0)
    test = scipy.stats.ttest_1samp(difference, 0)
    values = (difference.mean(), *test.confidence_interval(0.95), scipy.stats.wilcoxon(difference).pvalue, test.pvalue)
    return Comparison(len(difference), *map(float, values))
