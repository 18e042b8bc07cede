"""States of the chain without a tensor of users x items.

Every state of DGRM (``x_0``, ``x_t``, the fake) is a sum of values at the rated places and of dense rows such as
Gaussian noise, each times a number per user. A ``State`` stores these values, rows and numbers. Sums of states, and
products with a number per user, are states again, so the equations of the chain can be written as in the paper. Every
network begins with a linear layer, which only needs the products of the dense rows with its weight (``Rows.through``).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor

from recbole_dgrm.maths.sparse import Places, sparse_product


class Rows(Protocol):
    """Dense rows ``(B, W)``, perhaps given only by their products. They are equal only if they are the same object."""

    def through(self, weight: Tensor) -> Tensor:
        """The rows times ``weight`` ``(W, H)``, ``(B, H)``."""

    def dense(self) -> Tensor:
        """The rows themselves, ``(B, W)``."""


@dataclass(frozen=True)
class State:
    """A batch of rows ``(B, W)``: values at single places plus multiples of dense rows.

    Attributes:
        places: the places of the values.
        value: the values at ``places``, ``(nnz,)``.
        rows: dense rows to their coefficients, ``(B, 1)`` or ``(1, 1)``.
    """

    places: Places
    value: Tensor
    rows: dict[Rows, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Rows, places: Places) -> "State":
        """A state that equals ``rows``, with values 0 at ``places``."""
        value = torch.zeros(len(places.row), dtype=torch.float32, device=places.row.device)
        return cls(places, value, {rows: value.new_ones(1, 1)})

    def __add__(self, other: "State") -> "State":
        rows = dict(self.rows)
        for each, coefficient in other.rows.items():
            rows[each] = rows[each] + coefficient if each in rows else coefficient
        return State(self.places, self.value + other.value, rows)

    def __mul__(self, factor: Tensor) -> "State":
        """The state with each user's row times the user's ``factor``, ``(B, 1)`` or ``(1, 1)``."""
        rows = {each: coefficient * factor for each, coefficient in self.rows.items()}
        return State(self.places, self.value * self.places.spread(factor), rows)

    __rmul__ = __mul__

    def __truediv__(self, divisor: Tensor) -> "State":
        return self * (1 / divisor)

    def where(self, shown: Tensor) -> "State":
        """The state without the values at places where ``shown`` ``(nnz,)`` is 0; dense rows are unchanged."""
        return State(self.places, self.value * shown, self.rows)

    def through(self, weight: Tensor) -> Tensor:
        """The state times ``weight`` ``(W, H)``, ``(B, H)``."""
        total = sparse_product(self.places, self.value, weight)
        for rows, coefficient in self.rows.items():
            total = total + coefficient * rows.through(weight)
        return total

    def dense(self) -> Tensor:
        """The state as a tensor ``(B, W)``."""
        total = self.places.dense(self.value)
        for rows, coefficient in self.rows.items():
            total = total + coefficient * rows.dense()
        return total


@dataclass(frozen=True)
class Draw:
    """The inputs of one training step of DGRM.

    Attributes:
        x_0: the profiles of the batch.
        t: the noise steps of the users, ``(B,)``.
        x_tm1, x_t: the real pair of states for the critic.
        condition: the part of ``x_t`` that the generator reads.
        z: the latent vectors of the generator, ``(B, latent_size)``, or None.
        noise: returns new noise, for the posterior.
        target: 1 at the rated entries that are in the reconstruction loss, else 0, ``(nnz,)``.
    """

    x_0: State
    t: Tensor
    x_tm1: State
    x_t: State
    condition: State
    z: Rows | None
    noise: Callable[[], State]
    target: Tensor
