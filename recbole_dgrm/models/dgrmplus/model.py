"""DGRMPlus: DGRM over item profiles with the mask as an input, blended with another model.

Nothing here is in the paper. DGRMPlus differs from DGRM by its defaults and in three ways:

*Item profiles* (``orientation: item``): a profile has the ratings of an item by all users, so a user's scores are one
entry of each item's predicted profile. All items are predicted once and cached until the weights change. Only the last
hidden layer is cached: a score is the dot product of an item's hidden vector with the user's output weights.

*The mask* (``mask_channel``): the generator also reads which entries of the profile are rated.

*Blending* (``blend``): a prediction is a weighted mean of the network's and another model's. For ratings the other
model is a Bayesian factorization (``models/bmf/``), for implicit feedback a ridge regression on a user's other items,
and then the scores of both are standardised per user.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor

from recbole_dgrm.errors import OptionError
from recbole_dgrm.maths.biases import Center
from recbole_dgrm.maths.layers import KeptOutputs, Outputs
from recbole_dgrm.maths.sparse import Places
from recbole_dgrm.models.base import ProfileRecommender
from recbole_dgrm.models.bmf.factorization import Factorization, Sampling
from recbole_dgrm.models.dgrm.model import DGRM
from recbole_dgrm.models.dgrm.networks import Generator
from recbole_dgrm.models.dgrm.noise import GivenRows
from recbole_dgrm.models.dgrm.options import DGRMOptions
from recbole_dgrm.models.dgrm.profiles import State
from recbole_dgrm.models.dgrmplus.ridge import MOST_ITEMS, ItemRidge
from recbole_dgrm.options import Share

BURN_IN = 15  # first sweeps of a chain of the factorization, which are not used
START = 0.5  # the share of the other model before it is chosen
STEP = 0.1
SHARES = [round(STEP * step, 6) for step in range(11)]
ITEMS = 1024  # item profiles that are predicted at once
TINY = 1e-12


@dataclass(frozen=True)
class DGRMPlusOptions(DGRMOptions):
    """Keys of ``properties/model/DGRMPlus.yaml``: those of DGRM, and more."""

    orientation: Literal["user", "item"]
    mask_channel: bool
    blend: Share | Literal["auto"]
    blend_factors: PositiveInt
    blend_components: PositiveInt
    blend_chains: PositiveInt
    blend_sweeps: Annotated[int, Field(gt=BURN_IN)]
    blend_ridge: PositiveFloat

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.orientation == "item" and self.prediction == "posterior":
            raise OptionError(
                "prediction=posterior needs orientation=user: with item profiles it would need the states of all items"
            )


class MaskGenerator(Generator):
    """A generator that also reads the mask of the state."""

    n_states = 2

    def inputs(self, x_t: State) -> list[State]:
        """The profile-wide inputs: the state and its mask."""
        return [x_t, mask_of(x_t)]


def mask_of(state: State) -> State:
    """1 / sqrt(number of places of the row) at all places, even if their value is hidden."""
    one = torch.ones_like(state.value)
    return State(state.places, one) / state.places.sums(one).clamp(min=1).sqrt()


class DGRMPlus(DGRM):
    """DGRM over item or user profiles, blended with another model.

    Attributes:
        share: the share of the other model in a prediction, from 0 to 1.
        other: the model to blend with, or None.
    """

    Options = DGRMPlusOptions
    options: DGRMPlusOptions
    share: Tensor
    other: Any  # a Factorization or an ItemRidge

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.rating_field = config["RATING_FIELD"]
        self.takes_new_users = self.other is not None or not self.by_item
        self._kept = KeptOutputs()

    def new_generator(self, latent_size: int) -> Generator:
        """The untrained generator. With implicit feedback it does not read the mask, which is its target."""
        o = self.options
        kind = MaskGenerator if o.mask_channel and not self.implicit else Generator
        return kind(self.width, o.generator_hidden, latent_size, o.step_embedding_size)

    def centered(self, config) -> Center:
        """The centre of ratings; the other model is made before profiles become residuals to it."""
        o = self.options
        self.other = self._other_model(config) if o.blend else None
        self.register_buffer("share", torch.tensor(START if o.blend == "auto" else float(o.blend)))
        return super().centered(config)

    def _other_model(self, config) -> Factorization | ItemRidge:
        o, ratings = self.options, self.rating_matrix()
        if not self.implicit:
            numbers = o.blend_factors, "both", o.blend_components, o.blend_chains, BURN_IN, o.blend_sweeps, None
            return Factorization(ratings, Sampling(*numbers, seed=config.run.seed))
        if ratings.shape[1] > MOST_ITEMS:
            raise OptionError(
                f"blend={o.blend} inverts a matrix of items x items with implicit feedback, and there are "
                f"{ratings.shape[1]} items, more than {MOST_ITEMS}; set blend=0"
            )
        return ItemRidge(ratings, o.blend_ridge)

    def begin_epoch(self, epoch: int) -> None:
        """Fit the other model before the first epoch."""
        if isinstance(self.other, Factorization):
            while self.other.sweeps < self.other.how.sweeps:
                self.other.sweep()
        elif self.other:
            self.other.solve()

    def set_users(self) -> None:
        """Compute the centre and the other model for new users.

        With item profiles the generator has no weights for new users, so only the other model predicts.
        """
        if self.other:
            self.other.set_users(self.rating_matrix())
        if self.by_item:
            self.share.fill_(1.0)
        super().set_users()

    # The share is chosen on validation.

    def choose(self, valid_data, score: Callable[[], float]) -> None:
        """Choose the share of the other model on validation.

        For ratings it is the share with the smallest squared error. For implicit feedback it is the share with the best
        validation score among the current one and those a ``STEP`` above and below.
        """
        if self.options.blend != "auto":
            return
        share = self.share
        if self.implicit:
            near = {round(share.item() + step, 6) for step in (-STEP, 0.0, STEP)} & set(SHARES)
            share.fill_(max(sorted(near), key=lambda value: (share.fill_(value), score())[1]))
        else:
            share.fill_(self._best_share(valid_data))

    @torch.no_grad()
    def _best_share(self, valid_data) -> float:
        """The share that minimises the squared error of rated pairs."""
        product = square = 0.0
        self.eval()
        for pairs, *_ in valid_data:
            pairs = pairs.to(self.device)
            rating, ends = pairs[self.rating_field].double(), []
            for share in (0.0, 1.0):
                self.share.fill_(share)
                ends.append(self.predict(pairs).double())
            product += ((rating - ends[0]) * (ends[1] - ends[0])).sum().item()
            square += (ends[1] - ends[0]).square().sum().item()
        return min(1.0, max(0.0, product / square)) if square else START

    def chosen(self) -> dict[str, float]:
        """The share from ``choose``."""
        return {"share": self.share.item()} if self.options.blend == "auto" else {}

    def adopt(self, chosen: dict[str, float]) -> None:
        """Use the share that another model has ``chosen``."""
        if "share" in chosen:
            self.share.fill_(chosen["share"])

    # Prediction from item profiles, and blending.

    def predicted(self, user: Tensor) -> Outputs | GivenRows:
        """The predicted profiles of users ``(B,)``; zeros if only the other model predicts."""
        if self.share == 1:
            one = self.row_noise.pool.new_zeros
            return Outputs(one(len(user), 1), one(self.n_items - 1, 1), one(self.n_items - 1))
        return self._transposed(user - 1) if self.by_item else super().predicted(user)

    def _transposed(self, row: Tensor) -> Outputs:
        """``x_0_hat`` of all items at the users' entries ``(B,)`` of their profiles, as user profiles ``(B, I)``."""
        return self._kept(self.predictor, self._of_items).columns(row).transposed()

    def _of_items(self) -> Outputs:
        """``x_0_hat`` of all items for all users, computed in blocks of items."""
        ids = torch.arange(1, self.n_items, device=self._indptr.device)
        parts: list[Any] = [self.sampler(block).predict() for block in ids.split(ITEMS)]
        return replace(parts[0], hidden=torch.cat([part.hidden for part in parts]))

    def entry(self, user: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """The profile ids of pairs, and the pairs' entries in these profiles, ``(n,)`` each."""
        return (column + 1, user - 1) if self.by_item else (user, column)

    def complete(self, user: Tensor, x_0_hat: Tensor) -> Tensor:
        """The blended scores ``(B, I)`` of users ``(B,)``, from predicted profiles."""
        network = super().complete(user, x_0_hat)
        if not self.share:
            return network
        other = self.other.ratings(user)
        if self.implicit:
            network, other = _standardised(network), _standardised(other)
        return torch.lerp(network, other, self.share)

    def complete_pairs(self, user: Tensor, column: Tensor, x_0_hat: Tensor) -> Tensor:
        """The blended ratings ``(n,)`` of pairs, from their entries of predicted profiles."""
        network = super().complete_pairs(user, column, x_0_hat)
        if not self.share:
            return network
        users, row = torch.unique(user, return_inverse=True)
        other = self.in_order(users, row, column, lambda places: self.other.ratings_at(users, places))
        return torch.lerp(network, other, self.share)

    @torch.no_grad()
    def score_at(self, user: Tensor, places: Places) -> Tensor:
        """Predicted ratings ``(n,)`` at ``places``; to standardise scores per user all items are predicted."""
        if self.implicit and self.share:
            return ProfileRecommender.score_at(self, user, places)
        return super().score_at(user, places)

    @torch.no_grad()
    def deviations(self, user: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The standard deviations ``(n,)`` of the ratings that ``score_pairs`` predicts.

        If blended with a factorization, they are those of the factorization, with the noise of a rating, whatever its
        share. Network and factorization make nearly the same errors, so averaging hardly reduces the uncertainty, and
        the spread of the network's samples leaves out the noise of a rating.
        """
        if not (isinstance(self.other, Factorization) and self.share):
            return super().deviations(user, row, column)
        factorization, rated = self.other, self.pairs_of(user)
        return self.in_order(user, row, column, lambda places: factorization.deviations_at(user, places, rated))


def _standardised(score: Tensor) -> Tensor:
    """Scores ``(B, I)`` with mean 0 and standard deviation 1 in each row."""
    return (score - score.mean(dim=1, keepdim=True)) / score.std(dim=1, keepdim=True).clamp(min=TINY)
