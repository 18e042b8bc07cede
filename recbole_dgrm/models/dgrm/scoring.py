"""Scores of users from the predicted profiles, which are those of users or of items (``orientation``).

A user's scores are the prediction of the user's profile. Where profiles are those of items, they are one entry of each,
so all items are predicted once: as the output layer is linear, no more is kept of that than its inputs, and a score is
the product of those of the item with the weights of the user.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from recbole_dgrm.maths.layers import Outputs
from recbole_dgrm.maths.noise import RowNoise
from recbole_dgrm.maths.sparse import Places
from recbole_dgrm.models.base import BLOCK, ProfileRecommender
from recbole_dgrm.models.dgrm.blend import ClosedForm
from recbole_dgrm.models.dgrm.diffusion import DiffusionChain
from recbole_dgrm.models.dgrm.networks import Generator
from recbole_dgrm.models.dgrm.noise import Factors
from recbole_dgrm.models.dgrm.options import DGRMOptions
from recbole_dgrm.models.dgrm.profiles import State
from recbole_dgrm.models.dgrm.sampling import Sampler

ITEMS = 1024  # profiles of items that are predicted at once


class ChainRecommender(ProfileRecommender):
    """A model that predicts profiles by a generator and a chain, completed by a closed form.

    Attributes:
        options, chain, generator, row_noise, factors: see ``Sampler``.
        closed_form: makes predicted residuals of users and items ratings.
        kept: the prediction of all items, where profiles are those of items.
    """

    options: DGRMOptions
    chain: DiffusionChain
    generator: Generator
    row_noise: RowNoise
    factors: Factors
    closed_form: ClosedForm
    kept: "Kept"

    def x_0(self, ids: Tensor) -> State:
        """The clean profiles with the ids ``(B,)``."""
        return State(*self.rated(ids))

    def sampler(self, ids: Tensor) -> Sampler:
        """Predicts the profiles with the distinct ids ``(B,)``."""
        return Sampler(self.options, self.chain, self.generator, self.row_noise, self.factors, ids, self.x_0(ids))

    @property
    def _of_whole_rows(self) -> bool:
        """Whether a prediction is made of all items at once: those of the literal posterior."""
        return self.options.prediction == "posterior"

    @torch.no_grad()
    def score_profiles(self, user: Tensor) -> Tensor:
        """Predicted ratings ``(B, I)``, the mean of ``prediction_draws`` draws."""
        if self.closed_form.alone:
            return self.closed_form.complete(user, self.row_noise.pool.new_zeros(len(user), self.n_items - 1))
        predicted = self.sampler(user) if self._of_whole_rows else self._outputs(user)
        return self.closed_form.complete(user, predicted.dense())

    @torch.no_grad()
    def score_pairs(self, user: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Predicted ratings ``(n,)`` of single items; only the literal posterior needs the others."""
        if self._of_whole_rows or self.closed_form.reads_rows:
            return super().score_pairs(user, row, column)
        places, order = self.by_user(len(user), row, column)
        alone = self.closed_form.alone
        x_0_hat = self.row_noise.pool.new_zeros(len(row)) if alone else self._outputs(user).at(places)
        ratings = self.closed_form.complete_at(user, places, x_0_hat)
        return ratings[torch.argsort(order)]

    @torch.no_grad()
    def walk(self, user: Tensor, column: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """For T' = 0, 1, ..., T the ratings of pairs of a user and an item's column (section 4.4.2, Fig. 7).

        Yields:
            The ratings by ``x_{T-T'}`` and by the last ``x_0_hat``, both ``(n,)``; see ``Sampler.walk``.
        """
        walked = self.row_noise.pool.new_empty(self.options.noise_steps + 1, 2, len(user))
        for ids, here, at in self._by_profile(user, column, self.width):
            for step, states in enumerate(self.sampler(ids).walk()):
                walked[step, :, here] = torch.stack([state[at.row, at.column] for state in states])
        distinct, row = torch.unique(user, return_inverse=True)
        places, order = self.by_user(len(distinct), row, column)
        back = torch.argsort(order)
        for states in walked[..., order]:
            by_state, by_x_0_hat = (self.closed_form.complete_at(distinct, places, each)[back] for each in states)
            yield by_state, by_x_0_hat

    @torch.no_grad()
    def deviations(self, user: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The standard deviations ``(n,)`` of the ratings that ``score_pairs`` predicts.

        Without a factorization to blend with they are the spread of predictions that are drawn anew, in z and in the
        noise of the profile, and nothing else: what the generative model says, to which no error of rating is added.

        With one they are those of the factorization, errors of rating included, whatever its share. The network errs
        about the same ratings in nearly the same way, so a mean of the two is hardly surer than the factorization
        alone, and the draws know no error of rating: the share of each would make the rating of a blend too sure.
        """
        places, order = self.by_user(len(user), row, column)
        known = self.closed_form.deviations_at(user, places, self.pairs_of(user))
        if known is not None:
            return known[torch.argsort(order)]
        found = self.row_noise.pool.new_empty(len(row))
        held = self.width if self._of_whole_rows else max(self.options.generator_hidden)
        for ids, here, at in self._by_profile(user[row], column, held):
            found[here] = self.sampler(ids).spread(at).float()
        return found

    def _by_profile(self, user: Tensor, column: Tensor, held: int) -> Iterator[tuple[Tensor, Tensor, Places]]:
        """Pairs of a user and an item's column, some profiles at a time, of which ``held`` numbers each are in memory.

        Yields:
            The ids of profiles ``(B,)``, the indices of the pairs in them, and the places of these in ``(B, width)``.
        """
        ids, index = torch.unique(column + 1 if self.by_item else user, return_inverse=True)
        entry, size = user - 1 if self.by_item else column, max(1, BLOCK // held)
        order = torch.argsort(index, stable=True)
        for block, here in zip(ids.split(size), order.split(_counts(index, size)), strict=True):
            yield block, here, Places(len(block), self.width, index[here] % size, entry[here])

    def _outputs(self, user: Tensor) -> Outputs:
        """``x_0_hat`` of users ``(B,)`` at all items."""
        if self.by_item:
            return self.kept(self.generator, self._of_items).transposed(user - 1)
        return self.sampler(user).outputs()

    def _of_items(self) -> Outputs:
        """``x_0_hat`` of all items at all users, some items at a time."""
        ids = torch.arange(1, self.n_items, device=self._indptr.device)
        parts = [self.sampler(block).outputs() for block in ids.split(ITEMS)]
        return replace(parts[0], hidden=torch.cat([part.hidden for part in parts]))


def _counts(index: Tensor, size: int) -> list[int]:
    """How many of ``index`` ``(n,)`` are in each block of ``size``."""
    return torch.bincount(index // size).tolist()


class Kept:
    """What was computed from the parameters of a network, until one of them changes.

    They are compared with copies: their version counters do not count the steps of fused optimizers.
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

    def __deepcopy__(self, memo: dict) -> "Kept":
        return type(self)()
