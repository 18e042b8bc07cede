"""Perceptrons that several models are made of."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from recbole_dgrm.maths.sparse import Places, sparse_product


def mlp(sizes: Sequence[int], activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers of the given sizes with activations between them and a linear output."""
    return nn.Sequential(nn.Linear(sizes[0], sizes[1]), *layers_after(sizes[1:], activation))


def layers_after(sizes: Sequence[int], activation: type[nn.Module] = nn.ReLU) -> list[nn.Module]:
    """The layers after one with ``sizes[0]`` outputs: linear ones with an activation before each."""
    return [layer for before, after in pairwise(sizes) for layer in (activation(), nn.Linear(before, after))]


class SparseLinear(nn.Module):
    """A linear layer over rows of few entries, whose weights are drawn as those of ``nn.Linear`` are.

    Its weight is stored ``(width, size)``: a product of few entries reads the rows of it.
    """

    def __init__(self, width: int, size: int):
        super().__init__()
        dense = nn.Linear(width, size)
        self.weight, self.bias = nn.Parameter(dense.weight.detach().t().contiguous()), dense.bias

    def forward(self, places: Places, value: Tensor) -> Tensor:
        """Maps rows with the entries ``(n,)`` at ``places`` to ``(n_rows, size)``."""
        return sparse_product(places, value, self.weight) + self.bias


@torch.no_grad()
def clip_weights(network: nn.Module, bound: float) -> None:
    """Clip every parameter to ``[-bound, bound]``, the first WGAN's Lipschitz constraint (Arjovsky et al. 2017)."""
    for parameter in network.parameters():
        parameter.clamp_(-bound, bound)
