"""Rated-items ranking metrics that treat ties exactly (flat arrays, no loop over users).

The candidates of a user are that user's test items. Most users give the same rating to many items, so a metric that
breaks ties by position measures the order of the file. Here the items of a tied block share its places: with tied
scores an item's gain is its expectation over all orders of the block, and with tied ratings the last places of the
ideal list are shared among the tied items. So a constant predictor has exactly the expected score of a random order.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RatedProtocol:
    """The options of the rated-items metrics.

    Attributes:
        threshold: tau, in rating units; an item rated below it is never relevant.
        ties: ``expected`` (exact expectation over orders) or ``item_order`` (lower item id first).
        filter: ``none``, or ``threshold``: predictions below tau are not recommended.
        denominator: ``n``, or ``relevant``: the length of the user's ideal list (Eq. 23).
    """

    threshold: float
    ties: str = "expected"
    filter: str = "none"
    denominator: str = "n"


class RatedLists:
    """Test ratings and predicted scores of many users, sorted once for every metric.

    Args:
        user, item: ids, shape ``(n,)``, in any order.
        score, rating: predictions and true ratings, shape ``(n,)``.
    """

    def __init__(self, user: NDArray, item: NDArray, score: NDArray, rating: NDArray, protocol: RatedProtocol):
        self.users, self._row = np.unique(user, return_inverse=True)
        self._protocol = protocol
        self._relevant = rating >= protocol.threshold
        self._listed = score >= protocol.threshold if protocol.filter == "threshold" else np.ones(len(score), bool)
        order = item if protocol.ties == "item_order" else None
        self._score_block = _blocks(self._row, score, order)
        self._rating_block = _blocks(self._row, rating, order)

    def recall(self, n: int) -> Array:
        """``sum_i w_i P(i in the top n) / n`` per user, shape ``(len(users),)``."""
        return self._gain(n, np.ones(n)) / self._ideal(n, np.ones(n))

    def ndcg(self, n: int) -> Array:
        """``sum_i w_i E[discount(i)] / sum_{p <= n} 1/log2(p + 1)`` per user (Eqs. 24, 25)."""
        discount = 1 / np.log2(np.arange(2, n + 2))
        return self._gain(n, discount) / self._ideal(n, discount)

    def _gain(self, n: int, discount: Array) -> NDArray:
        weight = self._relevant * _share(self._rating_block, np.ones(n))
        gain = weight * self._listed * _share(self._score_block, discount)
        return np.bincount(self._row, gain, minlength=len(self.users))

    def _ideal(self, n: int, discount: Array) -> Array:
        if self._protocol.denominator == "n":
            return np.full(len(self.users), discount.sum())
        relevant = np.bincount(self._row, self._relevant, minlength=len(self.users))
        cumulative = np.concatenate([[0.0], np.cumsum(discount)])
        ideal = cumulative[np.minimum(relevant, n).astype(int)]
        return np.where(ideal > 0, ideal, 1.0)  # no relevant item: the gain is 0


def _blocks(row: NDArray, key: NDArray, order: NDArray | None) -> tuple[NDArray, NDArray]:
    """First place and one past the last place (from 0, within its row) of each entry's tied block."""
    n = len(row)
    tie_break = np.arange(n) if order is None else order
    sorting = np.lexsort((tie_break, -key, row))
    row_sorted, key_sorted = row[sorting], key[sorting]
    new_row = np.ones(n, bool)
    new_row[1:] = row_sorted[1:] != row_sorted[:-1]
    new_block = new_row.copy()
    new_block[1:] |= (key_sorted[1:] != key_sorted[:-1]) | (order is not None)
    starts = np.flatnonzero(new_block)
    lengths = np.diff(np.append(starts, n))
    row_start = np.flatnonzero(new_row)[np.cumsum(new_row) - 1]
    first, last = np.empty(n, np.int64), np.empty(n, np.int64)
    first[sorting] = np.repeat(starts, lengths) - row_start
    last[sorting] = np.repeat(starts + lengths, lengths) - row_start
    return first, last


def _share(block: tuple[NDArray, NDArray], value: Array) -> Array:
    """Mean of ``value[place]`` over the places of each entry's block; places past the end count 0."""
    first, last = block
    cumulative = np.concatenate([[0.0], np.cumsum(value)])
    end = len(value)
    covered = cumulative[np.minimum(last, end)] - cumulative[np.minimum(first, end)]
    return covered / (last - first)
