"""BMF: Bayesian matrix factorization whose rows know what was rated, see ``recbole_dgrm.maths.gibbs``."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from pydantic import NonNegativeInt, PositiveInt
from recbole.data.interaction import Interaction
from recbole.utils import FeatureType
from torch import Tensor

from recbole_dgrm.errors import OptionError
from recbole_dgrm.maths.effects import Moments
from recbole_dgrm.maths.factorization import Factorization, Sampling
from recbole_dgrm.models.base import ProfileRecommender
from recbole_dgrm.options import read


@dataclass(frozen=True)
class BMFOptions:
    """Keys of ``properties/model/BMF.yaml``, where each is explained."""

    factors: PositiveInt
    implicit: Literal["both", "user", "item", "none"]
    components: PositiveInt
    side_features: list[str]
    time_effects: bool
    chains: PositiveInt
    burn_in: NonNegativeInt
    keep_every: PositiveInt | Literal["auto"]


class BMF(ProfileRecommender):
    """Bayesian matrix factorization by blocked Gibbs sampling; an epoch is a sweep.

    Args:
        config: RecBole config with every key of ``BMFOptions``.
        dataset: the training part of a RecBole data set.
    """

    Options = BMFOptions
    by_profiles = False

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        if self.implicit:
            raise OptionError(
                "BMF is a model of ratings, and with feedback=implicit there are none; take DGRMPlus or MF"
            )
        o = self.options = read(BMFOptions, config)
        if o.burn_in >= config.run.epochs:
            raise OptionError(
                f"burn_in={o.burn_in} leaves none of epochs={config.run.epochs}; lower it or raise epochs"
            )
        every = None if o.keep_every == "auto" else o.keep_every
        numbers = (o.factors, o.implicit, o.components, o.chains, o.burn_in, config.run.epochs, every)
        sides = _side_columns(dataset, "user", o.side_features), _side_columns(dataset, "item", o.side_features)
        self.time_field = config["TIME_FIELD"]
        moments = self._moments(dataset.inter_feat) if o.time_effects else None
        how = Sampling(*numbers, seed=config.run.seed)
        self.factorization = Factorization(self.rating_matrix(), how, sides, moments)

    def _moments(self, ratings: Interaction) -> Moments:
        """When the training ratings were given, in the order of their matrix."""
        if self.time_field not in ratings.columns:
            raise OptionError(f"time_effects needs the column {self.time_field}:float (TIME_FIELD), and there is none")
        user, item, time = (ratings[name].numpy() for name in (self.USER_ID, self.ITEM_ID, self.time_field))
        order = np.lexsort((item, user))
        return Moments(user[order], item[order], time[order].astype(np.float64))

    def predict(self, interaction) -> Tensor:
        """The predicted ratings ``(n,)`` of pairs; with ``time_effects`` at the pairs' own times, if they have any."""
        rating = super().predict(interaction)
        if not self.factorization.moments or self.time_field not in interaction.columns:
            return rating
        names = self.USER_ID, self.ITEM_ID, self.time_field
        user, item, time = (interaction[name].cpu().numpy() for name in names)
        added = self.factorization.effects_at(user, item, time.astype(np.float64))
        return rating + torch.as_tensor(added, dtype=rating.dtype, device=rating.device)

    def sweep(self) -> float:
        """Draw every chain anew once, and return the deviation of a rating's error in them."""
        return self.factorization.sweep()

    def set_users(self) -> None:
        """Solve the users of the profiles, given the items of the kept sweeps."""
        self.factorization.set_users(self.rating_matrix())

    @torch.no_grad()
    def score_profiles(self, user: Tensor) -> Tensor:
        """Predicted ratings ``(B, I)``."""
        return self.factorization.ratings(user)

    @torch.no_grad()
    def score_pairs(self, user: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Predicted ratings ``(n,)`` of single items."""
        places, order = self.by_user(len(user), row, column)
        return self.factorization.ratings_at(user, places)[torch.argsort(order)]

    @torch.no_grad()
    def deviations(self, user: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The standard deviations ``(n,)`` of the ratings that ``score_pairs`` predicts, errors of rating included."""
        places, order = self.by_user(len(user), row, column)
        return self.factorization.deviations_at(user, places, self.pairs_of(user))[torch.argsort(order)]

    def agreement(self) -> dict[str, float]:
        """How far the chains agree: the split R-hat of predictions."""
        return self.factorization.agreement()


def _side_columns(dataset, side: str, names: list[str]) -> sp.csr_matrix | None:
    """The columns among ``names`` of the file of users or of items, as features of rows; None if there are none.

    A text is a column for each of its values, several texts in a cell have the length 1 together, and numbers have
    mean 0 and deviation 1.
    """
    feat = dataset.user_feat if side == "user" else dataset.item_feat
    here = [name for name in names if feat is not None and name in feat.columns]
    parts = [_column(name, dataset.field2type[name], feat[name].numpy()) for name in here]
    first = 0 if side == "user" else 1  # profiles have the padding user, but not the padding item
    return sp.hstack(parts, format="csr")[first:] if parts else None


def _column(name: str, kind: FeatureType, value: NDArray) -> sp.csr_matrix:
    if kind == FeatureType.FLOAT:
        deviation = value[1:].std() or 1.0
        number = (value - value[1:].mean()) / deviation
        number[0] = 0
        return sp.csr_matrix(number[:, None])
    if kind == FeatureType.FLOAT_SEQ:
        raise OptionError(f"side_features: {name} is a column of lists of numbers; name columns of texts or of numbers")
    value = value.reshape(len(value), -1)
    row, place = np.nonzero(value)  # 0 is the padding
    count = np.bincount(row, minlength=len(value))
    one = 1 / np.sqrt(count[row])
    return sp.csr_matrix((one, (row, value[row, place])), (len(value), value.max() + 1))
