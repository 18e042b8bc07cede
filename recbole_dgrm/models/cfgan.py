"""CFGAN: collaborative filtering by vector-wise adversarial training (Chae et al. 2018).

G maps a condition (the profile, ratings divided by the top of the scale) to a whole profile, without
noise; D tells real masked profiles from generated ones given the condition. Of every user some unrated
items are drawn anew each epoch: zero-reconstruction (ZR) pushes theirs to 0, partial-masking (PM) leaves
theirs visible to D; ZP is both, drawn independently.

Degenerate by design: the condition is its own target, so copying it would be perfect (Perez Maurera,
Ferrari Dacrema and Cremonesi, ECIR 2022).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from recbole_dgrm.errors import DataError
from recbole_dgrm.maths import losses
from recbole_dgrm.maths.layers import mlp
from recbole_dgrm.maths.noise import RowNoise
from recbole_dgrm.models.base import Phase, ProfileRecommender
from recbole_dgrm.options import read


@dataclass(frozen=True)
class CFGANOptions:
    """Keys of ``properties/model/CFGAN.yaml``, where each is explained."""

    negatives: Literal["ZR", "PM", "ZP", "none"]
    n_negatives: PositiveInt
    zero_weight: NonNegativeFloat
    generator_hidden: list[PositiveInt]
    discriminator_hidden: list[PositiveInt]
    generator_iterations: PositiveInt
    discriminator_iterations: PositiveInt
    learning_rate: PositiveFloat
    discriminator_learning_rate: PositiveFloat


class CFGAN(ProfileRecommender):
    """Conditional GAN over rating profiles."""

    Options = CFGANOptions

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        o = self.options = read(CFGANOptions, config)
        self.top = 1.0
        if not self.implicit:
            low, self.top = self.scale.low, self.scale.high
            if low < 0:
                raise DataError(
                    f"CFGAN predicts between 0 and the highest rating, and rating_scale={[low, self.top]} begins below "
                    "0: add a constant to all ratings, or take another model"
                )
        self.generator = mlp([self.width, *o.generator_hidden, self.width], nn.Sigmoid)
        self.discriminator = mlp([2 * self.width, *o.discriminator_hidden, 1], nn.Sigmoid)
        self.row_noise = RowNoise(config["seed"], self.width, self.device)
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """New negatives: they depend on user and epoch alone, so all passes of an epoch share them."""
        self.epoch = epoch

    def phases(self) -> list[Phase]:
        """Generator first, then discriminator, as CFGAN's algorithm."""
        o = self.options
        return [
            Phase("generator", list(self.generator.parameters()), self.generator_loss, o.generator_iterations,
                  o.learning_rate),
            Phase("discriminator", list(self.discriminator.parameters()), self.discriminator_loss,
                  o.discriminator_iterations, o.discriminator_learning_rate),
        ]  # fmt: skip

    def negatives(self, user: Tensor, rated: Tensor, stream: int) -> Tensor:
        """Mask ``(B, I)`` of ``n_negatives`` unrated items per user (all, where there are fewer)."""
        key = self.row_noise(user, self.width, 2 * self.epoch + stream).masked_fill(rated.bool(), torch.inf)
        count = min(self.options.n_negatives, self.width)
        drawn = torch.zeros_like(rated).scatter_(1, key.topk(count, largest=False).indices, 1.0)
        return drawn * (1 - rated)

    def zero_reconstructed(self, user: Tensor, rated: Tensor) -> Tensor | float:
        """ZR mask ``(B, I)`` of this epoch; 0 without ZR."""
        return self.negatives(user, rated, 0) if self.options.negatives in ("ZR", "ZP") else 0.0

    def visible(self, user: Tensor, rated: Tensor) -> Tensor:
        """Rated items plus the PM draw, ``(B, I)``: what D sees of a profile."""
        return rated + (self.negatives(user, rated, 1) if self.options.negatives in ("PM", "ZP") else 0.0)

    def _profiles(self, user: Tensor) -> tuple[Tensor, Tensor]:
        row, column, value = self.entries(user)
        condition = self.dense(len(user), row, column, value / self.top)
        return condition, self.dense(len(user), row, column, 1.0)

    def discriminate(self, condition: Tensor, profile: Tensor) -> Tensor:
        """Logits ``(B,)``, high for real."""
        return self.discriminator(torch.cat([condition, profile], dim=-1)).squeeze(-1)

    def discriminator_loss(self, interaction) -> Tensor:
        """Binary cross-entropy, summed over the batch."""
        user = interaction[self.USER_ID]
        condition, rated = self._profiles(user)
        with torch.no_grad():
            fake = torch.sigmoid(self.generator(condition)) * self.visible(user, rated)
        return losses.discriminator_loss(self.discriminate(condition, condition), self.discriminate(condition, fake))

    def generator_loss(self, interaction) -> Tensor:
        """Non-saturating adversarial loss plus zero reconstruction, summed over the batch."""
        user = interaction[self.USER_ID]
        condition, rated = self._profiles(user)
        predicted = torch.sigmoid(self.generator(condition))
        loss = losses.non_saturating_loss(self.discriminate(condition, predicted * self.visible(user, rated)))
        zero = (predicted.square() * self.zero_reconstructed(user, rated)).sum()
        return loss + self.options.zero_weight * zero

    @torch.no_grad()
    def score_profiles(self, user: Tensor) -> Tensor:
        """Predicted ratings ``(B, I)`` in 0..top of the scale."""
        return self.top * torch.sigmoid(self.generator(self._profiles(user)[0]))
