"""Layers of perceptrons that several models share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from recbole_dgrm.maths.sparse import Places, products_at, sparse_product, squared_norms


def layers_after(sizes: Sequence[int], activation: type[nn.Module] = nn.ReLU) -> list[nn.Module]:
    """The layers after one with ``sizes[0]`` outputs: linear layers, each after an activation."""
    return [layer for before, after in pairwise(sizes) for layer in (activation(), nn.Linear(before, after))]


class SparseLinear(nn.Module):
    """A linear layer over sparse rows, initialised as ``nn.Linear``.

    Its weight is stored as ``(width, size)``, because sparse products read its rows.
    """

    def __init__(self, width: int, size: int):
        super().__init__()
        dense = nn.Linear(width, size)
        self.weight, self.bias = nn.Parameter(dense.weight.detach().t().contiguous()), dense.bias

    def forward(self, places: Places, value: Tensor) -> Tensor:
        """Maps rows with the entries ``(n,)`` at ``places`` to ``(n_rows, size)``."""
        return sparse_product(places, value, self.weight) + self.bias


class UniformDropout(nn.Dropout):
    """Dropout by uniform random numbers, which on a CPU are several times faster than torch's Bernoulli numbers."""

    def forward(self, rows: Tensor) -> Tensor:
        """The rows, with a random share of entries set to 0 and the others scaled up while training."""
        return rows * ((torch.rand_like(rows) >= self.p) / (1 - self.p)) if self.training else rows


@dataclass(frozen=True, eq=False)
class Outputs:
    """The outputs ``(B, I)`` of a linear layer, of which only the needed entries are computed.

    Attributes:
        hidden: the inputs of the layer, ``(B, H)``.
        weight, bias: the parameters of the layer, ``(I, H)`` and ``(I,)``.
    """

    hidden: Tensor
    weight: Tensor
    bias: Tensor
    _at: dict[tuple[Places, bool], Tensor] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    def of(cls, hidden: Tensor, layer: nn.Linear) -> Self:
        """The outputs of ``layer``; if made without gradients, they have none later."""
        if torch.is_grad_enabled():
            return cls(hidden, layer.weight, layer.bias)
        return cls(hidden, layer.weight.detach(), layer.bias.detach())

    def at(self, places: Places) -> Tensor:
        """The outputs ``(n,)`` at ``places``; they are computed once and cached."""
        key = places, torch.is_grad_enabled()
        if key not in self._at:
            self._at[key] = products_at(places, self.hidden, self.weight) + places.column_values(self.bias)
        return self._at[key]

    def dense(self) -> Tensor:
        """All outputs, ``(B, I)``."""
        return linear(self.hidden, self.weight, self.bias)

    def through(self, weight: Tensor) -> Tensor:
        """The outputs times ``weight`` ``(I, size)``, ``(B, size)``."""
        return self.hidden @ (self.weight.T @ weight) + self.bias @ weight

    def squares(self) -> Tensor:
        """The sum of the squared outputs of each row, ``(B,)``."""
        return squared_norms(*self._factors())

    def columns(self, index: Tensor) -> Self:
        """The outputs of the columns ``index`` ``(n,)`` alone, ``(B, n)``."""
        return replace(self, weight=self.weight[index], bias=self.bias[index])

    def transposed(self) -> "Outputs":
        """The transposed outputs, ``(I, B)``: weights become inputs, and inputs become weights."""
        hidden, weight = self._factors()
        return Outputs(weight, hidden, weight.new_zeros(len(hidden)))

    def _factors(self) -> tuple[Tensor, Tensor]:
        """Inputs and weights, ``(B, H + 1)`` and ``(I, H + 1)``, with the bias as the weight of an input of 1."""
        one = torch.ones_like(self.hidden[:, :1])
        return torch.cat([self.hidden, one], dim=1), torch.cat([self.weight, self.bias.unsqueeze(-1)], dim=1)


class KeptOutputs:
    """A cache of the outputs of a network, such as the predicted profiles of all items.

    It is valid until a parameter of the network changes.

    Parameters are compared with copies, because their version counters do not count the steps of fused optimizers.
    """

    def __init__(self) -> None:
        self._kept: tuple[Any, list[Tensor], Any] = None, [], None  # one tuple, so that threads replace it atomically

    def __call__(self, network: nn.Module, compute: Callable[[], Outputs]) -> Outputs:
        """The result of ``compute()``, from the cache if parameters and device are the same."""
        parameters = [parameter.detach() for parameter in network.parameters()]
        device = parameters[0].device
        kept_device, copies, value = self._kept
        if device != kept_device or not all(map(torch.equal, parameters, copies)):
            value = compute()
            self._kept = device, [parameter.clone() for parameter in parameters], value
        return value

    def __deepcopy__(self, memo: dict) -> "KeptOutputs":
        return type(self)()


@torch.no_grad()
def clip_weights(network: nn.Module, bound: float) -> None:
    """Clip every parameter to ``[-bound, bound]``, the Lipschitz constraint of WGAN (Arjovsky et al. 2017)."""
    for parameter in network.parameters():
        parameter.clamp_(-bound, bound)
