"""CFGAN: collaborative filtering by vector-wise adversarial training (Chae et al. 2018).

The generator G maps a condition (the profile, with ratings divided by the top of the scale) to a whole
profile, without noise. The discriminator D distinguishes real profiles from masked generated ones, given the
condition. In each epoch unrated items of every user are sampled: zero-reconstruction (ZR) pushes their
predictions to 0, partial masking (PM) leaves them visible to D, and ZP does both with independent samples.

The model is degenerate by design: the condition is its own target, so copying it is optimal
(Perez Maurera, Ferrari Dacrema and Cremonesi, ECIR 2022).

Training computes profiles at rated and sampled items only. With a count of samples (``n_negatives``) no tensor of
users x items exists.

Deviations from the authors' code (Bigdasgit/CFGAN), whose form is in ``properties/model/authors/CFGAN.yaml``
    * Theirs is for implicit feedback. Our default for ratings has a sigmoid, G trains before D, a number of negatives
      is sampled per user, and rows are users.
    * D and G have one batch size and one weight decay, and weights start as PyTorch's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt
from torch import Tensor, nn

from recbole_dgrm.errors import DataError
from recbole_dgrm.maths import losses
from recbole_dgrm.maths.layers import KeptOutputs, Outputs, SparseLinear, layers_after
from recbole_dgrm.maths.noise import RowNoise
from recbole_dgrm.maths.sparse import Places, sparse_product
from recbole_dgrm.models.base import Phase, ProfileRecommender
from recbole_dgrm.options import read

LOW = 2.0  # about so many low keys per sampled column are looked up,
SPARE = 40  # and so many more, because some are excluded and their number varies
ROW_STEP = 64.0  # larger than any difference of two normal numbers in float32
WORTH = 0.25  # if the share of low keys is larger, reading all keys is cheaper


@dataclass(frozen=True)
class CFGANOptions:
    """Keys of ``properties/model/CFGAN.yaml``, where each is explained."""

    orientation: Literal["user", "item"]
    output: Literal["sigmoid", "linear"]
    first_phase: Literal["generator", "discriminator"]
    negatives: Literal["ZR", "PM", "ZP", "none"]
    n_negatives: PositiveInt | Annotated[float, Field(gt=0, le=0.99)]
    zero_weight: NonNegativeFloat
    generator_hidden: Annotated[list[PositiveInt], Field(min_length=1)]
    discriminator_hidden: list[PositiveInt]
    generator_iterations: PositiveInt
    discriminator_iterations: PositiveInt
    learning_rate: PositiveFloat
    discriminator_learning_rate: PositiveFloat


class Generator(nn.Module):
    """G: maps a condition to a profile, without the sigmoid of ``output: sigmoid``.

    Args:
        width: the length of a profile.
        hidden: sizes of the hidden layers, at least one.
    """

    def __init__(self, width: int, hidden: Sequence[int]):
        super().__init__()
        self.first = SparseLinear(width, hidden[0])
        self.hidden = nn.Sequential(*layers_after(hidden, nn.Sigmoid), nn.Sigmoid())
        self.output = nn.Linear(hidden[-1], width)

    def forward(self, places: Places, condition: Tensor) -> Outputs:
        """Maps conditions with the entries ``(nnz,)`` at ``places`` to profiles ``(B, I)``."""
        return Outputs.of(self.hidden(self.first(places, condition)), self.output)


class Discriminator(nn.Module):
    """D: a logit per condition and profile, high for real profiles. The first layer is a sum of a part for each."""

    def __init__(self, width: int, hidden: Sequence[int]):
        super().__init__()
        sizes = [*hidden, 1]
        first = nn.Linear(2 * width, sizes[0])
        condition, profile = (part.t().contiguous() for part in first.weight.detach().split(width, dim=1))
        self.condition, self.profile, self.bias = nn.Parameter(condition), nn.Parameter(profile), first.bias
        self.rest = nn.Sequential(*layers_after(sizes, nn.Sigmoid))

    def read(self, places: Places, condition: Tensor) -> Tensor:
        """The part of the first layer for conditions with the entries ``(nnz,)`` at ``places``, ``(B, H)``."""
        return sparse_product(places, condition, self.condition) + self.bias

    def forward(self, read: Tensor, places: Places, profile: Tensor) -> Tensor:
        """Maps results of ``read``, and profiles with the entries ``(n,)`` at ``places``, to logits ``(B,)``."""
        return self.rest(read + sparse_product(places, profile, self.profile)).squeeze(-1)


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
                    f"in CFGAN's profiles 0 is an unrated item, and rating_scale={[low, self.top]} begins below 0: add "
                    "a constant to all ratings, or use another model"
                )
        self.takes_new_users = not self.by_item
        self.activation = nn.Sigmoid() if o.output == "sigmoid" else nn.Identity()
        self.generator = Generator(self.width, o.generator_hidden)
        self.discriminator = Discriminator(self.width, o.discriminator_hidden)
        self.draw = LowestKeys(RowNoise(config["seed"], self.width, self.device), self.width, o.n_negatives)
        self._kept = KeptOutputs()
        self.begin_epoch(0)

    def begin_epoch(self, epoch: int) -> None:
        """Use new negatives, which depend only on profile and epoch, so that all passes of an epoch share them."""
        self.epoch = epoch

    def phases(self) -> list[Phase]:
        """Generator and discriminator train one after the other."""
        o = self.options
        g, d = list(self.generator.parameters()), list(self.discriminator.parameters())
        d_rate = o.discriminator_learning_rate
        phases = [
            Phase("generator", g, self.generator_loss, o.generator_iterations, o.learning_rate),
            Phase("discriminator", d, self.discriminator_loss, o.discriminator_iterations, d_rate),
        ]
        return phases if o.first_phase == "generator" else phases[::-1]

    def negatives(self, ids: Tensor, rated: Places, stream: int) -> Places:
        """The places of ``n_negatives`` unrated entries per profile, or of all if there are fewer."""
        return self.draw(ids, 2 * self.epoch + stream, rated)

    def zero_reconstructed(self, ids: Tensor, rated: Places) -> Places | None:
        """The places of the negatives for ZR in this epoch; None without ZR."""
        return self.negatives(ids, rated, 0) if self.options.negatives in ("ZR", "ZP") else None

    def visible(self, ids: Tensor, rated: Places) -> Places:
        """The places of a profile that D sees: the rated entries, and with PM the negatives for PM in this epoch."""
        return _joined(rated, self.negatives(ids, rated, 1)) if self.options.negatives in ("PM", "ZP") else rated

    def condition(self, ids: Tensor) -> tuple[Places, Tensor]:
        """The places of the ratings of profiles ``(B,)``, and these ratings divided by the highest, ``(nnz,)``."""
        places, value = self.rated(ids)
        return places, value / self.top

    def discriminator_loss(self, interaction) -> Tensor:
        """The binary cross-entropy of D, summed over the batch."""
        ids = interaction[self.row_field]
        rated, condition = self.condition(ids)
        visible = self.visible(ids, rated)
        with torch.no_grad():
            fake = self.activation(self.generator(rated, condition).at(visible))
        read = self.discriminator.read(rated, condition)
        real = self.discriminator(read, rated, condition)
        return losses.discriminator_loss(real, self.discriminator(read, visible, fake))

    def generator_loss(self, interaction) -> Tensor:
        """The non-saturating adversarial loss plus the zero-reconstruction, summed over the batch."""
        ids = interaction[self.row_field]
        rated, condition = self.condition(ids)
        visible, zero = self.visible(ids, rated), self.zero_reconstructed(ids, rated)
        predicted = self.generator(rated, condition)
        read = self.discriminator.read(rated, condition)
        fake = self.activation(predicted.at(visible))
        loss = losses.non_saturating_loss(self.discriminator(read, visible, fake))
        if zero is None:
            return loss
        return loss + self.options.zero_weight * self.activation(predicted.at(zero)).square().sum()

    @torch.no_grad()
    def score_profiles(self, user: Tensor) -> Tensor:
        """Predicted ratings ``(B, I)``; with ``output: sigmoid`` between 0 and the highest rating of the scale."""
        return self.top * self.activation(self._outputs(user).dense())

    @torch.no_grad()
    def score_at(self, user: Tensor, places: Places) -> Tensor:
        """Predicted ratings ``(n,)`` at ``places``, as in ``score_profiles``."""
        return self.top * self.activation(self._outputs(user).at(places))

    def _outputs(self, user: Tensor) -> Outputs:
        """G's outputs for users ``(B,)``, ``(B, I)``; with rows of items they are entries of all items' profiles."""
        if not self.by_item:
            return self.generator(*self.condition(user))
        items = torch.arange(1, self.n_items, device=user.device)
        outputs = self._kept(self.generator, lambda: self.generator(*self.condition(items)))
        return outputs.columns(user - 1).transposed()


def _joined(one: Places, other: Places) -> Places:
    """The places of both, sorted by row, with those of ``one`` first in each row."""
    first = torch.arange(len(one.row), device=one.row.device) + other.row_start[one.row]
    second = torch.arange(len(other.row), device=one.row.device) + one.row_start[other.row + 1]
    index = torch.cat([first, second])
    row = torch.empty_like(index).scatter_(0, index, torch.cat([one.row, other.row]))
    column = torch.empty_like(index).scatter_(0, index, torch.cat([one.column, other.column]))
    return Places(one.n_rows, one.n_columns, row, column)


class LowestKeys:
    """Samples ``count`` of ``width`` columns per row without replacement, in time proportional to ``count``.

    Every place has a random key, and the places with the lowest keys of a row are sampled. Low keys are rare, and their
    positions in the pool of noise are computed once. So sampling reads only the low keys, or all keys if a row has too
    few low ones.

    Args:
        noise: the source of the keys; each of its streams is another sample.
        count: the number of columns; if below 1, the share of the columns of a row that may be sampled.
    """

    def __init__(self, noise: RowNoise, width: int, count: float):
        self.noise, self.width, self.count = noise, width, count
        low = (LOW * count + SPARE) / width if count >= 1 else 1.0
        bound = torch.special.ndtri(torch.tensor(low)) if low < WORTH else -torch.inf
        self.low = torch.nonzero(noise.pool < bound).squeeze(-1)

    def __call__(self, row: Tensor, stream: int, without: Places) -> Places:
        """The sampled places of row ids ``(B,)``, by row and in the order of their keys.

        Args:
            without: distinct places that are not sampled. If a row has fewer than ``count`` others, all are sampled.
        """
        left = self.width - torch.diff(without.row_start)
        if self.count < 1:
            return self._of_all(row, stream, without, (self.count * left).round().long())
        drawn, wanted = self._of_low(row, stream, without), left.clamp(max=self.count)
        enough = torch.diff(drawn.row_start) >= wanted
        return drawn if enough.all() else self._of_all(row, stream, without, wanted)

    def _of_low(self, row: Tensor, stream: int, without: Places) -> Places:
        start = self.noise.start(row, stream)
        first, end = torch.searchsorted(self.low, start), torch.searchsorted(self.low, start + self.width)
        index = torch.repeat_interleave(torch.arange(len(row), device=row.device), end - first)
        before = torch.cumsum(end - first, 0) - end
        place = self.low[torch.arange(len(index), device=row.device) - before[index]]
        column = place - start[index]
        taken = without.row * self.width + without.column
        free = ~torch.isin(index * self.width + column, taken, assume_unique=True)
        index, column, key = index[free], column[free], self.noise.pool[place[free]]
        order = torch.argsort(index * ROW_STEP + key.double())  # by row, and by key within each row
        low = Places(len(row), self.width, index[order], column[order])
        lowest = torch.arange(len(order), device=row.device) - low.row_start[low.row] < self.count
        return Places(len(row), self.width, low.row[lowest], low.column[lowest])

    def _of_all(self, row: Tensor, stream: int, without: Places, wanted: Tensor) -> Places:
        key = self.noise(row, self.width, stream)
        key[without.row, without.column] = torch.inf
        column = key.topk(int(wanted.max()), largest=False).indices
        drawn = torch.arange(column.shape[1], device=row.device) < wanted.unsqueeze(-1)
        return Places(len(row), self.width, drawn.nonzero()[:, 0], column[drawn])
