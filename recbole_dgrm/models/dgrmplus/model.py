"""DGRMPlus: DGRM with a network over items that reads which entries are rated, blended with another model.

Nothing here is in the paper. DGRMPlus differs from DGRM by its defaults and in three ways:

*Profiles of items* (``orientation: item``): a profile is what an item has from all users, so a user's scores are one
entry of each item's predicted profile. All items are predicted once and kept until the weights change. As the output
layer is linear, only its inputs are kept; a score is the product of an item's inputs with the user's output weights.

*The mask* (``mask_channel``): the generator also reads which entries of the profile are rated.

*Blending* (``blend``): a share of a prediction is that of another model. Of ratings this is a Bayesian factorization
(``models/bmf/``), of implicit feedback a ridge regression on a user's other items, with the scores of both
standardised per user.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from recbole_dgrm.errors import OptionError
from recbole_dgrm.maths.biases import Center
from recbole_dgrm.maths.layers import Outputs
from recbole_dgrm.models.base import ProfileRecommender
from recbole_dgrm.models.bmf.factorization import Factorization, Sampling
from recbole_dgrm.models.dgrm.model import DGRM
from recbole_dgrm.models.dgrm.networks import Generator
from recbole_dgrm.models.dgrm.noise import GivenRows
from recbole_dgrm.models.dgrm.options import DGRMOptions
from recbole_dgrm.models.dgrm.profiles import State
from recbole_dgrm.models.dgrmplus.ridge import MOST_ITEMS, ItemRidge
from recbole_dgrm.options import Share

BURN_IN = 15  # first sweeps of a chain of the factorization, which do not count
START = 0.5  # the share of the other model before it is chosen
STEP = 0.1
SHARES = [round(STEP * step, 6) for step in range(11)]
ITEMS = 1024  # profiles of items that are predicted at once
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
                "prediction=posterior needs orientation=user: a state of few users would be one of all items otherwise"
            )


class MaskGenerator(Generator):
    """A generator that also reads the mask of the state."""

    n_states = 2

    def inputs(self, x_t: State) -> list[State]:
        """What the generator reads of profiles: the state and its mask."""
        return [x_t, mask_of(x_t)]


def mask_of(state: State) -> State:
    """1 at all places, also where a value is left out, divided by the root of the row's number of places."""
    one = torch.ones_like(state.value)
    return State(state.places, one) / state.places.sums(one).clamp(min=1).sqrt()


