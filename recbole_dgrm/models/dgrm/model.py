"""DGRM (Deng et al.): a diffusion model and a Wasserstein GAN that train each other.

This is what the paper trains, in its order: forward chain (step 1), generator (step 2), backward step (step 3),
critic (step 4) and the two losses. Prediction is in ``sampling.py``, the chain in ``diffusion.py``.

Deviations from the paper
    * The paper states no Lipschitz constraint for its Wasserstein critic; ours has a gradient penalty
      by default (``lipschitz``).
    * Everything under "Generalisation" in the YAML file is ours, and off in ``DGRM.yaml``.
"""

from collections.abc import Iterator
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
from recbole_dgrm.models.dgrm.profiles import DenseProfiles, Entries, EntryProfiles, Profiles, condition
from recbole_dgrm.models.dgrm.sampling import Sampler
from recbole_dgrm.options import read

SPARSE = 0.01  # below this share of rated entries, profiles are represented by these entries only


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
        self.as_entries = self._takes_entries()
        latent_size = self.width if o.latent_size is None else o.latent_size
        self.generator = Generator(self.width, o.generator_hidden, latent_size, o.step_embedding_size, self.as_entries)
        self.critic = None
        if o.adversarial_weight:
            self.critic = Critic(self.width, o.critic_hidden, o.step_embedding_size, self.as_entries)
        self.row_noise = RowNoise(config["seed"], max(self.width, latent_size), self.device)
        self.closed_form = ClosedForm(self.n_users, self.width)
        if not self.implicit:
            self._solve(config)

    def _takes_entries(self) -> bool:
        """Whether profiles are represented by their rated entries only, which pays where few are rated."""
        o = self.options
        if o.states == "auto":
            few = len(self._value) < SPARSE * self.n_users * self.width
            return few and o.noise_support == "rated" and not self.implicit
        return o.states == "entries"

    def _solve(self, config) -> None:
        """Centre the profiles and fit the factorizations to blend with; both are for ratings only."""
        o = self.options
        ratings = self.rating_matrix()
        if o.blend:
            scale, sizes = (self.scale.low, self.scale.high), o.blend_factors
            self.closed_form.blend_with(ratings, scale, o.blend, sizes, o.blend_regularization, config["seed"])
        if o.center == "bias":
            self.closed_form.center(ratings, config["bias_shrinkage"])
            self._center()

    def set_users(self) -> None:
        """Solve the biases and factors of users who were not there in training."""
        if not self.implicit:
            self.closed_form.set_users(self.rating_matrix())
            self._center()

    def _center(self) -> None:
        user = torch.repeat_interleave(torch.arange(self.n_users), torch.diff(self._indptr))
        self._value = self.closed_form.residual(user, self._column, self._value)

    def state_rows(self, interaction) -> Tensor:
        """The rows of a state that each user has, ``(B,)``: 1 if dense, else the number of rated entries."""
        if not self.as_entries:
            return super().state_rows(interaction)
        return self.activity(interaction[self.USER_ID]).squeeze(-1)

    # Step 1 is the forward chain. The generator's condition may hide a part of the profile.

    def represented(self, user: Tensor) -> Profiles:
        """The profiles of users ``(B,)`` in the representation that the model works with."""
        if self.as_entries:
            return EntryProfiles(len(user), *self.entries(user))
        x_0, mask = self.profiles(user)
        if self.options.noise_support == "all":
            return DenseProfiles(x_0, mask)
        return DenseProfiles(x_0, mask, (x_0 != 0).float() if self.implicit else mask)

    def draw(self, user: Tensor) -> "Draw":
        """What one training step sees of users ``(B,)``: profiles, steps, real pairs and conditions."""
        o, profiles = self.options, self.represented(user)
        x_0, mask = profiles.x_0, profiles.mask
        if o.fixed_step is None:
            t = torch.randint(1, o.noise_steps + 1, (len(user),), device=user.device)
        else:
            t = torch.full((len(user),), o.fixed_step, device=user.device)
        x_tm1, x_t = self.chain.q_pair(x_0, profiles.spread(t), profiles.noise)
        shown, kept, target = x_t, mask, mask
        if o.condition_dropout:
            hidden = (torch.rand_like(mask) < o.condition_dropout) * mask
            shown, kept = self._without(hidden, profiles, x_t, t), mask - hidden
            target = hidden if o.reconstruct == "hidden" else mask
        return Draw(profiles, t, x_tm1, x_t, condition(profiles, shown, kept, o.condition_scale), target)

    def _without(self, hidden: Tensor, profiles: Profiles, x_t: Tensor, t: Tensor) -> Tensor:
        """A state as if its ``hidden`` entries were not rated: without noise there, or with the same noise."""
        if self.options.noise_support == "rated":
            return x_t * (1 - hidden)
        return x_t - self.chain.alpha_bar[t].sqrt().unsqueeze(-1) * profiles.x_0 * hidden

    # In steps 2 and 3 the generator predicts x_0, the masking layer restores the sparsity,
    # and the posterior turns it into a fake x_{t-1}.

    def generate(self, draw: "Draw") -> tuple[Tensor, Tensor]:
        """The prediction ``x_0_hat`` and the fake ``x_{t-1}``, both states (sections 3.1 and 3.2)."""
        profiles, t = draw.profiles, draw.t
        z = torch.randn(len(t), self.generator.latent_size, device=t.device)
        x_0_hat = self.generator(draw.condition, z, t, profiles.positions)
        fake = self.chain.q_posterior(x_0_hat * profiles.mask, draw.x_t, profiles.spread(t), profiles.noise())
        return x_0_hat, fake

    # Step 4 is the critic, and with it the two losses.

    def phases(self) -> list[Phase]:
        """The critic trains first, then the generator; without an adversarial term the generator trains alone."""
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
            second_order=self.critic,
        )
        return [critic, generator]

    def critic_loss(self, interaction) -> Tensor:
        """The loss of the critic (Eq. 21) and its Lipschitz term in ``x_{t-1}``, summed over the batch."""
        draw = self.draw(interaction[self.USER_ID])
        with torch.no_grad():
            _, fake = self.generate(draw)
        score = partial(self._criticize, draw)
        loss = self.critic_objective(score(draw.x_tm1), score(fake))
        if self.options.lipschitz == "gradient_penalty":
            penalty = losses.gradient_penalty(score, draw.x_tm1, fake, draw.profiles.row)
            return loss + self.options.lipschitz_weight * penalty
        if self.options.lipschitz == "r1":
            return loss + self.options.lipschitz_weight * losses.r1_penalty(score, draw.x_tm1)
        return loss

    def _criticize(self, draw: "Draw", x_tm1: Tensor) -> Tensor:
        """The scores ``D(x_{t-1}, x_t, t)``, ``(B,)``."""
        read = draw.profiles.network_input
        return self.critic(read(x_tm1), read(draw.x_t), draw.t)

    def generator_loss(self, interaction) -> Tensor:
        """The loss of the generator (Eq. 22), summed over the batch."""
        draw = self.draw(interaction[self.USER_ID])
        x_0_hat, fake = self.generate(draw)
        loss = self.options.reconstruction_weight * losses.masked_squared_error(x_0_hat, draw.profiles.x_0, draw.target)
        if self.critic is None:
            return loss
        adversarial = self.generator_objective(self._criticize(draw, fake))
        return self.options.adversarial_weight * adversarial + loss

    # Prediction is section 3.3 of the paper.

    def sampler(self, user: Tensor) -> Sampler:
        """Predicts the ratings of distinct users ``(B,)``."""
        parts = self.options, self.chain, self.generator, self.closed_form, self.row_noise
        return Sampler(*parts, user, self.represented(user))

    def score_profiles(self, user: Tensor) -> Tensor:
        """Predicted ratings ``(B, I)``, the mean of ``prediction_draws`` draws."""
        return self.sampler(user).ratings()

    def score_pairs(self, user: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Predicted ratings ``(n,)`` of single items; rated entries only need no computation of the others."""
        if not self.as_entries:
            return super().score_pairs(user, row, column)
        return self.sampler(user).ratings_at((row, column))

    def walk(self, user: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """The ratings predicted after each step of the backward process, see ``Sampler.walk``."""
        return self.sampler(user).walk()


class DGRMPlus(DGRM):
    """DGRM with the generalisation options switched on; it differs by its YAML file only."""


class DGRMKL(DGRM):
    """DGRM-KL (section 4.3), with the Kullback-Leibler form of the adversarial game instead of Wasserstein's.

    D gives a logit, high for real pairs, and learns by binary cross-entropy; G gets the non-saturating
    loss. Reconstruction, rating scale and prediction are those of DGRM.
    """

    critic_objective = staticmethod(losses.discriminator_loss)
    generator_objective = staticmethod(losses.non_saturating_loss)


@dataclass(frozen=True)
class Draw:
    """What one training step of DGRM sees.

    Attributes:
        profiles: the profiles of the batch and their masks.
        t: the steps of the users, ``(B,)``.
        x_tm1, x_t: the pair of states that is real for the critic.
        condition: what the generator reads of ``x_t``.
        target: a state that is 1 where the reconstruction counts, else 0.
    """

    profiles: Profiles
    t: Tensor
    x_tm1: Tensor
    x_t: Tensor
    condition: Tensor | Entries
    target: Tensor
