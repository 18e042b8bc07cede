"""Perceptrons that several models are made of."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import nn


def mlp(sizes: Sequence[int], activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers of the given sizes with activations between them and a linear output."""
    return nn.Sequential(nn.Linear(sizes[0], sizes[1]), *layers_after(sizes[1:], activation))


def layers_after(sizes: Sequence[int], activation: type[nn.Module] = nn.ReLU) -> list[nn.Module]:
    """The layers after one with ``sizes[0]`` outputs: linear ones with an activation before each."""
    return [layer for before, after in pairwise(sizes) for layer in (activation(), nn.Linear(before, after))]


@torch.no_grad()
def clip_weights(network: nn.Module, bound: float) -> None:
    """Clip every parameter to ``[-bound, bound]``, the first WGAN's Lipschitz constraint (Arjovsky et al. 2017)."""
    for parameter in network.parameters():
        parameter.clamp_(-bound, bound)