class DGRMPlus(DGRM):
    """DGRM over items or users, blended with another model.

    Attributes:
        share: the share of the other model in a prediction, from 0 to 1.
        other: the model to blend with; None without.
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
        """The untrained generator. Of implicit feedback the mask would be all there is to predict, so it reads none."""
        o = self.options
        kind = MaskGenerator if o.mask_channel and not self.implicit else Generator
        return kind(self.width, o.generator_hidden, latent_size, o.step_embedding_size)

    def centered(self, config) -> Center:
        """The centre of ratings. Before profiles become residuals to it, the other model gets the ratings."""
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
                f"blend={o.blend} inverts a matrix of items x items under implicit feedback, and there are "
                f"{ratings.shape[1]} items, more than {MOST_ITEMS}; set blend=0"
            )
        return ItemRidge(ratings, o.blend_ridge)

    def begin_epoch(self, epoch: int) -> None:
        """Sample or solve the other model before the first epoch."""
        if isinstance(self.other, Factorization):
            while self.other.sweeps < self.other.how.sweeps:
                self.other.sweep()
        elif self.other:
            self.other.solve()

    def set_users(self) -> None:
        """Solve the centre and the other model for users who were not there in training.

        The generator of items' profiles has no weights for new users, so they get the other model alone.
        """
        if self.other:
            self.other.set_users(self.rating_matrix())
        if self.by_item:
            self.share.fill_(1.0)
        super().set_users()

    # The share is chosen on validation.

    def choose(self, valid_data, score: Callable[[], float]) -> None:
        """Choose the share of the other model on validation.

        Of ratings it is the share with the least squared error there. Of implicit feedback it moves by at most a step
        of ``STEP``, to where the score is best.
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
        """The share that ``choose`` has chosen."""
        return {"share": self.share.item()} if self.options.blend == "auto" else {}

    def adopt(self, chosen: dict[str, float]) -> None:
        """Take over the share that another model has ``chosen``."""
        if "share" in chosen:
            self.share.fill_(chosen["share"])

    # Prediction: of profiles of items, and blended.

    def predicted(self, user: Tensor) -> Outputs | GivenRows:
        """The predicted profiles of users ``(B,)``; zeros where the other model alone predicts."""
        if self.share == 1:
            one = self.row_noise.pool.new_zeros
            return Outputs(one(len(user), 1), one(self.n_items - 1, 1), one(self.n_items - 1))
        return self._transposed(user - 1) if self.by_item else super().predicted(user)

    def _transposed(self, row: Tensor) -> Outputs:
        """``x_0_hat`` of all items, at the entries ``(B,)`` of their profiles that belong to users: ``(B, I)``."""
        items = self._kept(self.generator, self._of_items)
        return replace(items, weight=items.weight[row], bias=items.bias[row]).transposed()

    def _of_items(self) -> Outputs:
        """``x_0_hat`` of all items at all users, some items at a time."""
        ids = torch.arange(1, self.n_items, device=self._indptr.device)
        parts: list[Any] = [self.sampler(block).predict() for block in ids.split(ITEMS)]
        return replace(parts[0], hidden=torch.cat([part.hidden for part in parts]))

    def entry(self, user: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """For pairs ``(n,)`` the id of the profile that has the rating, and its place in the profile, ``(n,)`` each."""
        return (column + 1, user - 1) if self.by_item else (user, column)

    def complete(self, user: Tensor, x_0_hat: Tensor) -> Tensor:
        """The scores ``(B, I)`` of users ``(B,)`` that follow from predicted profiles, blended."""
        network = super().complete(user, x_0_hat)
        if not self.share:
            return network
        other = self.other.ratings(user)
        if self.implicit:
            network, other = _standardised(network), _standardised(other)
        return torch.lerp(network, other, self.share)

    def complete_pairs(self, user: Tensor, column: Tensor, x_0_hat: Tensor) -> Tensor:
        """The ratings ``(n,)`` of pairs that follow from their entries of predicted profiles, blended."""
        network = super().complete_pairs(user, column, x_0_hat)
        if not self.share:
            return network
        users, row = torch.unique(user, return_inverse=True)
        other = self.in_order(users, row, column, lambda places: self.other.ratings_at(users, places))
        return torch.lerp(network, other, self.share)

    @torch.no_grad()
    def score_pairs(self, user: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Predicted ratings ``(n,)`` of single items; scores that are standardised per user need the other items."""
        if self.implicit and self.share:
            return ProfileRecommender.score_pairs(self, user, row, column)
        return super().score_pairs(user, row, column)

    @torch.no_grad()
    def deviations(self, user: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The standard deviations ``(n,)`` of the ratings that ``score_pairs`` predicts.

        Blended with a factorization they are those of the factorization, errors of rating included, whatever its
        share. Network and factorization make nearly the same errors, so their mean is hardly surer than one of them,
        and the network's draws leave errors of rating out.
        """
        if not (isinstance(self.other, Factorization) and self.share):
            return super().deviations(user, row, column)
        factorization, rated = self.other, self.pairs_of(user)
        return self.in_order(user, row, column, lambda places: factorization.deviations_at(user, places, rated))


def _standardised(score: Tensor) -> Tensor:
    """Scores ``(B, I)`` with mean 0 and standard deviation 1 in each row."""
    return (score - score.mean(dim=1, keepdim=True)) / score.std(dim=1, keepdim=True).clamp(min=TINY)


class KeptOutputs:
    """The predicted profiles of all items, kept until a parameter of the network changes.

    Parameters are compared with copies: their version counters do not count the steps of fused optimizers.
    """

    def __init__(self) -> None:
        self._kept: tuple[Any, list[Tensor], Any] = None, [], None  # one object, which threads replace as a whole

    def __call__(self, network: nn.Module, compute: Callable[[], Outputs]) -> Outputs:
        """What ``compute()`` gives, or has given with these parameters on this device in this precision."""
        parameters = [parameter.detach() for parameter in network.parameters()]
        device = parameters[0].device
        mode = device, torch.is_autocast_enabled(device.type)
        kept_mode, copies, value = self._kept
        if mode != kept_mode or not all(map(torch.equal, parameters, copies)):
            value = compute()
            self._kept = mode, [parameter.clone() for parameter in parameters], value
        return value

    def __deepcopy__(self, memo: dict) -> "KeptOutputs":
        return type(self)()
