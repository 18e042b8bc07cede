"""The rows of the parts of a split: which they are, in which order, and how they are kept.

RecBole's own functions for this loop over the ratings. The rows and their order are the same.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from recbole.data.interaction import Interaction

Rows = NDArray[np.int32]  # the numbers of rows


class Table(Interaction):
    """An Interaction that keeps ids as int32; whoever takes ids out gets int64, as from RecBole's."""

    def __getitem__(self, index):
        if isinstance(index, str):
            return _wide(self.interaction[index])
        index = torch.from_numpy(index) if isinstance(index, np.ndarray) else index
        return Interaction({name: _wide(column[index]) for name, column in self.interaction.items()})

    def rows(self, index: slice | torch.Tensor) -> "Table":
        """A table with these rows, which shares memory with this one if they are a slice."""
        return Table({name: column[index] for name, column in self.interaction.items()})


def _wide(column: torch.Tensor) -> torch.Tensor:
    return column.long() if column.dtype == torch.int32 else column


def split_rows(
    rows: Rows, group: NDArray, ends: Callable[[int], list[int]], counted: NDArray[np.bool_] | None = None
) -> list[Rows]:
    """Split the rows of each group into parts.

    Args:
        rows: the rows ``(n,)`` in the order in which those of a group fill its parts.
        group: the group of each of ``rows``, ``(n,)``.
        ends: maps the number of a group's rows to the ends of all its parts but the last.
        counted: mask of the ``rows`` that this number counts; by default all.

    Returns:
        The rows of each part: group by group, in the order in which the groups occur first.
    """
    code = pd.factorize(group)[0].astype(np.int32)
    size = np.bincount(code)
    sizes, place = np.unique(np.bincount(code, counted, len(size)).astype(int), return_inverse=True)
    by_group = by_code(code, len(size))
    within = np.arange(len(rows), dtype=np.int32) - np.repeat((np.cumsum(size) - size).astype(np.int32), size)
    part = np.zeros(len(rows), np.int8)
    bounds = np.array([ends(number) for number in sizes.tolist()], np.int32).T
    for end in bounds:
        part += within >= np.repeat(end[place], size)
    return [rows[by_group[part == number]] for number in range(len(bounds) + 1)]


def by_code(code: NDArray[np.int32], n_codes: int) -> Rows:
    """The places ``(n,)`` of a stable sort by ``code``, by counting: the transpose of a matrix with one entry a row."""
    n_rows = len(code)
    ones, begin = np.ones(n_rows, np.int8), np.arange(n_rows + 1, dtype=np.int32)
    return sp.csr_matrix((ones, code, begin), (n_rows, n_codes)).tocsc().indices


def has_repeats(user: NDArray, item: NDArray) -> bool:
    """Whether a pair of ids occurs more than once."""
    key = user.astype(np.int64)
    key *= int(item.max(initial=0)) + 1
    key += item
    key.sort()
    return bool((key[1:] == key[:-1]).any())
