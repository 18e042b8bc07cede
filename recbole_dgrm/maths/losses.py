"""Losses as pure functions of tensors, each a **sum** over the rows of the batch.

The DGRM paper and the authors' code have sums. So the relative weight of two losses does not depend on the
batch size, but the relative weight of Adam's weight decay decreases with the batch size.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

Rows = Callable[[Tensor], Tensor]  # rows (B, H) to a number each, (B,)
TINY = 1e-30  # smallest argument of the square root, whose derivative is infinite at 0


def critic_loss(real: Tensor, fake: Tensor) -> Tensor:
    """The critic's Wasserstein loss ``sum D(real) - sum D(fake)``; a trained critic gives real pairs low scores.

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
    """The generator's loss ``-sum log sigma(D(fake))``; its gradients do not vanish if the discriminator is certain."""
    return softplus(-fake).sum()


def masked_squared_error(x_0_hat: Tensor, x_0: Tensor, mask: Tensor) -> Tensor:
    """The reconstruction error ``sum |(x_0_hat - x_0) * mask|^2``."""
    return ((x_0_hat - x_0) * mask).square().sum()


def squares(rows: Tensor) -> Tensor:
    """The squared norm of each row, ``(B,)``."""
    return rows.square().sum(dim=-1)


def gradient_penalty(score: Rows, real: Tensor, fake: Tensor, squared_norm: Rows = squares) -> Tensor:
    """The penalty ``sum (|grad score| - 1)^2`` at random points between real and fake (Gulrajani et al. 2017).

    Args:
        score: maps points ``(B, H)`` to scores ``(B,)``.
        real, fake: ``(B, H)``.
        squared_norm: maps gradients with respect to the points, ``(B, H)``, to the squared norms ``(B,)`` that are
            penalized. If the points are linear functions of an input, it can be the norm of the gradient with respect
            to that input.
    """
    share = torch.rand(len(real), 1, device=real.device)
    norm = squared_norm(_gradient(score, share * real + (1 - share) * fake)).clamp(min=TINY).sqrt()
    return (norm - 1).square().sum()


def r1_penalty(score: Rows, real: Tensor, squared_norm: Rows = squares) -> Tensor:
    """The penalty ``sum |grad score|^2 / 2`` at the real points (Mescheder et al. 2018); see ``gradient_penalty``."""
    return squared_norm(_gradient(score, real)).sum() / 2


def _gradient(score: Rows, point: Tensor) -> Tensor:
    """The gradient of each score with respect to its point, which is treated as a constant of the parameters."""
    point = point.detach().requires_grad_(True)
    (gradient,) = torch.autograd.grad(score(point).sum(), point, create_graph=True)
    return gradient
