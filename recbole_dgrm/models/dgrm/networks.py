"""The networks of DGRM: forward passes only (paper, sections 3.1 and 3.2; sizes of the authors' code)."""

import math
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, embedding_bag, linear

from recbole_dgrm.maths.layers import mlp_after
from recbole_dgrm.models.dgrm.profiles import Entries, Places


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


class DenseInput(nn.Linear):
    """A linear layer over whole profiles and what stands beside them."""

    def __init__(self, n_profiles: int, n_items: int, beside: int, size: int):
        super().__init__(n_profiles * n_items + beside, size)

    # It reads what EntryInput reads, not what a linear layer does.
    def forward(self, profiles: Sequence[Tensor], beside: Sequence[Tensor]) -> Tensor:  # type: ignore[override]
        """``(B, I)`` each, and ``(B, ...)`` each, to ``(B, size)``."""
        return super().forward(torch.cat([*profiles, *beside], dim=-1))


class EntryInput(nn.Module):
    """The same layer for profiles of few entries: its cost goes by their number, not by users x items.

    Drawn as ``DenseInput`` draws its weights; a row of ``items`` belongs to an item.
    """

    def __init__(self, n_profiles: int, n_items: int, beside: int, size: int):
        super().__init__()
        whole = nn.Linear(n_profiles * n_items + beside, size)
        of_items, of_rest = whole.weight.detach().split([n_profiles * n_items, beside], dim=1)
        self.items = nn.ParameterList(
            nn.Parameter(part.t().contiguous()) for part in of_items.split(n_items, dim=1)
        )  # fmt: skip
        self.rest, self.bias = nn.Parameter(of_rest.contiguous()), whole.bias

    def forward(self, profiles: Sequence[Entries], beside: Sequence[Tensor]) -> Tensor:
        """Entries of ``n_rows`` profiles each, and ``(n_rows, ...)`` each, to ``(n_rows, size)``."""
        total = linear(torch.cat(list(beside), dim=-1), self.rest, self.bias)
        for weight, entries in zip(self.items, profiles, strict=True):
            total = total + _sum_of_rows(weight, entries)
        return total


def _sum_of_rows(weight: Tensor, entries: Entries) -> Tensor:
    """``profiles @ weight``, ``(n_rows, size)``."""
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
        entries: whether states are ``Entries``, else dense.
    """

    def __init__(self, n_items: int, hidden: Sequence[int], latent_size: int, step_size: int, entries: bool = False):
        super().__init__()
        self.step_embedding = StepEmbedding(step_size)
        sizes = [*hidden, n_items]
        first = (EntryInput if entries else DenseInput)(1, n_items, latent_size + step_size, sizes[0])
        self.layers = mlp_after(first, sizes)

    def forward(self, x_t: Tensor | Entries, z: Tensor, t: Tensor, places: Places | None = None) -> Tensor:
        """A state, ``(B, latent_size)``, ``(B,)`` to the profile ``(B, I)``, or ``(n, 1)`` of it at places."""
        first, *others = self.layers
        hidden = first([x_t], [z, self.step_embedding(t)])
        if places is None or not others:
            for layer in others:
                hidden = layer(hidden)
            return hidden if places is None else hidden[places].unsqueeze(-1)
        for layer in others[:-1]:
            hidden = layer(hidden)
        (row, column), last = places, cast(nn.Linear, others[-1])
        at_places = (embedding(row, hidden) * embedding(column, last.weight)).sum(dim=-1)
        return (at_places + last.bias[column]).unsqueeze(-1)


class Critic(nn.Module):
    """``D(x_{t-1}, x_t, t)``: a score per pair, low for real pairs (section 3.2, Eq. 21)."""

    def __init__(self, n_items: int, hidden: Sequence[int], step_size: int, entries: bool = False):
        super().__init__()
        self.step_embedding = StepEmbedding(step_size)
        sizes = [*hidden, 1]
        first = (EntryInput if entries else DenseInput)(2, n_items, step_size, sizes[0])
        self.layers = mlp_after(first, sizes)

    def forward(self, x_tm1: Tensor | Entries, x_t: Tensor | Entries, t: Tensor) -> Tensor:
        """States of ``B`` users and their steps ``(B,)`` to scores ``(B,)``."""
        first, *others = self.layers
        score = first([x_tm1, x_t], [self.step_embedding(t)])
        for layer in others:
            score = layer(score)
        return score.squeeze(-1)
