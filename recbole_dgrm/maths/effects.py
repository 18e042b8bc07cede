"""Deviations that groups of ratings have in common, as those of one session or of one item in one period."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

SESSION = 600  # seconds; ratings of a user within one such span of the clock are a session
PERIODS = 30  # of equal numbers of ratings, in which an item may be rated better or worse than before


class Effects(nn.Module):
    """Deviations ``v_g ~ N(0, 1 / strength)`` of groups, ``strength ~ Gamma(1, 1)``, drawn by a Gibbs sampler.

    Args:
        group: of each rating, ``(nnz,)``, numbered from 0.
    """

    value: Tensor
    strength: Tensor

    def __init__(self, group: NDArray[np.intp]):
        super().__init__()
        self.group, self._count = group, np.bincount(group)
        self.register_buffer("value", torch.zeros(len(self._count), dtype=torch.float64))
        self.register_buffer("strength", torch.tensor(1.0, dtype=torch.float64))

    def of_ratings(self) -> Tensor:
        """The deviation of each rating, ``(nnz,)``."""
        return self.value[torch.from_numpy(self.group)].float()

    def redraw(self, target: NDArray, alpha: float, rng: np.random.Generator) -> None:
        """Draw all anew, given for each rating ``(nnz,)`` what its deviation should be, with precision ``alpha``."""
        precision = alpha * self._count + self.strength.item()
        mean = alpha * np.bincount(self.group, target, len(self._count)) / precision
        value = mean + rng.standard_normal(len(mean)) / np.sqrt(precision)
        self.value.copy_(torch.from_numpy(value))
        self.strength.fill_(rng.gamma(1 + len(value) / 2) / (1 + np.square(value).sum() / 2))


class Moments:
    """The sessions of users and the periods of items that ratings were given in.

    Args:
        user, item, time: of the ratings, ``(n,)``; times in seconds.

    Attributes:
        groups: the session and the period of each rating, each ``(n,)`` and numbered from 0.
    """

    def __init__(self, user: NDArray, item: NDArray, time: NDArray):
        self._edges = np.quantile(time, np.linspace(0, 1, PERIODS + 1)[1:-1])
        keys = self._keys(user, item, time)
        self._known, self.groups = zip(*(np.unique(key, return_inverse=True) for key in keys), strict=True)

    def find(self, user: NDArray, item: NDArray, time: NDArray) -> list[tuple[NDArray[np.bool_], NDArray[np.intp]]]:
        """For other ratings whether their session, and their period, is known, and its number."""
        found = []
        for known, key in zip(self._known, self._keys(user, item, time), strict=True):
            place = np.minimum(np.searchsorted(known, key), len(known) - 1)
            found.append((known[place] == key, place))
        return found

    def _keys(self, user: NDArray, item: NDArray, time: NDArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """One number for each session and for each period of an item."""
        span, period = np.floor(time / SESSION).astype(np.int64), np.searchsorted(self._edges, time)
        return (user.astype(np.int64) << 32) + span, item.astype(np.int64) * PERIODS + period
