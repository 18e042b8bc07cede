"""The networks of DGRM: forward passes only (paper, sections 3.1 and 3.2; sizes of the authors' code)."""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from recbole_dgrm.maths.layers import Outputs, layers_after
from recbole_dgrm.maths.sparse import Places, products_at, squared_norms
from recbole_dgrm.models.dgrm.profiles import Rows, State


class StepEmbedding(nn.Module):
    """The embedding ``v_t`` of a step: sines and cosines of ``t``, then a linear layer.

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
        """Maps steps ``(B,)`` to embeddings ``(B, size)``."""
        angle = t.unsqueeze(-1) * self.frequency
        return self.linear(torch.cat([angle.cos(), angle.sin()], dim=-1))


class StateLayer(nn.Module):
    """A linear layer over several states and one dense input.

    Its weights are initialised as those of one ``nn.Linear`` over the concatenated inputs.

    Args:
        widths: the widths of the states, or of dense rows.
        dense_width: width of the dense input.
        size: width of the output.
    """

    def __init__(self, widths: Sequence[int], dense_width: int, size: int):
        super().__init__()
        whole = nn.Linear(sum(widths) + dense_width, size)
        *of_states, of_rest = whole.weight.detach().split([*widths, dense_width], dim=1)
        self.states = nn.ParameterList(nn.Parameter(part.t().contiguous()) for part in of_states)
        self.rest, self.bias = nn.Parameter(of_rest.contiguous()), whole.bias

    def forward(self, states: Sequence[State | Rows], dense: Tensor) -> Tensor:
        """Maps states, and the dense input ``(B, dense_width)``, to ``(B, size)``."""
        total = linear(dense, self.rest, self.bias)
        for state, weight in zip(states, self.states, strict=True):
            total = total + state.through(weight)
        return total


class Generator(nn.Module):
    """``x_0_hat = G(x_t, z, t)``: predicts the clean profile (section 3.1).

    Args:
        n_items: width of a profile.
        hidden: sizes of the hidden layers, at least one.
        latent_size: width of z; 0 leaves z out.
        step_size: width of ``v_t``.
    """

    n_states: ClassVar[int] = 1  # the number of ``inputs``, which are as wide as a profile

    def __init__(self, n_items: int, hidden: Sequence[int], latent_size: int, step_size: int):
        super().__init__()
        self.latent_size = latent_size
        self.step_embedding = StepEmbedding(step_size)
        widths = [n_items] * self.n_states + [latent_size] * (latent_size > 0)
        self.first = StateLayer(widths, step_size, hidden[0])
        self.hidden = nn.Sequential(*layers_after(hidden), nn.ReLU())
        self.output = nn.Linear(hidden[-1], n_items)

    def forward(self, x_t: State, z: Rows | None, t: Tensor) -> Outputs:
        """Maps a state, z ``(B, latent_size)`` and t ``(B,)`` to profiles ``(B, I)``."""
        inputs = [*self.inputs(x_t), *([] if z is None else [z])]
        return Outputs.of(self.hidden(self.first(inputs, self.step_embedding(t))), self.output)

    def inputs(self, x_t: State) -> list[State]:
        """The profile-wide inputs: the state."""
        return [x_t]


class Critic(nn.Module):
    """``D(x_{t-1}, x_t, t)``: a score per pair of states, low for real pairs (section 3.2).

    The output of the first linear layer is the sum ``read_state(x_{t-1}) + read_condition(x_t, t)``, and real and fake
    pairs share the second part. The gradient with respect to ``x_{t-1}`` is the gradient with respect to this output
    times the layer's weight.
    """

    def __init__(self, n_items: int, hidden: Sequence[int], step_size: int):
        super().__init__()
        self.step_embedding = StepEmbedding(step_size)
        sizes = [*hidden, 1]
        self.first = StateLayer([n_items, n_items], step_size, sizes[0])
        self.rest = nn.Sequential(*layers_after(sizes))

    def forward(self, x_tm1: State, x_t: State, t: Tensor) -> Tensor:
        """Maps two states of ``B`` users and their steps ``(B,)`` to scores ``(B,)``."""
        return self.score(self.read_state(x_tm1) + self.read_condition(x_t, t))

    def read_state(self, x_tm1: State) -> Tensor:
        """The part of the first layer's output from ``x_{t-1}``, ``(B, H)``."""
        return x_tm1.through(self.first.states[0])

    def read_condition(self, x_t: State, t: Tensor) -> Tensor:
        """The part of the first layer's output from ``x_t`` and ``t``, ``(B, H)``."""
        step = linear(self.step_embedding(t), self.first.rest, self.first.bias)
        return step + x_t.through(self.first.states[1])

    def score(self, hidden: Tensor) -> Tensor:
        """The scores ``(B,)``, given the output of the first layer ``(B, H)``."""
        return self.rest(hidden).squeeze(-1)

    def squared_norms(self, gradient: Tensor, places: Places | None = None) -> Tensor:
        """The squared norms ``(B,)`` of gradients with respect to ``x_{t-1}``.

        Args:
            gradient: the gradients with respect to the first layer's output, ``(B, H)``.
            places: the places of ``x_{t-1}`` that can differ from 0; None means all.
        """
        weight = self.first.states[0]
        if places is None:
            return squared_norms(gradient, weight)
        return places.sums(products_at(places, gradient, weight).square()).squeeze(-1)
