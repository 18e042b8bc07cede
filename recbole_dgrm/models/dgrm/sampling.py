"""Prediction with a trained DGRM (paper, section 3.3): the profiles are noised, and the backward process denoises them.

As in training, the masking layer comes before each posterior step, so that the generator reads states with nothing but
noise at unrated items. Only the last prediction is not masked, because it is the result.

Deviations from the paper
    * Section 3.3 predicts ``x_{T-T'}`` from the profile noised T times. ``prediction: posterior`` does
      so and divides by the shrinkage ``sqrt(alpha_bar)``. At unrated items that state still has the initial
      noise if T' < T, and only a part of ``x_0_hat``, so the default is the last ``x_0_hat``.
    * Section 3.3 does not say whether a prediction passes the masking layer before the next step; here it does.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from recbole_dgrm.maths.layers import Outputs
from recbole_dgrm.maths.noise import RowNoise
from recbole_dgrm.maths.sparse import Places
from recbole_dgrm.models.dgrm.diffusion import DiffusionChain
from recbole_dgrm.models.dgrm.networks import Generator
from recbole_dgrm.models.dgrm.noise import GivenRows, UserRows
from recbole_dgrm.models.dgrm.options import DGRMOptions
from recbole_dgrm.models.dgrm.profiles import Rows, State

SPREAD_DRAWS = 8  # samples of a prediction, from which its standard deviation is computed


@dataclass(frozen=True)
class Streams:
    """The streams of ``RowNoise`` for one sample of a prediction; each sample has its own ``2T + 2`` streams.

    Attributes:
        first: the first stream of the sample, which noises the profile.
        level: the step t at which the backward process starts.
        noised: whether the profile is noised at the start.
    """

    first: int
    level: int
    noised: bool

    def z(self, t: int) -> int:
        """The stream of z at step ``t``."""
        return self.first + self.noised + 2 * (self.level - t)

    def posterior(self, t: int) -> int:
        """The stream of the noise of the posterior step from ``t`` to ``t - 1``."""
        return self.z(t) + 1


@dataclass(frozen=True)
class Sampler:
    """Predicts one batch of distinct profiles.

    Attributes:
        options, chain, generator, noise: those of the trained model.
        factor: maps a weight to its Cholesky factor, see ``Factors``.
        mean_count: the mean number of rated entries of the training profiles.
        ids: the ids of the profiles, ``(B,)``, which determine the noise.
        x_0: the profiles with these ids.
    """

    options: DGRMOptions
    chain: DiffusionChain
    generator: Generator
    noise: RowNoise
    factor: Callable[[Tensor], Tensor]
    mean_count: float
    ids: Tensor
    x_0: State

    @torch.no_grad()
    def predict(self) -> Outputs | GivenRows:
        """The mean of the samples. As the output layer is linear, samples of ``x_0_hat`` are averaged at its inputs."""
        draws: list[Any] = [self.draw(index) for index in range(self.options.prediction_draws)]
        if self.options.prediction == "posterior":
            return GivenRows(_mean([draw.dense() for draw in draws]))
        return replace(draws[0], hidden=_mean([draw.hidden for draw in draws]))

    @torch.no_grad()
    def spread(self, places: Places) -> Tensor:
        """The standard deviations ``(n,)`` of ``SPREAD_DRAWS`` samples at ``places``; exactly 0 if all are equal."""
        draws = (self.draw(index) for index in range(SPREAD_DRAWS))
        entries = torch.stack(
            [
                draw.at(places) if isinstance(draw, Outputs) else draw.dense()[places.row, places.column]
                for draw in draws
            ]
        )
        return (entries - entries[0]).std(dim=0)

    def draw(self, index: int) -> Outputs | State:
        """A sample of the predicted profiles, with its own noise for each ``index``."""
        o = self.options
        level, last = max(1, o.prediction_noise_steps), max(o.denoising_steps, 1)
        streams = self._streams(index, level, o.prediction_noise_steps > 0)
        literal = o.prediction == "posterior" and o.denoising_steps > 0
        eps = partial(self._eps, entries=literal)
        *_, (t, x_t, x_0_hat) = self._steps(streams, eps, last)
        return self._result(x_0_hat, x_t, t, eps(streams.posterior(t))) if literal else x_0_hat

    @torch.no_grad()
    def walk(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The predictions after T' = 0, 1, ..., T steps from the profile noised T times (section 4.4.2, Fig. 7).

        Yields:
            The profiles from ``x_{T-T'}`` and from the last ``x_0_hat``, both ``(B, W)``, of one sample.
        """
        top = self.options.noise_steps
        streams, eps = self._streams(0, top, noised=True), partial(self._eps, entries=True)
        for t, x_t, x_0_hat in self._steps(streams, eps, top):
            predicted = GivenRows(x_0_hat.dense())
            if t == top:
                yield predicted.value, predicted.value
            yield self._result(predicted, x_t, t, eps(streams.posterior(t))).dense(), predicted.value

    def _steps(self, streams: Streams, eps: Callable[[int], State], count: int) -> Iterator[tuple[int, State, Outputs]]:
        """The first ``count`` steps of the backward process (Eqs. 18-20): t, ``x_t``, and the prediction from it."""
        x_t = self._start(streams, eps)
        for t in range(streams.level, streams.level - count, -1):
            x_0_hat = self._denoise(x_t, streams, t)
            yield t, x_t, x_0_hat
            masked = State(self.x_0.places, x_0_hat.at(self.x_0.places))
            x_t = _with_one_noise(self._posterior(masked, x_t, t, eps(streams.posterior(t))))

    def _streams(self, index: int, level: int, noised: bool) -> Streams:
        return Streams(index * (2 * self.options.noise_steps + 2), level, noised)

    def _eps(self, stream: int, entries: bool) -> State:
        """The noise of the profiles in a stream; ``entries`` if single entries of it will be needed."""
        places, width = self.x_0.places, self.x_0.places.n_columns
        if self.options.noise_support == "rated":
            return State(places, self.noise.at(self.ids[places.row], places.column, stream))
        if entries:
            return State.of(GivenRows(self.noise(self.ids, width, stream)), places)
        return State.of(UserRows(self.noise, self.factor, self.ids, stream), places)

    def _start(self, streams: Streams, eps: Callable[[int], State]) -> State:
        """The initial state of the backward process: the profile, noised or clean."""
        if not streams.noised:
            return self.x_0
        return self.chain.q_sample(self.x_0, torch.full_like(self.ids, streams.level), eps(streams.first))

    def _posterior(self, x_0: State, x_t: State, t: int, eps: State) -> State:
        """The state at ``t - 1`` from that at ``t`` and a prediction of the profile."""
        return self.chain.q_posterior(x_0, x_t, torch.full_like(self.ids, t), eps)

    def _result(self, x_0_hat: Rows, x_t: State, t: int, eps: State) -> State:
        """The unmasked state at ``t - 1``, divided by ``sqrt(alpha_bar)``, by which the chain shrinks ratings."""
        state = self._posterior(State.of(x_0_hat, self.x_0.places), x_t, t, eps)
        return state / self.chain.alpha_bar[t - 1].sqrt().view(1, 1)

    def _denoise(self, x_t: State, streams: Streams, t: int) -> Outputs:
        """The generator's ``x_0_hat`` from the state at ``t``."""
        z = UserRows(self.noise, self.factor, self.ids, streams.z(t)) if self.generator.latent_size else None
        shown = condition(x_t, torch.ones_like(x_t.value), self.options.condition_scale, self.mean_count)
        return self.generator(shown, z, torch.full_like(self.ids, t))


