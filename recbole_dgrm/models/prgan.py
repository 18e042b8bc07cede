"""PRGAN: personalised recommendation with a conditional GAN (Wen et al. 2022; the authors' ICDM 2021 code).

A training sample is a record of ``k`` items of a user: the first ``p`` are rated, beginning with the item of
the record's rating, and the others are not. The generator G is a matrix factorization that scores the k items,
without noise. A second factorization, the memory, computes the condition of the critic D. It learns from D's
loss. After each validation the better of both predicts, and the memory gets G's weights if that is G. D reads the
2 x k image of memory scores and real or generated vector with three parallel convolutions and estimates a
Wasserstein distance. The real vector has the ratings of the rated items and 0 for the others.

Deviations from the paper
    * The adversarial loss alone does not determine the rating scale; so a reconstruction loss of the p rated
      items is added (``reconstruction_weight``), and scores include the mean rating and an item bias.
    * The authors' code clips weights at 0.006, and appendix A of the DGRM paper searches a gradient penalty;
      ``lipschitz`` has both.
    * The authors' code alternates D and G after each batch, and draws the rated items of a record without replacement.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import unfold

from recbole_dgrm.errors import OptionError
from recbole_dgrm.maths import losses
from recbole_dgrm.maths.layers import Outputs, UniformDropout, clip_weights
from recbole_dgrm.maths.sparse import Places
from recbole_dgrm.models.base import Phase, ProfileRecommender
from recbole_dgrm.options import CenterKind, read


@dataclass(frozen=True)
class PRGANOptions:
    """Keys of ``properties/model/PRGAN.yaml``, where each is explained."""

    embedding_size: PositiveInt
    rated_items: PositiveInt
    record_items: Annotated[int, Field(ge=2)]
    critic_input: Literal["all", "rated"]
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
    center: CenterKind

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
        nn.init.normal_(self.user.weight, std=0.01)
        nn.init.normal_(self.item.weight, std=0.01)
        nn.init.zeros_(self.item_bias.weight)

    def forward(self, user: Tensor) -> Outputs:
        """The scores ``(B, I)`` of users ``(B,)``."""
        return Outputs(self.user(user), self.item.weight, self.item_bias.weight.squeeze(-1) + self.mean)


class ImageCritic(nn.Module):
    """Three parallel convolutions over the 2 x k image of condition and vector, then two linear layers.

    Convolutions and batch normalizations are computed together as one product with a matrix. A channel's mean and
    variance over a batch follow from the mean and the covariance of the 2k numbers of an image.
    """

    def __init__(self, k: int, channels: int = 3, dropout: float = 0.6):
        super().__init__()
        self.convolutions = nn.ModuleList(
            nn.Sequential(nn.Conv2d(1, channels, kernel), nn.BatchNorm2d(channels))
            for kernel in ((2, 1), (1, 2), (2, 2))
        )
        self.layers = nn.Sequential(
            nn.Linear(channels * (4 * k - 3), 3 * k), nn.ReLU(), UniformDropout(dropout), nn.Linear(3 * k, 1)
        )

    def forward(self, condition: Tensor, vector: Tensor) -> Tensor:
        """Maps conditions ``(B, k)`` and vectors ``(B, k)`` to scores ``(B,)``."""
        image = torch.cat([condition, vector], dim=-1)
        mean = image.mean(dim=0)
        image = image - mean
        covariance = image.T @ image / len(image)
        parts = [self._normalized(*layers, mean, covariance, len(image)) for layers in self.convolutions]
        weight, bias = (torch.cat(part, dim=-1) for part in zip(*parts, strict=True))
        return self.layers(torch.addmm(bias, image, weight)).squeeze(-1)

    def _normalized(self, convolution, norm, mean: Tensor, covariance: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """A normalized convolution of images minus their mean, as a matrix ``(2k, F)`` and a bias ``(F,)``.

        Args:
            mean, covariance: of the ``n`` images of the batch, ``(2k,)`` and ``(2k, 2k)``.
        """
        pixels = torch.eye(len(mean), device=mean.device).view(-1, 1, 2, len(mean) // 2)
        patches = unfold(pixels, convolution.kernel_size)  # without a gradient, so faster than a convolution
        weight = convolution.weight.flatten(1) @ patches  # from each pixel to each channel and position
        means = torch.tensordot(mean, weight, dims=1) + convolution.bias.unsqueeze(-1)
        center, variance = norm.running_mean, norm.running_var
        if self.training:
            variances = (weight * torch.tensordot(covariance, weight, dims=1)).sum(dim=0)
            center, variance = means.mean(dim=-1), variances.mean(dim=-1) + means.var(dim=-1, correction=0)
            count = n * means.shape[-1]
            norm.running_mean.lerp_(center.detach(), norm.momentum)
            norm.running_var.lerp_(variance.detach() * count / (count - 1), norm.momentum)
            norm.num_batches_tracked += 1
        scale = (norm.weight / (variance + norm.eps).sqrt()).unsqueeze(-1)
        bias = norm.bias.unsqueeze(-1) + (means - center.unsqueeze(-1)) * scale
        return (weight * scale).flatten(1), bias.flatten()


class PRGAN(ProfileRecommender):
    """A conditional Wasserstein GAN over records of k items, whose critic scores real records low."""

    Options = PRGANOptions
    takes_new_users = False
    undivided = "its critic normalizes over the records of a whole batch"
    by_memory: Tensor
    replaced: Tensor

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        o = self.options = read(PRGANOptions, config)
        self.center = self.centered(config)
        mean = 0.0 if self.implicit else float(self._value.mean())
        self.generator = BiasedFactorization(self.n_users, self.width, o.embedding_size, mean)
        self.memory = copy.deepcopy(self.generator)
        self.critic = ImageCritic(o.record_items)
        self.register_buffer("by_memory", torch.tensor(False))
        self.register_buffer("replaced", torch.tensor(torch.inf))

    def phases(self) -> list[Phase]:
        """D and the memory train from the first epoch on, G after the pre-training of D."""
        o = self.options
        learners = [*self.critic.parameters(), *self.memory.parameters()]
        clip = partial(clip_weights, self.critic, o.weight_clip) if o.lipschitz == "weight_clipping" else None
        g = list(self.generator.parameters())
        critic = Phase("critic", learners, self.critic_loss, o.critic_iterations, o.critic_learning_rate, clip)
        generator = Phase("generator", g, self.generator_loss, o.generator_iterations, o.learning_rate)
        return [critic, replace(generator, from_epoch=o.pretrain_epochs)]

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False):
        """Load a state; in version 0.2.0 G always predicted."""
        state = {"by_memory": torch.tensor(False), "replaced": torch.tensor(torch.inf), **state_dict}
        state.pop("best_score", None)
        return super().load_state_dict(state, strict, assign)

    def begin_epoch(self, epoch: int) -> None:
        """Note the epoch."""
        self.epoch = epoch

    def choose(self, valid_data, score: Callable[[], float]) -> None:
        """Predict by the memory if it has a better validation score than G."""
        scores = [(self.by_memory.fill_(by_memory), score())[1] for by_memory in (False, True)]
        self.by_memory.fill_(scores[1] > scores[0])

    def end_epoch(self, score: float | None) -> None:
        """Replace the memory by G if G predicts; a refit does so as long as the selecting training did."""
        if score is None:
            self.by_memory.fill_(self.epoch > self.replaced)
        else:
            self.replaced.fill_(min(self.replaced.item(), self.epoch - 1) if self.by_memory else self.epoch)
        if not self.by_memory:
            self.memory.load_state_dict(self.generator.state_dict())

    def chosen(self) -> dict[str, float]:
        """The last epoch after which G replaced the memory."""
        return {"replaced": self.replaced.item()}

    def adopt(self, chosen: dict[str, float]) -> None:
        """Replace the memory up to the epoch that another model has ``chosen``."""
        self.replaced.fill_(chosen["replaced"])

    def records(self, user: Tensor) -> tuple[Places, Tensor, Tensor]:
        """The records of users ``(B,)``: the places of their items ``(R k,)``, real vectors and rated mask, ``(R, k)``.

        There is one record per training rating. It has the rating's item, ``p - 1`` of the user's rated items sampled
        with replacement, and ``k - p`` of all items; rated ones among the latter are resampled up to twice.
        """
        o, (rated, value) = self.options, self.rated(user)
        row, start = rated.row.unsqueeze(-1), rated.row_start[rated.row].unsqueeze(-1)
        drawn = torch.rand(len(row), o.rated_items - 1, device=row.device) * self.activity(user)[rated.row]
        own = torch.arange(len(row), device=row.device).unsqueeze(-1)
        entry = torch.cat([own, start + drawn.long()], dim=-1)
        other = torch.randint(self.width, (len(row), o.record_items - o.rated_items), device=row.device)
        key, order = torch.sort(rated.row * self.width + rated.column)

        def find(row: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
            """The ratings of items, 0 where unrated, and whether they are rated."""
            wanted = row * self.width + items
            position = torch.searchsorted(key, wanted).clamp(max=len(key) - 1)
            known = key[position] == wanted
            return value[order[position]] * known, known

        rating, known = find(row, other)
        for _ in range(2):
            again = known.nonzero(as_tuple=True)
            other[again] = torch.randint(self.width, again[0].shape, device=row.device)
            rating[again], known[again] = find(rated.row[again[0]], other[again])
        items = torch.cat([rated.column[entry], other], dim=-1)
        places = Places(len(user), self.width, row.expand_as(items).flatten(), items.flatten())
        known = torch.cat([torch.ones_like(entry, dtype=torch.bool), known], dim=-1)
        return places, torch.cat([value[entry], rating], dim=-1), known.float()

    def seen(self, generated: Tensor, known: Tensor) -> Tensor:
        """What D reads of generated vectors ``(R, k)``; with ``critic_input: rated`` unrated items are 0."""
        return generated if self.options.critic_input == "all" else generated * known

    def critic_loss(self, interaction) -> Tensor:
        """The Wasserstein loss of critic and memory: its mean over the records, times the users of the batch."""
        user = interaction[self.USER_ID]
        places, real, known = self.records(user)
        with torch.no_grad():
            fake = self.seen(self.generator(user).at(places).view_as(real), known)
        condition = self.memory(user).at(places).view_as(real)

        def score(vector: Tensor) -> Tensor:
            return self.critic(condition, vector)

        loss = losses.critic_loss(score(real), score(fake))
        if self.options.lipschitz == "gradient_penalty":
            loss = loss + self.options.lipschitz_weight * losses.gradient_penalty(score, real, fake)
        return loss * len(user) / len(real)

    def generator_loss(self, interaction) -> Tensor:
        """The critic's score of the generated vectors plus the masked reconstruction, scaled like the critic's loss."""
        user = interaction[self.USER_ID]
        places, real, known = self.records(user)
        predicted = self.generator(user).at(places).view_as(real)
        with torch.no_grad():
            condition = self.memory(user).at(places).view_as(real)
        adversarial = losses.generator_loss(self.critic(condition, self.seen(predicted, known)))
        loss = self.options.adversarial_weight * adversarial
        loss = loss + self.options.reconstruction_weight * losses.masked_squared_error(predicted, real, known)
        return loss * len(user) / len(real)

    @torch.no_grad()
    def score_profiles(self, user: Tensor) -> Tensor:
        """The scores ``(B, I)`` of all items."""
        return self._outputs(user).dense() + self.center.rows(user)

    @torch.no_grad()
    def score_at(self, user: Tensor, places: Places) -> Tensor:
        """The scores ``(n,)`` at ``places``."""
        return self._outputs(user).at(places) + self.center.at(user, places)

    def _outputs(self, user: Tensor) -> Outputs:
        return (self.memory if self.by_memory else self.generator)(user)
