"""BMF: Bayesian matrix factorization with features of what was rated. Its equations are in ``gibbs.py``.

No sweep is selected on validation, but a run with a refit samples two chains of the same length: one for the validation
result, and one for the test result. A refit that goes on from the last state of the first chain is less accurate: on
five splits of ML-100K the RMSE is higher by 0.003 to 0.008 with 100 sweeps, and by 0.004 to 0.010 with 50. The average
over sweeps needs sweeps that differ, and those of a new chain differ most.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from recbole_dgrm.errors import OptionError
from recbole_dgrm.maths.sparse import Places
from recbole_dgrm.models.base import ProfileRecommender
from recbole_dgrm.models.bmf.factorization import Factorization, Sampling
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
                "BMF is a model of ratings, and with feedback=implicit there are none; use DGRMPlus or MF"
            )
        o, sweeps = read(BMFOptions, config), config.run.epochs
        if o.burn_in >= sweeps:
            raise OptionError(f"burn_in={o.burn_in} leaves none of epochs={sweeps}; lower it or raise epochs")
        every = None if o.keep_every == "auto" else o.keep_every
        how = Sampling(o.factors, o.implicit, o.components, o.chains, o.burn_in, sweeps, every, seed=config.run.seed)
        self.factorization = Factorization(self.rating_matrix(), how)

    def sweep(self) -> float:
        """Sweep every chain once, and return the standard deviation of a rating's noise, averaged over chains."""
        return self.factorization.sweep()

    def set_users(self) -> None:
        """Compute the rows of the users of the profiles, given the items of the kept sweeps."""
        self.factorization.set_users(self.rating_matrix())

    @torch.no_grad()
    def score_profiles(self, user: Tensor) -> Tensor:
        """Predicted ratings ``(B, I)``."""
        return self.factorization.ratings(user)

    @torch.no_grad()
    def score_at(self, user: Tensor, places: Places) -> Tensor:
        """Predicted ratings ``(n,)`` at ``places``."""
        return self.factorization.ratings_at(user, places)

    @torch.no_grad()
    def deviations(self, user: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The standard deviations ``(n,)`` of the ratings that ``score_pairs`` predicts, with the noise of a rating."""
        rated = self.pairs_of(user)
        return self.in_order(user, row, column, lambda at: self.factorization.deviations_at(user, at, rated))
