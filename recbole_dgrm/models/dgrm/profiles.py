"""A batch of rating profiles as the chain and the networks meet it: dense, or its rated entries alone.

The equations of the model are the same for both. A *state* is a tensor of shape ``(S, W)``: dense ``(B, I)``, entries
``(nnz, 1)``. What belongs to a user, a step ``t`` for example, is spread over the user's states.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

Places = tuple[Tensor, Tensor]  # row in the batch and column of single items, each (n,)


@dataclass(frozen=True)
class Entries:
    """Profiles ``(n_rows, I)`` that are 0 but for ``value`` ``(nnz, 1)`` at ``row``, ``column`` ``(nnz,)``, by row."""

    n_rows: int
    row: Tensor
    column: Tensor
    value: Tensor


class DenseStates:
    """Whole profiles.

    Args:
        x_0, mask: ``(B, I)``.
        support: where noise falls and networks look, ``(B, I)``; None: everywhere.
    """

    places: Places | None = None
    row: Tensor | None = None

    def __init__(self, x_0: Tensor, mask: Tensor, support: Tensor | None = None):
        self.x_0, self.mask, self.support = x_0, mask, support

    def noise(self, source: Callable[[Tensor], Tensor] = torch.randn_like) -> Tensor:
        """Standard normal where noise falls, else 0; like ``x_0``."""
        eps = source(self.x_0)
        return eps if self.support is None else eps * self.support

    def spread(self, value: Tensor) -> Tensor:
        """A value per user, ``(B,)`` or ``(B, 1)``, for each state."""
        return value

    def sums(self, value: Tensor) -> Tensor:
        """Sum over the items of each user, ``(B, 1)``."""
        return value.sum(dim=-1, keepdim=True)

    def for_network(self, state: Tensor) -> Tensor:
        """A state as networks read it."""
        return state if self.support is None else state * self.support


class EntryStates:
    """The rated entries of profiles; the others are 0 and stay so.

    Args:
        n_rows: B.
        row, column: ``(nnz,)``, by row.
        value: ``(nnz,)``.
    """

    def __init__(self, n_rows: int, row: Tensor, column: Tensor, value: Tensor):
        self.n_rows, self.row, self.column = n_rows, row, column
        self.places: Places = row, column
        self.x_0 = value.unsqueeze(-1)
        self.mask = torch.ones_like(self.x_0)

    def noise(self, source: Callable[[Tensor], Tensor] = torch.randn_like) -> Tensor:
        """Standard normal, like ``x_0``."""
        return source(self.x_0)

    def spread(self, value: Tensor) -> Tensor:
        """A value per user, ``(B,)`` or ``(B, 1)``, for each state."""
        return value[self.row]

    def sums(self, value: Tensor) -> Tensor:
        """Sum over the entries of each user, ``(B, 1)``."""
        return value.new_zeros(self.n_rows, 1).index_add(0, self.row, value)

    def for_network(self, state: Tensor) -> Entries:
        """A state as networks read it."""
        return Entries(self.n_rows, self.row, self.column, state)
