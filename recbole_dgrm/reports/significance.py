"""Is one model better than another: paired tests over users, and their correction for many models."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import ttest_1samp, wilcoxon

SIGNIFICANT = 0.05
DECIMALS = 10  # differences are rounded to these: what an average over seeds leaves in the last digits is none


@dataclass(frozen=True)
class Comparison:
    """A row against the baseline on the same users, two-sided; vectors are averaged over common seeds first.

    Attributes:
        difference: mean over users of row minus baseline; ``low``, ``high`` its 95 % t-interval.
        p_wilcoxon, p_t: as tested; ``holm_*`` corrected for the rows of the cell.
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
        """Both tests, corrected, below 5 %."""
        return max(self.holm_wilcoxon, self.holm_t) < SIGNIFICANT


def holm(p: NDArray) -> NDArray:
    """Holm's step-down correction of p-values ``(m,)`` for the family that they are."""
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
    test = ttest_1samp(difference, 0)
    low, high = test.confidence_interval(0.95)
    p_wilcoxon = wilcoxon(difference).pvalue
    return Comparison(len(difference), float(difference.mean()), float(low), float(high),
                      float(p_wilcoxon), float(test.pvalue))  # fmt: skip
