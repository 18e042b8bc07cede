"""Losses as pure functions of tensors, each a **sum** over the rows of the batch.

The DGRM paper prints sums, and the authors' code has them. The weight of one loss against another does not
depend on the batch size then, but the weight decay of Adam counts less in larger batches.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

Score = Callable[[Tensor], Tensor]
TINY = 1e-30  # keeps the square root away from 0, where its derivative is infinite


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The critic's Wasserstein loss ``sum D(real) - sum D(fake)``: a trained critic scores real pairs low.

    Its negative, divided by the batch size, estimates the Wasserstein distance.
    """
    return real.sum() - fake.sum()


def generator_loss(fake: Tensor) -> Tensor:
    """The generator's Wasserstein loss ``sum D(fake)``."""
    return fake.sum()


def discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The cross-entropy ``-sum log sigma(D(real)) - sum log(1 - sigma(D(fake)))`` of logits, high for real (Eq. 5)."""
    return softplus(-real).sum() + softplus(fake).sum()


def non_saturating_loss(fake: Tensor) -> Tensor:
    """The generator's loss ``-sum log sigma(D(fake))``, whose gradients do not vanish when the discriminator wins."""
    return softplus(-fake).sum()


def masked_squared_error(x_0_hat: Tensor, x_0: Tensor, mask: Tensor) -> Tensor:
    """The reconstruction error ``sum |(x_0_hat - x_0) * mask|^2``."""
    return ((x_0_hat - x_0) * mask).square().sum()


def gradient_penalty(score: Score, real: Tensor, fake: Tensor, row: Tensor | None = None) -> Tensor:
    """The penalty ``sum (|grad score| - 1)^2`` at random points between real and fake (Gulrajani et al. 2017).

    Args:
        row: the row ``(nnz,)`` of each entry, if real and fake are entries ``(nnz, 1)``; every row has one.
    """
    if row is None:
        share = torch.rand(len(real), 1, device=real.device)
        norm = _gradient(score, share * real + (1 - share) * fake).norm(dim=-1)
    else:
        share = torch.rand(int(row[-1]) + 1, 1, device=real.device)[row]
        square = _gradient(score, share * real + (1 - share) * fake).square().squeeze(-1)
        norm = square.new_zeros(int(row[-1]) + 1).index_add(0, row, square).clamp(min=TINY).sqrt()
    return (norm - 1).square().sum()


def r1_penalty(score: Score, real: Tensor) -> Tensor:
    """The penalty ``sum |grad score|^2 / 2`` at the real points (Mescheder et al. 2018)."""
    return _gradient(score, real).square().sum() / 2


def _gradient(score: Score, point: Tensor) -> Tensor:
    point = point.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(score(point).sum(), point, create_graph=True)
    return gradient
