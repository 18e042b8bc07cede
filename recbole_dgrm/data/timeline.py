"""A split of the timeline: training before one instant, the test from another on, validation between the two.

RecBole's ``split: {TS: ...}`` has the instant of the test alone, and cuts validation from what each user rated before;
so training has ratings that are younger than some of validation.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_dgrm.errors import DataError

PARTS = ("training", "validation", "test")


def cuts_timeline(eval_args: Mapping[str, Any]) -> bool:
    """Whether ``eval_args`` ask for it: all ratings together, ordered by time and cut by shares."""
    return eval_args["order"] == "TO" and "RS" in eval_args["split"] and eval_args["group_by"] in (None, "none", "None")


def cut(time: NDArray[np.float64], shares: Sequence[float], name: str) -> tuple[NDArray[np.intp], list[float]]:
    """Cut ratings at the two instants that come nearest to the shares; those of one instant stay together.

    Args:
        time: of the ratings ``(n,)``, in any order.
        shares: of training, validation and test, in any unit.
        name: of the column of times, for the error.

    Returns:
        For each rating ``(n,)`` its part: 0, 1 or 2. The instants that validation and test begin with.

    Raises:
        DataError: there are fewer than three different times.
    """
    instants, first = np.unique(np.sort(time), return_index=True)
    if len(instants) < len(PARTS):
        said = f"{name} has {len(instants)} different {'time' if len(instants) == 1 else 'times'}"
        raise DataError(f"{said}; a split of the timeline needs 3 at least: say order: RO, or --protocol=rated")
    wanted = np.cumsum(shares)[:-1] / np.sum(shares) * len(time)
    begin = 1 + int(np.argmin(np.abs(first[1:-1] - wanted[0])))
    end = begin + 1 + int(np.argmin(np.abs(first[begin + 1 :] - wanted[1])))
    begins = instants[[begin, end]]
    return np.searchsorted(begins, time, side="right"), begins.tolist()
