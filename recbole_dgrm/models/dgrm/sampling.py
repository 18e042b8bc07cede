"""Prediction with a trained DGRM (paper, section 3.3): noise the profiles, walk back, turn the result into ratings.

Nothing is masked here: the unrated items are what the model is asked about.

Deviations from the paper
    * Section 3.3 predicts ``x_{T-T'}`` from the profile noised T times. ``prediction: posterior`` does
      so and divides by the shrinkage ``sqrt(alpha_bar)``; at unrated items that state still holds the
      noise it started from, so the default is the last ``x_0_hat``, from the noise level
      ``prediction_noise_steps`` that validation chose.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from recbole_dgrm.maths.noise import RowNoise
from recbole_dgrm.models.dgrm.blend import ClosedForm
from recbole_dgrm.models.dgrm.diffusion import DiffusionChain
from recbole_dgrm.models.dgrm.networks import Generator
from recbole_dgrm.models.dgrm.options import DGRMOptions
from recbole_dgrm.models.dgrm.profiles import Positions, Profiles, condition


@dataclass(frozen=True)
class Streams:
    """The streams of ``RowNoise`` that one draw of a prediction uses, by what the noise is for.

    Each draw has ``2T + 2`` streams of its own. Counted from the first of them they are:

        0                             the noise of a profile that starts noised
        noised + 2 (level - t)        z of the generator at step t
        noised + 2 (level - t) + 1    the noise of the posterior step from t to t - 1

    Attributes:
        first: the first stream of the draw, which noises the profile.
        level: the step t that the walk starts at.
        noised: whether the profile is noised at the start.
    """

    first: int
    level: int
    noised: bool

    def z(self, t: int) -> int:
        """The stream of z at step ``t``."""
        return self.first + self.noised + 2 * (self.level - t)

    def posterior(self, t: int) -> int:
        """The stream of the noise of the posterior step that leaves ``t``."""
        return self.z(t) + 1


@dataclass(frozen=True)
class Sampler:
    """Predicts ratings of one batch of distinct users.

    Attributes:
        options, chain, generator, closed_form, noise: those of the trained model.
        user: ids ``(B,)``.
        profiles: the profiles of these users.
    """

    options: DGRMOptions
    chain: DiffusionChain
    generator: Generator
    closed_form: ClosedForm
    noise: RowNoise
    user: Tensor
    profiles: Profiles

    @torch.no_grad()
    def ratings(self) -> Tensor:
        """Predicted ratings ``(B, I)``."""
        return self.closed_form.complete(self.user, self._mean())

    @torch.no_grad()
    def ratings_at(self, positions: Positions) -> Tensor:
        """Predicted ratings ``(n,)`` at positions in the batch, computed without the others."""
        return self.closed_form.complete_at(self.user, positions, self._mean(positions).squeeze(-1))

    def _mean(self, positions: Positions | None = None) -> Tensor:
        draws = [self.draw(index, positions) for index in range(self.options.prediction_draws)]
        return torch.stack(draws).mean(dim=0) if len(draws) > 1 else draws[0]

    def draw(self, index: int, positions: Positions | None = None) -> Tensor:
        """One of the ``prediction_draws`` predicted profiles ``(B, I)``, or ``(n, 1)`` at positions of the batch."""
        o = self.options
        level, steps = max(1, o.prediction_noise_steps), o.denoising_steps
        streams = self._streams(index, level, o.prediction_noise_steps > 0)
        x_t = self._start(streams)
        if o.prediction == "posterior" and steps:
            x_t, _ = self._reverse(x_t, streams, level, steps)
            return self._rescaled(x_t, level - steps)
        before = max(steps - 1, 0)  # the last denoising gives the prediction
        if before:
            x_t, _ = self._reverse(x_t, streams, level, before)
        return self._denoise(x_t, streams, level - before, positions)

    @torch.no_grad()
    def walk(self) -> Iterator[tuple[Tensor, Tensor]]:
        """For T' = 0, 1, ..., T the ratings predicted from the profile noised T times (section 4.4.2, Fig. 7).

        Yields:
            The ratings by ``x_{T-T'}`` and by the last ``x_0_hat``, both ``(B, I)``, of one draw of dense profiles.
        """
        top = self.options.noise_steps
        streams = self._streams(0, top, noised=True)
        x_t = self._start(streams)
        for t in range(top, 0, -1):
            x_t, x_0_hat = self._reverse(x_t, streams, t, 1)
            predicted = self.closed_form.complete(self.user, x_0_hat)
            if t == top:
                yield predicted, predicted
            yield self.closed_form.complete(self.user, self._rescaled(x_t, t - 1)), predicted

    def _streams(self, index: int, level: int, noised: bool) -> Streams:
        return Streams(index * (2 * self.options.noise_steps + 2), level, noised)

    def _start(self, streams: Streams) -> Tensor:
        """The state that the walk starts from: the profile, noised or clean."""
        if not streams.noised:
            return self.profiles.x_0
        t = self.profiles.spread(torch.full_like(self.user, streams.level))
        return self.chain.q_sample(self.profiles.x_0, t, self._row_noise(streams.first))

    def _reverse(self, x_t: Tensor, streams: Streams, level: int, steps: int) -> tuple[Tensor, Tensor]:
        """The backward process from ``level``: ``x_{level - steps}`` and the last ``x_0_hat``."""
        return self.chain.reverse(
            x_t,
            level,
            steps,
            denoise=lambda x_t, t: self._denoise(x_t, streams, t, self.profiles.positions),
            noise=lambda t: self._row_noise(streams.posterior(t)),
        )

    def _denoise(self, x_t: Tensor, streams: Streams, t: int, positions: Positions | None) -> Tensor:
        """``x_0_hat`` as the generator predicts it from the state at ``t``."""
        profiles = self.profiles
        z = self.noise(self.user, self.generator.latent_size, streams.z(t))
        shown = condition(profiles, x_t, profiles.mask, self.options.condition_scale)
        return self.generator(shown, z, torch.full_like(self.user, t), positions)

    def _row_noise(self, stream: int) -> Tensor:
        return self.profiles.row_noise(self.noise, self.user, stream)

    def _rescaled(self, x_t: Tensor, t: int) -> Tensor:
        """A state at ``t`` divided by what the chain shrinks ratings by."""
        return x_t / self.chain.alpha_bar[t].sqrt()
