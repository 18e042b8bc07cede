"""DGRM (Deng et al.): a diffusion model and a Wasserstein GAN that train each other.

The order below is the paper's: forward chain (step 1), generator (step 2), backward step (step 3),
critic (step 4, Eq. 21), generator loss (Eq. 22), prediction (section 3.3).

Deviations from the paper
    * The paper states no Lipschitz constraint for its Wasserstein critic; ours has a gradient penalty
      by default (``lipschitz``).
    * Section 3.3 predicts ``x_{T-T'}`` from the profile noised T times. ``prediction: posterior`` does
      so and divides by the shrinkage ``sqrt(alpha_bar)``; at unrated items that state still holds the
      noise it started from, so the default is the last ``x_0_hat``, from the noise level
      ``prediction_noise_steps`` that validation chose.
    * Everything under "Generalisation" in the YAML file is ours, and off in ``DGRM.yaml``.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from recbole_dgrm.maths import losses
from recbole_dgrm.maths.layers import clip_weights
from recbole_dgrm.maths.noise import RowNoise
from recbole_dgrm.models.base import Phase, ProfileRecommender
from recbole_dgrm.models.dgrm.blend import ClosedForm
from recbole_dgrm.models.dgrm.diffusion import DiffusionChain, linear_variance_betas
from recbole_dgrm.models.dgrm.networks import Critic, Generator
from recbole_dgrm.models.dgrm.options import DGRMOptions
from recbole_dgrm.models.dgrm.profiles import DenseStates, Entries, EntryStates, Places
from recbole_dgrm.options import read

SPARSE = 0.01  # share of rated entries below which states hold these alone


class DGRM(ProfileRecommender):
    """Diffusion-GAN recommendation model.

    Args:
        config: RecBole config with every key of ``DGRMOptions``.
        dataset: the training part of a RecBole data set.
    """

    Options = DGRMOptions
    critic_objective = staticmethod(losses.critic_loss)
    generator_objective = staticmethod(losses.generator_loss)

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        o = self.options = read(DGRMOptions, config)
        self.chain = DiffusionChain(linear_variance_betas(o.noise_steps, o.noise_scale, o.noise_min, o.noise_max))
        self.latent_size = self.width if o.latent_size is None else o.latent_size
        self.as_entries = self._takes_entries()
        self.generator = Generator(
            self.width, o.generator_hidden, self.latent_size, o.step_embedding_size, self.as_entries
        )
        self.critic = None
        if o.adversarial_weight:
            self.critic = Critic(self.width, o.critic_hidden, o.step_embedding_size, self.as_entries)
        self.row_noise = RowNoise(config["seed"], max(self.width, self.latent_size), self.device)
        self.closed_form = ClosedForm(self.n_users, self.width)
        if not self.implicit:
            self._solve(config)

    def _takes_entries(self) -> bool:
        """Whether states are the rated entries alone; worth it where few of all are rated."""
        o = self.options
        if o.states == "auto":
            few = len(self._value) < SPARSE * self.n_users * self.width
            return few and o.noise_support == "rated" and not self.implicit
        return o.states == "entries"

    def _solve(self, config) -> None:
        """Center the profiles and fit what predictions are blended with; implicit profiles have no use for either."""
        o = self.options
        ratings = self.rating_matrix()
        if o.blend:
            scale, sizes = (self.scale.low, self.scale.high), o.blend_factors
            self.closed_form.blend_with(ratings, scale, o.blend, sizes, o.blend_regularization, config["seed"])
        if o.center == "bias":
            self.closed_form.center(ratings, config["bias_shrinkage"])
            self._center()

    def meet_users(self) -> None:
        """Biases and factors of users who were not there in training."""
        if not self.implicit:
            self.closed_form.meet(self.rating_matrix())
            self._center()

    def _center(self) -> None:
        user = torch.repeat_interleave(torch.arange(self.n_users), torch.diff(self._indptr))
        self._value = self.closed_form.residual(user, self._column, self._value)

    def state_rows(self, interaction) -> Tensor:
        """As the base class has it; where states are entries, as many as the user has."""
        if not self.as_entries:
            return super().state_rows(interaction)
        return self.activity(interaction[self.USER_ID]).squeeze(-1)

    # Step 1: forward chain. The generator's condition may hide a part of the profile.

    def rated_states(self, user: Tensor) -> DenseStates | EntryStates:
        """The profiles of users ``(B,)`` as states of the chain."""
        if self.as_entries:
            return EntryStates(len(user), *self.entries(user))
        x_0, mask = self.profiles(user)
        if self.options.noise_support == "all":
            return DenseStates(x_0, mask)
        return DenseStates(x_0, mask, (x_0 != 0).float() if self.implicit else mask)

    def draw(self, user: Tensor) -> "Draw":
        """A training draw for users ``(B,)``: profile, step, pair of states, condition."""
        o = self.options
        states = self.rated_states(user)
        x_0, mask = states.x_0, states.mask
        if o.fixed_step is None:
            t = torch.randint(1, o.noise_steps + 1, (len(user),), device=user.device)
        else:
            t = torch.full((len(user),), o.fixed_step, device=user.device)
        x_tm1, x_t = self.chain.q_pair(x_0, states.spread(t), states.noise)
        if not o.condition_dropout:
            return Draw(states, t, x_tm1, x_t, condition=self._condition(states, x_t, mask), target=mask)
        hidden = (torch.rand_like(mask) < o.condition_dropout) * mask
        if o.noise_support == "rated":
            shown = x_t * (1 - hidden)  # as if not rated
        else:
            shown = x_t - self.chain.alpha_bar[t].sqrt().unsqueeze(-1) * x_0 * hidden  # as if not rated, same noise
        target = hidden if o.reconstruct == "hidden" else mask
        return Draw(states, t, x_tm1, x_t, condition=self._condition(states, shown, mask - hidden), target=target)

    def _condition(self, states: DenseStates | EntryStates, shown: Tensor, kept: Tensor) -> Tensor | Entries:
        """What the generator reads."""
        if self.options.condition_scale == "sqrt_count":
            shown = shown / states.spread(states.sums(kept).clamp(min=1).sqrt())
        return states.for_network(shown)

    # Steps 2 and 3: the generator predicts x_0, the masking layer restores the sparsity,
    # the posterior turns it into a fake x_{t-1}.

    def generate(self, draw: "Draw") -> tuple[Tensor, Tensor]:
        """``x_0_hat`` and the fake ``x_{t-1}``, both states."""
        states, t = draw.states, draw.t
        z = torch.randn(len(t), self.latent_size, device=t.device)
        x_0_hat = self.generator(draw.condition, z, t, states.places)
        return x_0_hat, self.chain.q_posterior(x_0_hat * states.mask, draw.x_t, states.spread(t), states.noise())

    # Step 4: the two losses.

    def phases(self) -> list[Phase]:
        """Critic passes, then generator passes; without an adversarial term the generator alone."""
        o = self.options
        generator = Phase(
            "generator", list(self.generator.parameters()), self.generator_loss, o.generator_iterations, o.learning_rate
        )
        if self.critic is None:
            return [generator]
        clip = partial(clip_weights, self.critic, o.weight_clip) if o.lipschitz == "weight_clipping" else None
        critic = Phase(
            "critic",
            list(self.critic.parameters()),
            self.critic_loss,
            o.critic_iterations,
            o.critic_learning_rate,
            clip,
        )
        return [critic, generator]

    def critic_loss(self, interaction) -> Tensor:
        """Eq. 21, plus the Lipschitz term on the first argument of D; summed over the batch."""
        draw = self.draw(interaction[self.USER_ID])
        with torch.no_grad():
            _, fake = self.generate(draw)

        score = partial(self._criticize, draw)
        loss = self.critic_objective(score(draw.x_tm1), score(fake))
        if self.options.lipschitz == "gradient_penalty":
            return loss + self.options.lipschitz_weight * losses.gradient_penalty(
                score, draw.x_tm1, fake, draw.states.row
            )
        if self.options.lipschitz == "r1":
            return loss + self.options.lipschitz_weight * losses.r1_penalty(score, draw.x_tm1)
        return loss

    def _criticize(self, draw: "Draw", x_tm1: Tensor) -> Tensor:
        """``D(x_{t-1}, x_t, t)``, ``(B,)``."""
        return self.critic(draw.states.for_network(x_tm1), draw.states.for_network(draw.x_t), draw.t)

    def generator_loss(self, interaction) -> Tensor:
        """Eq. 22, summed over the batch."""
        draw = self.draw(interaction[self.USER_ID])
        x_0_hat, fake = self.generate(draw)
        loss = self.options.reconstruction_weight * losses.masked_squared_error(x_0_hat, draw.states.x_0, draw.target)
        if self.critic is None:
            return loss
        adversarial = self.generator_objective(self._criticize(draw, fake))
        return self.options.adversarial_weight * adversarial + loss

    # Prediction (section 3.3). Nothing is masked: an unrated item is what we are asked about.

    @torch.no_grad()
    def score_profiles(self, user: Tensor) -> Tensor:
        """Predicted ratings ``(B, I)``, the mean of ``prediction_draws`` draws."""
        return self.closed_form.complete(user, self._predict(user, None))

    @torch.no_grad()
    def score_pairs(self, user: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Predicted ratings ``(n,)`` of single items; where states are entries, without computing the others."""
        if not self.as_entries:
            return super().score_pairs(user, row, column)
        return self.closed_form.complete_at(user, (row, column), self._predict(user, (row, column)).squeeze(-1))

    def _predict(self, user: Tensor, places: Places | None) -> Tensor:
        """Predicted profiles, or items of them, in the terms of profiles."""
        states, o = self.rated_states(user), self.options
        draws = [self._predict_once(user, states, places, index) for index in range(o.prediction_draws)]
        return torch.stack(draws).mean(dim=0) if len(draws) > 1 else draws[0]

    def _predict_once(
        self, user: Tensor, states: DenseStates | EntryStates, places: Places | None, index: int
    ) -> Tensor:
        o = self.options
        level, steps = max(1, o.prediction_noise_steps), o.denoising_steps
        x_t, denoise, noise = self._start(user, states, level, o.prediction_noise_steps > 0, index)
        if o.prediction == "posterior" and steps:
            state, _ = self.chain.reverse(x_t, level, steps, denoise, noise)
            return state / self.chain.alpha_bar[level - steps].sqrt()
        if steps > 1:
            x_t, _ = self.chain.reverse(x_t, level, steps - 1, denoise, noise)
        return denoise(x_t, places=places)

    def _start(
        self, user: Tensor, states: DenseStates | EntryStates, level: int, noised: bool, index: int = 0
    ) -> tuple[Tensor, Callable[..., Tensor], Callable[..., Tensor]]:
        """Of draw ``index``: the state at ``level``, noised or clean, ``denoise``, and the noise of the steps."""
        width = 2 * self.options.noise_steps + 2
        streams = iter(range(index * width, (index + 1) * width))
        levels = iter(range(level, 0, -1))  # of the calls of G

        def noise(_: object = None) -> Tensor:
            stream = next(streams)
            if states.places:
                return self.row_noise.at(user[states.row], states.column, stream).unsqueeze(-1)
            return states.noise(lambda _: self.row_noise(user, self.width, stream))

        def denoise(x_t: Tensor, _: object = None, places: Places | None = states.places) -> Tensor:
            z, t = self.row_noise(user, self.latent_size, next(streams)), torch.full_like(user, next(levels))
            return self.generator(self._condition(states, x_t, states.mask), z, t, places)

        x_t = states.x_0
        if noised:
            x_t = self.chain.q_sample(x_t, states.spread(torch.full_like(user, level)), noise())
        return x_t, denoise, noise

    @torch.no_grad()
    def walk(self, user: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """For T' = 0, 1, ..., T the ratings predicted from the profile noised T times (section 4.4.2, Fig. 7).

        Yields:
            By ``x_{T-T'}``, and by the last ``x_0_hat``, both ``(B, I)``; of one draw. Not where states are entries.
        """
        top = self.options.noise_steps
        x_t, denoise, noise = self._start(user, self.rated_states(user), top, noised=True)
        x_0_hat = denoise(x_t)
        predicted = self.closed_form.complete(user, x_0_hat)
        yield predicted, predicted
        for step in range(top):
            if step:
                x_0_hat = denoise(x_t)
            x_t = self.chain.q_posterior(x_0_hat, x_t, torch.full_like(user, top - step), noise())
            state = x_t / self.chain.alpha_bar[top - step - 1].sqrt()
            yield self.closed_form.complete(user, state), self.closed_form.complete(user, x_0_hat)


class DGRMPlus(DGRM):
    """DGRM with the generalisation options on: only its YAML file differs."""


class DGRMKL(DGRM):
    """DGRM-KL (section 4.3, 7): the Kullback-Leibler form of the adversarial game instead of Wasserstein's.

    D gives a logit, high for real pairs, and learns by binary cross-entropy; G gets the non-saturating
    loss. Reconstruction, rating scale and prediction are those of DGRM.
    """

    critic_objective = staticmethod(losses.discriminator_loss)
    generator_objective = staticmethod(losses.non_saturating_loss)


@dataclass(frozen=True)
class Draw:
    """What one training step of DGRM sees.

    Attributes:
        states: the profiles, dense or as entries, and where they are rated.
        t: steps ``(B,)``.
        x_tm1, x_t: the real pair of the critic, states.
        condition: what the generator reads of ``x_t``.
        target: where the reconstruction counts, like a state.
    """

    states: DenseStates | EntryStates
    t: Tensor
    x_tm1: Tensor
    x_t: Tensor
    condition: Tensor | Entries
    target: Tensor
