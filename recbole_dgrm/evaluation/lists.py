"""Properties of recommendation lists other than accuracy: coverage, evenness, popularity, novelty, diversity.

Lists are ``(n_users, N)`` item ids, best first, filled up with the padding 0 if a user has fewer items left. Item
popularity and similarity are computed from ``known``, all pairs before the evaluated part, ``(n_users, n_items)`` with
the padding row and column, so that the numbers of all models can be compared. No dense array of users x items or of
items x items is made.

    * Coverage: the share of the items that are in any list (Ge, Delgado-Battenfeld and Jannach 2010).
    * Gini index and entropy (in nats) of the counts of how often each item is listed, unlisted items included.
    * Popularity: the number of users who have an item. Tail: the tenth of the items that the fewest users have.
    * Novelty: ``-log2 p(i)`` in bits, where p is the share of users who have the item (Zhou et al. 2010; Vargas and
      Castells 2011). An item that nobody has counts as one that a single user has.
    * Diversity: the mean of ``1 - cos(i, j)`` over the pairs of items in a list, where i and j are the 0/1 vectors of
      the users who have the item (intra-list distance, Ziegler et al. 2005; Vargas and Castells 2011); 0 without pairs.
"""

from functools import cached_property
from typing import Any

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

TAIL = 0.1  # of the items
AT_ONCE = 4096  # items whose cosines are computed at once, at most
Vector = NDArray[np.float64]


class Lists:
    """Recommendation lists, and the known pairs that item popularity and similarity are computed from.

    Args:
        items: item ids ``(n_users, N)``; 0 fills up shorter lists.
        known: known pairs, ``(n_users, n_items)``; only the places of the stored entries count, not their values.
    """

    def __init__(self, items: NDArray[np.integer], known: sp.csr_matrix):
        self.items, self.known = items, known
        self.popularity = np.bincount(known.indices, minlength=known.shape[1])[1:]

    def coverage(self, n: int) -> float:
        """The share of the items that are among the first ``n`` of any list."""
        return float((self._listed(n) > 0).mean())

    def gini(self, n: int) -> float:
        """The Gini index: 0 if all items are listed equally often, near 1 if few are listed; 0 without any list."""
        return gini(self._listed(n))

    def entropy(self, n: int) -> float:
        """Shannon entropy in nats: 0 if only one item is listed, log(n_items) if all are listed equally often."""
        listed = self._listed(n)
        share = listed[listed > 0] / max(1, listed.sum())
        return float(-(share * np.log(share)).sum())

    def mean_popularity(self, n: int) -> Vector:
        """The mean number of users who have an item of the list, ``(n_users,)``; 0 without a list."""
        return self._mean(self.popularity, n)

    def tail(self, n: int) -> Vector:
        """The share of the list that is in the tail, ``(n_users,)``; equally popular items are taken in id order."""
        tail = np.zeros(len(self.popularity))
        tail[np.argsort(self.popularity, kind="stable")[: max(1, int(TAIL * len(tail)))]] = 1
        return self._mean(tail, n)

    def novelty(self, n: int) -> Vector:
        """The mean self-information of the items of the list in bits, ``(n_users,)``; 0 without a list."""
        users = max(1, np.count_nonzero(np.diff(self.known.indptr)))
        return self._mean(-np.log2(np.maximum(self.popularity, 1) / users), n)

    def diversity(self, n: int) -> Vector:
        """The mean distance of two items of the list, ``(n_users,)``."""
        count = (self.items[:, :n] > 0).sum(axis=1)
        pairs = count * (count - 1) / 2
        return (pairs - self._likeness[:, :n].sum(axis=1)) / np.maximum(pairs, 1)

    def statistics(self) -> dict[str, Any]:
        """The statistics of lists of length ``n`` for a diagnosis; all others are None if all lists are empty.

        ``distinct`` is distinct lists / users, where the order of items does not count, and ``items`` the coverage.
        """
        n, distinct = self.items.shape[1], len(np.unique(np.sort(self.items, axis=1), axis=0)) / max(1, len(self.items))
        found = {"distinct": distinct, "items": self.coverage(n), "gini": self.gini(n), "entropy": self.entropy(n)}
        return {"n": n, **(found if self.items.any() else dict.fromkeys(found))}

    def _listed(self, n: int) -> NDArray[np.int64]:
        """How often each item is among the first ``n`` of a list, ``(n_items - 1,)``."""
        return np.bincount(self.items[:, :n].ravel(), minlength=self.known.shape[1])[1:]

    def _mean(self, value: NDArray, n: int) -> Vector:
        listed = self.items[:, :n]
        return np.append(0.0, value)[listed].sum(axis=1) / np.maximum((listed > 0).sum(axis=1), 1)

    @cached_property
    def _likeness(self) -> Vector:
        """For each place of a list the sum of the cosines of its item with the items before it, ``(n_users, N)``."""
        n_users, length = self.items.shape
        likeness = np.zeros((n_users, length))
        vectors = self._vectors
        together = n_users if len(np.unique(self.items)) <= AT_ONCE else max(1, AT_ONCE // length)
        for start in range(0, n_users, together):
            here = slice(start, start + together)
            ids, place = np.unique(self.items[here], return_inverse=True)
            place = place.reshape(-1, length)
            cosine = (vectors[ids] @ vectors[ids].T).toarray()
            for column in range(1, length):
                likeness[here, column] = cosine[place[:, :column], place[:, column, None]].sum(axis=1)
        return likeness

    @cached_property
    def _vectors(self) -> sp.csr_matrix:
        """The 0/1 vectors of the items, scaled to length 1, ``(n_items, n_users)``; the vector of the padding is 0."""
        length = 1 / np.sqrt(np.maximum(np.append(1, self.popularity), 1))
        entries = length[self.known.indices] * (self.known.indices > 0)
        return sp.csr_matrix((entries, self.known.indices, self.known.indptr), self.known.shape).T.tocsr()


def gini(counts: NDArray[np.integer]) -> float:
    """The Gini index of counts ``(n,)``; 0 where all are 0."""
    counts, places = np.sort(counts), np.arange(1, len(counts) + 1)
    return float(((2 * places - len(counts) - 1) * counts).sum() / max(1, len(counts) * counts.sum()))


def described(lists: Lists) -> str:
    """A line with the coverage, Gini index, novelty and diversity of the lists."""
    n = lists.items.shape[1]
    return (
        f"the lists contain {lists.coverage(n):.1%} of {len(lists.popularity):,} items (coverage), Gini "
        f"{lists.gini(n):.3f}, novelty {lists.novelty(n).mean():.2f} bits, diversity {lists.diversity(n).mean():.3f}"
    )
