"""Two representations of a batch of profiles: dense, or rated entries only.

The equations of the model are the same for both. A *state* is a tensor of shape ``(S, W)``: ``(B, I)`` if dense,
``(nnz, 1)`` if it holds rated entries only. A value per user, such as the step ``t``, is spread over the user's states.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_dgrm.maths.noise import RowNoise

Positions = tuple[Tensor, Tensor]  # row in the batch and column of single items, each (n,)


@dataclass(frozen=True)
class Entries:
    """A sparse batch ``(n_rows, I)`` sorted by row: ``value`` ``(nnz, 1)`` at ``row`` and ``column`` ``(nnz,)``."""

    n_rows: int
    row: Tensor
    column: Tensor
    value: Tensor


class DenseProfiles:
    """Profiles as whole rows.

    Args:
        x_0, mask: ``(B, I)``.
        support: ``(B, I)``, 1 where noise falls and the networks look; None means everywhere.
    """

    positions: Positions | None = None
    row: Tensor | None = None

    def __init__(self, x_0: Tensor, mask: Tensor, support: Tensor | None = None):
        self.x_0, self.mask, self.support = x_0, mask, support

    def noise(self) -> Tensor:
        """Standard normal noise like ``x_0``, 0 outside the support."""
        return self.network_input(torch.randn_like(self.x_0))

    def row_noise(self, source: RowNoise, user: Tensor, stream: int) -> Tensor:
        """The noise of users ``(B,)`` that ``source`` has for ``stream``, like ``x_0`` and 0 outside the support."""
        return self.network_input(source(user, self.x_0.shape[1], stream))

    def spread(self, value: Tensor) -> Tensor:
        """A value per user, ``(B,)`` or ``(B, 1)``, for each row of a state."""
        return value

    def sums(self, value: Tensor) -> Tensor:
        """The sum over the items of each user, ``(B, 1)``."""
        return value.sum(dim=-1, keepdim=True)

    def network_input(self, state: Tensor) -> Tensor:
        """A state as the networks read it: 0 outside the support."""
        return state if self.support is None else state * self.support


class EntryProfiles:
    """Profiles as their rated entries; all others are 0 and stay so.

    Args:
        n_rows: B.
        row, column: ``(nnz,)``, sorted by row.
        value: ``(nnz,)``.
    """

    def __init__(self, n_rows: int, row: Tensor, column: Tensor, value: Tensor):
        self.n_rows, self.row, self.column = n_rows, row, column
        self.positions: Positions = row, column
        self.x_0 = value.unsqueeze(-1)
        self.mask = torch.ones_like(self.x_0)

    def noise(self) -> Tensor:
        """Standard normal noise like ``x_0``."""
        return torch.randn_like(self.x_0)

    def row_noise(self, source: RowNoise, user: Tensor, stream: int) -> Tensor:
        """The noise of users ``(B,)`` that ``source`` has for ``stream``, at the rated entries."""
        return source.at(user[self.row], self.column, stream).unsqueeze(-1)

    def spread(self, value: Tensor) -> Tensor:
        """A value per user, ``(B,)`` or ``(B, 1)``, for each row of a state."""
        return value[self.row]

    def sums(self, value: Tensor) -> Tensor:
        """The sum over the rated entries of each user, ``(B, 1)``."""
        return value.new_zeros(self.n_rows, 1).index_add(0, self.row, value)

    def network_input(self, state: Tensor) -> Entries:
        """A state as the networks read it: a sparse batch."""
        return Entries(self.n_rows, self.row, self.column, state)


Profiles = DenseProfiles | EntryProfiles


def condition(profiles: Profiles, shown: Tensor, kept: Tensor, scale: str) -> Tensor | Entries:
    """What the generator reads of a state.

    Args:
        shown: the state, without the entries that are hidden from the generator.
        kept: a state that is 1 at the rated entries which are not hidden, else 0.
        scale: the option ``condition_scale``; ``sqrt_count`` divides by the root of the number of kept entries.
    """
    if scale == "sqrt_count":
        shown = shown / profiles.spread(profiles.sums(kept).clamp(min=1).sqrt())
    return profiles.network_input(shown)
