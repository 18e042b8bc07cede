"""The networks of DGRM: forward passes only (paper, sections 3.1 and 3.2; sizes of the authors' code)."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, embedding_bag, linear

from recbole_dgrm.maths.layers import mlp_after
from recbole_dgrm.models.dgrm.profiles import Entries, Positions


class StepEmbedding(nn.Module):
    """The code ``v_t`` of a step: sines and cosines of ``t``, then a linear layer.

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
        """Maps steps ``(B,)`` to codes ``(B, size)``."""
        angle = t.unsqueeze(-1) * self.frequency
        return self.linear(torch.cat([angle.cos(), angle.sin()], dim=-1))


class DenseInput(nn.Linear):
    """A linear layer over dense profiles and further inputs beside them."""

    def __init__(self, n_profiles: int, n_items: int, beside: int, size: int):
        super().__init__(n_profiles * n_items + beside, size)

    # The arguments are those of EntryInput, not those of a linear layer.
    def forward(self, profiles: Sequence[Tensor], beside: Sequence[Tensor]) -> Tensor:  # type: ignore[override]
        """Maps profiles ``(B, I)`` and further inputs ``(B, ...)`` to ``(B, size)``."""
        return super().forward(torch.cat([*profiles, *beside], dim=-1))


class EntryInput(nn.Module):
    """The same layer for sparse profiles: its cost is linear in the number of ratings, not in users x items.

    Its weights are drawn as those of ``DenseInput`` are; each row of ``items`` belongs to an item.
    """

    def __init__(self, n_profiles: int, n_items: int, beside: int, size: int):
        super().__init__()
        whole = nn.Linear(n_profiles * n_items + beside, size)
        of_items, of_rest = whole.weight.detach().split([n_profiles * n_items, beside], dim=1)
        per_profile = of_items.split(n_items, dim=1)
        self.items = nn.ParameterList(nn.Parameter(part.t().contiguous()) for part in per_profile)
        self.rest, self.bias = nn.Parameter(of_rest.contiguous()), whole.bias

    def forward(self, profiles: Sequence[Entries], beside: Sequence[Tensor]) -> Tensor:
        """Maps sparse profiles and further inputs ``(B, ...)`` to ``(B, size)``."""
        total = linear(torch.cat(list(beside), dim=-1), self.rest, self.bias)
        for weight, entries in zip(self.items, profiles, strict=True):
            total = total + _sum_of_rows(weight, entries)
        return total


def _sum_of_rows(weight: Tensor, entries: Entries) -> Tensor:
    """The product ``profiles @ weight`` of a sparse batch, ``(n_rows, size)``."""
    if entries.value.requires_grad:  # embedding_bag has no second derivative, which gradient penalties need
        rows = embedding(entries.column, weight) * entries.value
        return rows.new_zeros(entries.n_rows, weight.shape[1]).index_add(0, entries.row, rows)
    start = torch.searchsorted(entries.row, torch.arange(entries.n_rows, device=entries.row.device))
    return embedding_bag(entries.column, weight, start, mode="sum", per_sample_weights=entries.value.squeeze(-1))


class Generator(nn.Module):
    """``x_0_hat = G(x_t, z, v_t)``: one-step denoising in the latent space (section 3.2).

    Args:
        n_items: I, the width of a profile.
        hidden: sizes of the hidden layers.
        latent_size: width of z; 0 leaves z out.
        step_size: width of ``v_t``.
        entries: whether profiles come as ``Entries``, else dense.
    """

    def __init__(self, n_items: int, hidden: Sequence[int], latent_size: int, step_size: int, entries: bool = False):
        super().__init__()
        self.latent_size = latent_size
        self.step_embedding = StepEmbedding(step_size)
        sizes = [*hidden, n_items]
        first = (EntryInput if entries else DenseInput)(1, n_items, latent_size + step_size, sizes[0])
        self.layers = mlp_after(first, sizes)

    def forward(self, x_t: Tensor | Entries, z: Tensor, t: Tensor, positions: Positions | None = None) -> Tensor:
        """Maps a state, z ``(B, latent_size)`` and t ``(B,)`` to profiles ``(B, I)``, or to ``(n, 1)`` at positions."""
        first, *others = self.layers
        hidden = first([x_t], [z, self.step_embedding(t)])
        if positions is None or not others:
            for layer in others:
                hidden = layer(hidden)
            return hidden if positions is None else hidden[positions].unsqueeze(-1)
        for layer in others[:-1]:
            hidden = layer(hidden)
        (row, column), last = positions, cast(nn.Linear, others[-1])
        product = (embedding(row, hidden) * embedding(column, last.weight)).sum(dim=-1)
        return (product + last.bias[column]).unsqueeze(-1)


class Critic(nn.Module):
    """``D(x_{t-1}, x_t, t)``: a score per pair, low for real pairs (section 3.2)."""

    def __init__(self, n_items: int, hidden: Sequence[int], step_size: int, entries: bool = False):
        super().__init__()
        self.step_embedding = StepEmbedding(step_size)
        sizes = [*hidden, 1]
        first = (EntryInput if entries else DenseInput)(2, n_items, step_size, sizes[0])
        self.layers = mlp_after(first, sizes)

    def forward(self, x_tm1: Tensor | Entries, x_t: Tensor | Entries, t: Tensor) -> Tensor:
        """Maps two states of ``B`` users and their steps ``(B,)`` to scores ``(B,)``."""
        first, *others = self.layers
        score = first([x_tm1, x_t], [self.step_embedding(t)])
        for layer in others:
            score = layer(score)
        return score.squeeze(-1)
