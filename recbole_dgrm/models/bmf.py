"""BMF: Bayesian matrix factorization whose rows know what was rated, see ``recbole_dgrm.maths.gibbs``."""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from recbole_dgrm.errors import OptionError
from recbole_dgrm.maths.factorization import Factorization, Sampling
from recbole_dgrm.models.base import ProfileRecommender
from recbole_dgrm.options import read


@dataclass(frozen=True)
class BMFOptions:
    """Keys of ``properties/model/BMF.yaml``, where each is explained."""

    factors: PositiveInt
    implicit: Literal["both", "user", "item", "none"]
    components: PositiveInt
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
        how = Sampling(*numbers, seed=config.run.seed)
        self.factorization = Factorization(self.rating_matrix(), how)

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
