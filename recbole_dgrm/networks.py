"""The networks of DGRM: forward passes only (paper, sections 3.1 and 3.2; sizes of the authors' code)."""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn


class StepEmbedding(nn.Module):
    """``v_t``: a sinusoidal code of the step ``t``, then a linear layer.

    Args:
        size: width of ``v_t`` (10 in the paper), even.
    """

    frequency: Tensor

    def __init__(self, size: int):
        super().__init__()
        half = size // 2
        frequency = torch.exp(-math.log(10_000) * torch.arange(half) / half)
        self.register_buffer("frequency", frequency, persistent=False)
        self.linear = nn.Linear(size, size)

    def forward(self, t: Tensor) -> Tensor:
        """Steps ``(B,)`` to codes ``(B, size)``."""
        angle = t.unsqueeze(-1) * self.frequency
        return self.linear(torch.cat([angle.cos(), angle.sin()], dim=-1))


def mlp(sizes: Sequence[int], activation: type[nn.Module] = nn.ReLU) -> nn.Sequential:
    """Linear layers of the given sizes with activations between them and a linear output."""
    layers: list[nn.Module] = []
    for index, (before, after) in enumerate(pairwise(sizes)):
        if index:
            layers.append(activation())
        layers.append(nn.Linear(before, after))
    return nn.Sequential(*layers)


@torch.no_grad()
def clip_weights(network: nn.Module, bound: float) -> None:
    """Keep every parameter in ``[-bound, bound]``: the first WGAN's Lipschitz constraint (Arjovsky et al. 2017)."""
    for parameter in network.parameters():
        parameter.clamp_(-bound, bound)


class Generator(nn.Module):
    """``x_0_hat = G(x_t, z, v_t)``: one-step denoising in the latent space (section 3.2).

    Args:
        n_items: I, the width of a profile.
        hidden: sizes of the hidden layers.
        latent_size: width of z; 0 leaves z out.
        step_size: width of ``v_t``.
    """

    def __init__(self, n_items: int, hidden: Sequence[int], latent_size: int, step_size: int):
        super().__init__()
        self.step_embedding = StepEmbedding(step_size)
        self.layers = mlp([n_items + latent_size + step_size, *hidden, n_items])

    def forward(self, x_t: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """``(B, I), (B, latent_size), (B,)`` to the predicted clean profile ``(B, I)``."""
        return self.layers(torch.cat([x_t, z, self.step_embedding(t)], dim=-1))


class Critic(nn.Module):
    """``D(x_{t-1}, x_t, t)``: a score per pair, low for real pairs (section 3.2, Eq. 21)."""

    def __init__(self, n_items: int, hidden: Sequence[int], step_size: int):
        super().__init__()
        self.step_embedding = StepEmbedding(step_size)
        self.layers = mlp([2 * n_items + step_size, *hidden, 1])

    def forward(self, x_tm1: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
        """``(B, I), (B, I), (B,)`` to scores ``(B,)``."""
        return self.layers(torch.cat([x_tm1, x_t, self.step_embedding(t)], dim=-1)).squeeze(-1)
