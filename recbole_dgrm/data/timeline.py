"""A temporal split: training before one cut-off time, test from a second one on, validation between the two.

RecBole's ``split: {TS: ...}`` only has the cut-off time of the test part, and takes validation from each user's ratings
before it; so some training ratings are later than some validation ratings.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_dgrm.errors import DataError

PARTS = ("training", "validation", "test")


def cuts_timeline(eval_args: Mapping[str, Any]) -> bool:
    """Whether ``eval_args`` ask for a temporal split: all ratings together, ordered by time and split by shares."""
    return eval_args["order"] == "TO" and "RS" in eval_args["split"] and eval_args["group_by"] in (None, "none", "None")


def cut(time: NDArray[np.float64], shares: Sequence[float], name: str) -> tuple[NDArray[np.intp], list[float]]:
    """Split ratings at the two cut-off times that come nearest to the shares; equal times stay together.

    Args:
        time: the times of the ratings ``(n,)``, in any order, of which at least three must differ.
        name: the name of the column of times, for the error.

    Returns:
        The part of each rating ``(n,)``: 0, 1 or 2; and the first times of validation and test.
    """
    times, first = np.unique(np.sort(time), return_index=True)
    if len(times) < len(PARTS):
        few = f"{name} has {len(times)} different {'time' if len(times) == 1 else 'times'}"
        raise DataError(f"{few}; a temporal split needs at least 3: set order: RO, or --protocol=rated")
    wanted = np.cumsum(shares)[:-1] / np.sum(shares) * len(time)
    begin = 1 + int(np.argmin(np.abs(first[1:-1] - wanted[0])))
    end = begin + 1 + int(np.argmin(np.abs(first[begin + 1 :] - wanted[1])))
    begins = times[[begin, end]]
    return np.searchsorted(begins, time, side="right"), begins.tolist()
