"""PRGAN: personalised recommendation with a conditional GAN (Wen et al. 2022; the authors' ICDM 2021 code).

A training sample is a record of ``k`` items of a user: the first ``p`` are rated, beginning with the item of
the record's rating, and the others are not. The generator G is a matrix factorization that scores the k items,
without noise. A second factorization, the memory, computes the condition of the critic D. It learns from D's
loss and gets G's weights whenever G ranks better on validation. D reads the 2 x k image of memory scores and
real or generated vector with three parallel convolutions and estimates a Wasserstein distance. The real
vector has the ratings of the rated items and 0 for the others.

Deviations from the paper
    * The adversarial loss alone does not determine the rating scale; so a reconstruction loss of the p rated
      items is added (``reconstruction_weight``), and scores include the mean rating and an item bias.
    * The authors' code clips weights at 0.006, and appendix A of the DGRM paper searches a gradient penalty;
      ``lipschitz`` has both.
"""

import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn

from recbole_dgrm.errors import OptionError
from recbole_dgrm.maths import losses
from recbole_dgrm.maths.layers import clip_weights
from recbole_dgrm.models.base import Phase, ProfileRecommender
from recbole_dgrm.options import read


@dataclass(frozen=True)
class PRGANOptions:
    """Keys of ``properties/model/PRGAN.yaml``, where each is explained."""

    embedding_size: PositiveInt
    rated_items: PositiveInt
    record_items: Annotated[int, Field(ge=2)]
    reconstruction_weight: NonNegativeFloat
    adversarial_weight: NonNegativeFloat
    lipschitz: Literal["weight_clipping", "gradient_penalty"]
    weight_clip: PositiveFloat
    lipschitz_weight: NonNegativeFloat
    pretrain_epochs: NonNegativeInt
    generator_iterations: PositiveInt
    critic_iterations: PositiveInt
    learning_rate: PositiveFloat
    critic_learning_rate: PositiveFloat
    center: Literal["none", "bias"]

    def __post_init__(self) -> None:
        if self.rated_items > self.record_items:
            raise OptionError(
                f"rated_items={self.rated_items} is out of range; allowed: 1..record_items={self.record_items}"
            )


class BiasedFactorization(nn.Module):
    """A matrix factorization with item biases that scores user-item pairs by ``mean + b_i + p_u . q_i``."""

    def __init__(self, n_users: int, n_items: int, size: int, mean: float):
        super().__init__()
        self.user = nn.Embedding(n_users, size)
        self.item = nn.Embedding(n_items, size)
        self.item_bias = nn.Embedding(n_items, 1)
        self.mean = nn.Parameter(torch.tensor(mean))
        nn.init.normal_(self.user.weight, std=0.1)
        nn.init.normal_(self.item.weight, std=0.1)
        nn.init.zeros_(self.item_bias.weight)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """Maps users ``(B,)`` and items ``(B, k)``, which are columns from 0, to scores ``(B, k)``."""
        product = (self.user(user).unsqueeze(1) * self.item(item)).sum(dim=-1)
        return self.mean + self.item_bias(item).squeeze(-1) + product


class ImageCritic(nn.Module):
    """Three parallel convolutions over the 2 x k image of condition and vector, then two linear layers."""

    def __init__(self, k: int, channels: int = 3, dropout: float = 0.6):
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Sequential(nn.Conv2d(1, channels, kernel), nn.BatchNorm2d(channels), nn.ReLU())
            for kernel in ((2, 1), (1, 2), (2, 2))
        )
        self.layers = nn.Sequential(
            nn.Linear(channels * (4 * k - 3), 3 * k), nn.ReLU(), nn.Dropout(dropout), nn.Linear(3 * k, 1)
        )

    def forward(self, condition: Tensor, vector: Tensor) -> Tensor:
        """Maps conditions ``(B, k)`` and vectors ``(B, k)`` to scores ``(B,)``."""
        image = torch.stack([condition, vector], dim=1).unsqueeze(1)
        features = [convolution(image).flatten(1) for convolution in self.convolutions]
        return self.layers(torch.cat(features, dim=-1)).squeeze(-1)


