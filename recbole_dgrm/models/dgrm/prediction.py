"""How a trained DGRM predicts: ratings of users from the profiles that the backward process gives (section 3.3)."""

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch import Tensor

from recbole_dgrm.maths.biases import Center
from recbole_dgrm.maths.layers import Outputs
from recbole_dgrm.maths.noise import RowNoise
from recbole_dgrm.maths.sparse import Places
from recbole_dgrm.models.base import BLOCK, ProfileRecommender
from recbole_dgrm.models.dgrm.diffusion import DiffusionChain
from recbole_dgrm.models.dgrm.networks import Generator
from recbole_dgrm.models.dgrm.noise import Factors, GivenRows
from recbole_dgrm.models.dgrm.options import DGRMOptions
from recbole_dgrm.models.dgrm.profiles import State
from recbole_dgrm.models.dgrm.sampling import Sampler


class ChainRecommender(ProfileRecommender):
    """A model that predicts profiles by the backward process of a chain.

    Attributes:
        options: the keys of the model.
        chain: the forward chain and its posterior.
        generator: the generator that learns.
        average: the generator with averaged weights (torch's ``AveragedModel``), or None.
        row_noise: the source of the noise and of z at prediction.
        factors: a cache for the products of noise and weights.
        center: the centre of the ratings.
        mean_count: the mean number of rated entries of the training profiles.
        by_ratings: whether ``step_cost`` is ratings, so that gradients are sparse.
    """

    options: DGRMOptions
    chain: DiffusionChain
    generator: Generator
    average: Any
    row_noise: RowNoise
    factors: Factors
    center: Center
    mean_count: float
    by_ratings: bool

    def set_users(self) -> None:
        """Compute the centre of new users."""
        self.recenter(self.center)

    def x_0(self, ids: Tensor) -> State:
        """The clean profiles with the ids ``(B,)``.

        That of a user without ratings is empty, and its prediction is not replaced by the centre: the RMSE for such
        users is 1.040 on ML-100K and .985 on ml-latest-small, that of a constant centre 1.120 and 1.033.
        """
        places, value = self.rated(ids)
        return State(replace(places, row_gradients=self.by_ratings), value)

    @property
    def predictor(self) -> Any:
        """The generator that predicts: that of the averaged weights if there is one."""
        return self.average.module if self.average else self.generator

    def sampler(self, ids: Tensor) -> Sampler:
        """The sampler that predicts the profiles with the distinct ids ``(B,)``."""
        factor = cache(self.factors)  # during a prediction the weights do not change
        return Sampler(
            self.options, self.chain, self.predictor, self.row_noise, factor, self.mean_count, ids, self.x_0(ids)
        )

    def predicted(self, user: Tensor) -> Outputs | GivenRows:
        """The predicted profiles of users ``(B,)``, the mean of ``prediction_draws`` samples."""
        return self.sampler(user).predict()

    def complete(self, user: Tensor, x_0_hat: Tensor) -> Tensor:
        """The ratings ``(B, I)`` of users ``(B,)`` from predicted profiles ``(B, I)``."""
        return x_0_hat.float() + self.center.rows(user)

    def complete_pairs(self, user: Tensor, column: Tensor, x_0_hat: Tensor) -> Tensor:
        """The ratings ``(n,)`` of pairs from their entries ``(n,)`` of predicted profiles."""
        return x_0_hat.float() + self.center.pairs(user, column)

    @torch.no_grad()
    def score_profiles(self, user: Tensor) -> Tensor:
        """Predicted ratings ``(B, I)``."""
        return self.complete(user, self.predicted(user).dense())

    @torch.no_grad()
    def score_at(self, user: Tensor, places: Places) -> Tensor:
        """Predicted ratings ``(n,)`` at ``places``; ``prediction: posterior`` has to predict whole profiles."""
        if self.options.prediction == "posterior":
            return super().score_at(user, places)
        return self.complete_pairs(user[places.row], places.column, self.predicted(user).at(places))

    @torch.no_grad()
    def walk(self, user: Tensor, column: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The ratings of pairs of a user and an item column after T' = 0, 1, ..., T steps (section 4.4.2, Fig. 7).

        Yields:
            The ratings from ``x_{T-T'}`` and from the last ``x_0_hat``, both ``(n,)``; see ``Sampler.walk``.
        """
        walked = self.row_noise.pool.new_empty(self.options.noise_steps + 1, 2, len(user))
        for ids, here, at in self._by_profile(user, column, self.width):
            for step, states in enumerate(self.sampler(ids).walk()):
                walked[step, :, here] = torch.stack([state[at.row, at.column] for state in states])
        for by_state, by_x_0_hat in walked:
            yield self.complete_pairs(user, column, by_state), self.complete_pairs(user, column, by_x_0_hat)

    @torch.no_grad()
    def deviations(self, user: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The standard deviations ``(n,)`` of the ratings that ``score_pairs`` predicts.

        They are the standard deviations of predictions with different z and noise of the profile, and do not include
        the noise of a rating.
        """
        spread = self.row_noise.pool.new_empty(len(row))
        held = self.width if self.options.prediction == "posterior" else max(self.options.generator_hidden)
        for ids, here, at in self._by_profile(user[row], column, held):
            spread[here] = self.sampler(ids).spread(at).float()
        return spread

    def entry(self, user: Tensor, column: Tensor) -> tuple[Tensor, Tensor]:
        """The profile ids of pairs, and the pairs' entries in these profiles, ``(n,)`` each."""
        return user, column

    def _by_profile(self, user: Tensor, column: Tensor, held: int) -> Iterator[tuple[Tensor, Tensor, Places]]:
        """Blocks of profiles with their pairs of a user and an item column; a profile needs ``held`` numbers of memory.

        Yields:
            The profile ids ``(B,)``, the indices of their pairs, and the places of these pairs in ``(B, width)``.
        """
        profile, entry = self.entry(user, column)
        ids, index = torch.unique(profile, return_inverse=True)
        size = max(1, BLOCK // held)
        count = torch.bincount(index // size).tolist()  # pairs in each block
        for block, here in zip(ids.split(size), torch.argsort(index, stable=True).split(count), strict=True):
            yield block, here, Places(len(block), self.width, index[here] % size, entry[here])
