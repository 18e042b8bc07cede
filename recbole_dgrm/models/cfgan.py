"""CFGAN: collaborative filtering by vector-wise adversarial training (Chae et al. 2018).

The generator G maps a condition (the profile, with ratings divided by the top of the scale) to a whole
profile, without noise. The discriminator D tells real profiles from masked generated ones, given the
condition. In each epoch some unrated items of every user are drawn anew: zero-reconstruction (ZR) pushes
their predictions to 0, partial-masking (PM) leaves them visible to D, and ZP does both with independent draws.

The model is degenerate by design: the condition is its own target, so a copy of it would be perfect
(Perez Maurera, Ferrari Dacrema and Cremonesi, ECIR 2022).
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
        """Draw new negatives, which depend on user and epoch only, so that all passes of an epoch share them."""
        self.epoch = epoch

    def phases(self) -> list[Phase]:
        """The generator trains first, then the discriminator, as in CFGAN's algorithm."""
        o = self.options
        g, d = list(self.generator.parameters()), list(self.discriminator.parameters())
        d_rate = o.discriminator_learning_rate
        return [
            Phase("generator", g, self.generator_loss, o.generator_iterations, o.learning_rate),
            Phase("discriminator", d, self.discriminator_loss, o.discriminator_iterations, d_rate),
        ]

    def negatives(self, user: Tensor, rated: Tensor, stream: int) -> Tensor:
        """A mask ``(B, I)`` of ``n_negatives`` unrated items per user, or of all if there are fewer."""
        key = self.row_noise(user, self.width, 2 * self.epoch + stream).masked_fill(rated.bool(), torch.inf)
        count = min(self.options.n_negatives, self.width)
        drawn = torch.zeros_like(rated).scatter_(1, key.topk(count, largest=False).indices, 1.0)
        return drawn * (1 - rated)

    def zero_reconstructed(self, user: Tensor, rated: Tensor) -> Tensor | float:
        """The mask ``(B, I)`` of the ZR draw of this epoch, or 0 without ZR."""
        return self.negatives(user, rated, 0) if self.options.negatives in ("ZR", "ZP") else 0.0

    def visible(self, user: Tensor, rated: Tensor) -> Tensor:
        """The mask ``(B, I)`` of what D sees of a profile: the rated items and the PM draw of this epoch."""
        return rated + (self.negatives(user, rated, 1) if self.options.negatives in ("PM", "ZP") else 0.0)

    def _profiles(self, user: Tensor) -> tuple[Tensor, Tensor]:
        row, column, value = self.entries(user)
        condition = self.dense(len(user), row, column, value / self.top)
        return condition, self.dense(len(user), row, column, 1.0)

    def discriminate(self, condition: Tensor, profile: Tensor) -> Tensor:
        """The logits ``(B,)`` of D, which are high for real profiles."""
        return self.discriminator(torch.cat([condition, profile], dim=-1)).squeeze(-1)

    def discriminator_loss(self, interaction) -> Tensor:
        """The binary cross-entropy of D, summed over the batch."""
        user = interaction[self.USER_ID]
        condition, rated = self._profiles(user)
        with torch.no_grad():
            fake = torch.sigmoid(self.generator(condition)) * self.visible(user, rated)
        return losses.discriminator_loss(self.discriminate(condition, condition), self.discriminate(condition, fake))

    def generator_loss(self, interaction) -> Tensor:
        """The non-saturating adversarial loss plus the zero-reconstruction, summed over the batch."""
        user = interaction[self.USER_ID]
        condition, rated = self._profiles(user)
        predicted = torch.sigmoid(self.generator(condition))
        loss = losses.non_saturating_loss(self.discriminate(condition, predicted * self.visible(user, rated)))
        zero = (predicted.square() * self.zero_reconstructed(user, rated)).sum()
        return loss + self.options.zero_weight * zero

    @torch.no_grad()
    def score_profiles(self, user: Tensor) -> Tensor:
        """Predicted ratings ``(B, I)``, between 0 and the top of the scale."""
        return self.top * torch.sigmoid(self.generator(self._profiles(user)[0]))