def _with_one_noise(x_t: State) -> State:
    """The state with one noise instead of one for each step before it, if their entries are given."""
    if not x_t.rows or not all(isinstance(rows, GivenRows) for rows in x_t.rows):
        return x_t
    noise = x_t.where(torch.zeros_like(x_t.value)).dense()
    return State(x_t.places, x_t.value) + State.of(GivenRows(noise), x_t.places)


def _mean(draws: list[Tensor]) -> Tensor:
    return torch.stack(draws).mean(dim=0) if len(draws) > 1 else draws[0]


def condition(x_t: State, shown: Tensor, scale: str, mean_count: float) -> State:
    """The part of a state that the generator reads.

    Args:
        x_t: the state.
        shown: 1 at the rated entries that are not hidden from the generator, else 0, ``(nnz,)``. A hidden entry is like
            an unrated one: its rating is left out, and the dense noise is unchanged.
        scale: the option ``condition_scale``. ``sqrt_count`` divides by the root of the number of shown entries,
            ``relative_count`` by the root of this number relative to ``mean_count``.
        mean_count: the mean number of rated entries of the training profiles.
    """
    visible = x_t.where(shown)
    if scale == "none":
        return visible
    count = x_t.places.sums(shown).clamp(min=1)
    return visible / (count if scale == "sqrt_count" else count / mean_count).sqrt()