class PRGAN(ProfileRecommender):
    """A conditional Wasserstein GAN over records of k items, whose critic scores real records low."""

    Options = PRGANOptions
    takes_new_users = False
    undivided = "its critic normalizes over the records of a whole batch"
    best_score: Tensor

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        o = self.options = read(PRGANOptions, config)
        self.center = self.centered(config)
        mean = 0.0 if self.implicit else float(self._value.mean())
        self.generator = BiasedFactorization(self.n_users, self.width, o.embedding_size, mean)
        self.memory = copy.deepcopy(self.generator)
        self.critic = ImageCritic(o.record_items)
        self.register_buffer("best_score", torch.tensor(-torch.inf))
        owner = torch.repeat_interleave(torch.arange(self.n_users), torch.diff(self._indptr))
        self.register_buffer("_pairs", owner * self.width + self._column, persistent=False)  # sorted: row by row
        self._pairs, order = torch.sort(self._pairs)
        self.register_buffer("_pair_value", self._value[order], persistent=False)

    def phases(self) -> list[Phase]:
        """D and the memory train from the first epoch on, G after the pre-training of D."""
        o = self.options
        learners = [*self.critic.parameters(), *self.memory.parameters()]
        clip = partial(clip_weights, self.critic, o.weight_clip) if o.lipschitz == "weight_clipping" else None
        g = list(self.generator.parameters())
        critic = Phase("critic", learners, self.critic_loss, o.critic_iterations, o.critic_learning_rate, clip)
        generator = Phase("generator", g, self.generator_loss, o.generator_iterations, o.learning_rate)
        return [critic, replace(generator, from_epoch=o.pretrain_epochs)]

    def end_epoch(self, score: float | None) -> None:
        """Replace the memory by G when G ranks better on validation; without validation, after every epoch."""
        if score is None or score > float(self.best_score):
            self.memory.load_state_dict(self.generator.state_dict())
            if score is not None:
                self.best_score.fill_(score)

    def records(self, user: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The records of users ``(B,)``: owner ``(R,)``, items, real vectors and rated mask, all ``(R, k)``.

        There is one record per training rating. It has the rating's item, ``p - 1`` of the user's rated items sampled
        with replacement, and ``k - p`` of all items; rated ones among the latter are resampled up to twice.
        """
        o = self.options
        places, _ = self.rated(user)
        row, column = places.row, places.column
        owner, count = user[row], self.activity(user)[row]
        start = self._indptr[owner].unsqueeze(-1)
        drawn = start + (torch.rand(len(row), o.rated_items - 1, device=row.device) * count).long()
        rated = torch.cat([column.unsqueeze(-1), self._column[drawn]], dim=-1)
        other = torch.randint(self.width, (len(row), o.record_items - o.rated_items), device=row.device)
        for _ in range(2):
            _, known = self._look_up(owner, other)
            other = torch.where(known, torch.randint_like(other, self.width), other)
        items = torch.cat([rated, other], dim=-1)
        real, known = self._look_up(owner, items)
        return owner, items, real, known.float()

    def _look_up(self, owner: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
        """The ratings ``(R, k)`` of the items, 0 where unrated, and whether they are rated."""
        wanted = owner.unsqueeze(-1) * self.width + items
        position = torch.searchsorted(self._pairs, wanted).clamp(max=len(self._pairs) - 1)
        known = self._pairs[position] == wanted
        return self._pair_value[position] * known, known

    def critic_loss(self, interaction) -> Tensor:
        """The Wasserstein loss of critic and memory: its mean over the records, times the users of the batch."""
        owner, items, real, known = self.records(interaction[self.USER_ID])
        with torch.no_grad():
            fake = self.generator(owner, items) * known
        condition = self.memory(owner, items)

        def score(vector: Tensor) -> Tensor:
            return self.critic(condition, vector)

        loss = losses.critic_loss(score(real), score(fake))
        if self.options.lipschitz == "gradient_penalty":
            loss = loss + self.options.lipschitz_weight * losses.gradient_penalty(score, real, fake)
        return loss * len(interaction[self.USER_ID]) / len(owner)

    def generator_loss(self, interaction) -> Tensor:
        """The critic's score of the generated vectors plus the masked reconstruction, scaled like the critic's loss."""
        owner, items, real, known = self.records(interaction[self.USER_ID])
        predicted = self.generator(owner, items)
        with torch.no_grad():
            condition = self.memory(owner, items)
        adversarial = losses.generator_loss(self.critic(condition, predicted * known))
        loss = self.options.adversarial_weight * adversarial
        loss = loss + self.options.reconstruction_weight * losses.masked_squared_error(predicted, real, known)
        return loss * len(interaction[self.USER_ID]) / len(owner)

    @torch.no_grad()
    def score_profiles(self, user: Tensor) -> Tensor:
        """The scores ``(B, I)`` that G gives to all items."""
        generator = self.generator
        scores = generator.user(user) @ generator.item.weight.T
        return generator.mean + generator.item_bias.weight.T + scores + self.center.rows(user)
