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

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import torch
from torch import Tensor

from recbole_dgrm import losses
from recbole_dgrm.bias import fit_biases
from recbole_dgrm.diffusion import DiffusionChain, RowNoise, linear_variance_betas
from recbole_dgrm.errors import OptionError
from recbole_dgrm.models.profile import ProfileRecommender
from recbole_dgrm.networks import Critic, Generator, clip_weights
from recbole_dgrm.options import Choice, Range, read
from recbole_dgrm.trainers import Phase


@dataclass(frozen=True)
class DGRMOptions:
    """Keys of ``properties/model/DGRM.yaml``, where each is explained."""

    noise_steps: Annotated[int, Range(1)]
    noise_scale: Annotated[float, Range(0, 1)]
    noise_min: Annotated[float, Range(0, 1)]
    noise_max: Annotated[float, Range(0, 1)]
    fixed_step: Annotated[int | None, Range(1)]
    generator_hidden: Annotated[list[int], Range(1)]
    critic_hidden: Annotated[list[int], Range(1)]
    step_embedding_size: Annotated[int, Range(2)]
    latent_size: Annotated[int | None, Range(0)]
    reconstruction_weight: Annotated[float, Range(0)]
    adversarial_weight: Annotated[float, Range(0)]
    lipschitz: Annotated[str, Choice("gradient_penalty", "r1", "weight_clipping", "none")]
    lipschitz_weight: Annotated[float, Range(0)]
    weight_clip: Annotated[float, Range(0, above=True)]
    generator_iterations: Annotated[int, Range(1)]
    critic_iterations: Annotated[int, Range(1)]
    learning_rate: Annotated[float, Range(0, above=True)]
    critic_learning_rate: Annotated[float, Range(0, above=True)]
    prediction: Annotated[str, Choice("x_0_hat", "posterior")]
    prediction_noise_steps: Annotated[int, Range(0)]
    denoising_steps: Annotated[int, Range(0)]
    prediction_draws: Annotated[int, Range(1)]
    condition_dropout: Annotated[float, Range(0, 0.99)]
    reconstruct: Annotated[str, Choice("rated", "hidden")]
    center: Annotated[str, Choice("none", "bias")]
    condition_scale: Annotated[str, Choice("none", "sqrt_count")]

    def __post_init__(self) -> None:
        top = self.noise_steps
        if top > 1 and self.noise_min >= self.noise_max:
            raise OptionError(
                f"noise_min={self.noise_min} must be below noise_max={self.noise_max}; "
                f"allowed: 0 <= noise_min < noise_max <= 1"
            )
        if self.fixed_step is not None and self.fixed_step > top:
            raise OptionError(f"fixed_step={self.fixed_step} is out of range; allowed: 1..noise_steps={top}, or ~")
        if self.prediction_noise_steps > top:
            raise OptionError(
                f"prediction_noise_steps={self.prediction_noise_steps} is out of range; allowed: 0..noise_steps={top}"
            )
        level = max(1, self.prediction_noise_steps)
        if self.denoising_steps > level:
            raise OptionError(
                f"denoising_steps={self.denoising_steps} is out of range; allowed: 0..{level}, "
                f"the level where prediction starts (max(1, prediction_noise_steps), at most noise_steps={top})"
            )
        if self.step_embedding_size % 2:
            raise OptionError(f"step_embedding_size={self.step_embedding_size} must be even")
        if self.reconstruct == "hidden" and self.condition_dropout == 0:
            raise OptionError("reconstruct=hidden needs condition_dropout above 0: nothing is hidden otherwise")


class DGRM(ProfileRecommender):
    """Diffusion-GAN recommendation model.

    Args:
        config: RecBole config with every key of :class:`DGRMOptions`.
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
        self.generator = Generator(self.width, o.generator_hidden, self.latent_size, o.step_embedding_size)
        self.critic = Critic(self.width, o.critic_hidden, o.step_embedding_size) if o.adversarial_weight else None
        self.row_noise = RowNoise(config["seed"], max(self.width, self.latent_size), self.device)
        self._fit_center(dataset, config)

    def _fit_center(self, dataset, config) -> None:
        """``center(u, i)``: what a rating is compared with. Implicit profiles have nothing to subtract."""
        user, item = torch.zeros(self.n_users), torch.zeros(self.width)
        if self.options.center == "bias" and not self.implicit:
            rows = dataset.inter_matrix(form="coo", value_field=config["RATING_FIELD"])
            biases = fit_biases(rows.row, rows.col, rows.data, self.n_users, self.n_items, config["bias_shrinkage"])
            user = torch.as_tensor(biases.mean + biases.user, dtype=torch.float32)
            item = torch.as_tensor(biases.item[1:], dtype=torch.float32)
            row = torch.repeat_interleave(torch.arange(self.n_users), torch.diff(self._indptr))
            self._value -= user[row] + item[self._column]
        self.register_buffer("center_user", user, persistent=False)
        self.register_buffer("center_item", item, persistent=False)

    # Step 1: forward chain. The generator's condition may hide a part of the profile.

    def draw(self, user: Tensor) -> "Draw":
        """A training draw for users ``(B,)``: profile, step, pair of states, condition."""
        o = self.options
        x_0, mask = self.profiles(user)
        if o.fixed_step is None:
            t = torch.randint(1, o.noise_steps + 1, (len(user),), device=user.device)
        else:
            t = torch.full((len(user),), o.fixed_step, device=user.device)
        x_tm1, x_t = self.chain.q_pair(x_0, t)
        if not o.condition_dropout:
            return Draw(x_0, mask, t, x_tm1, x_t, condition=self._scale(x_t, mask), target=mask)
        hidden = (torch.rand_like(mask) < o.condition_dropout) * mask
        shown = x_t - self.chain.alpha_bar[t].sqrt().unsqueeze(-1) * x_0 * hidden  # as if not rated, same noise
        target = hidden if o.reconstruct == "hidden" else mask
        return Draw(x_0, mask, t, x_tm1, x_t, condition=self._scale(shown, mask - hidden), target=target)

    def _scale(self, condition: Tensor, kept: Tensor) -> Tensor:
        if self.options.condition_scale == "none":
            return condition
        return condition / kept.sum(dim=-1, keepdim=True).clamp(min=1).sqrt()

    # Steps 2 and 3: the generator predicts x_0, the masking layer restores the sparsity,
    # the posterior turns it into a fake x_{t-1}.

    def generate(self, draw: "Draw") -> tuple[Tensor, Tensor]:
        """``x_0_hat`` and the fake ``x_{t-1}``, both ``(B, I)``."""
        z = torch.randn(len(draw.t), self.latent_size, device=draw.t.device)
        x_0_hat = self.generator(draw.condition, z, draw.t)
        eps = torch.randn_like(draw.x_t)
        return x_0_hat, self.chain.q_posterior(x_0_hat * draw.mask, draw.x_t, draw.t, eps)

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

        def score(x_tm1: Tensor) -> Tensor:
            return self.critic(x_tm1, draw.x_t, draw.t)

        loss = self.critic_objective(score(draw.x_tm1), score(fake))
        if self.options.lipschitz == "gradient_penalty":
            return loss + self.options.lipschitz_weight * losses.gradient_penalty(score, draw.x_tm1, fake)
        if self.options.lipschitz == "r1":
            return loss + self.options.lipschitz_weight * losses.r1_penalty(score, draw.x_tm1)
        return loss

    def generator_loss(self, interaction) -> Tensor:
        """Eq. 22, summed over the batch."""
        draw = self.draw(interaction[self.USER_ID])
        x_0_hat, fake = self.generate(draw)
        loss = self.options.reconstruction_weight * losses.masked_squared_error(x_0_hat, draw.x_0, draw.target)
        if self.critic is None:
            return loss
        adversarial = self.generator_objective(self.critic(fake, draw.x_t, draw.t))
        return self.options.adversarial_weight * adversarial + loss

    # Prediction (section 3.3). Nothing is masked: an unrated item is what we are asked about.

    @contextmanager
    def predicting(self, **keys: Any) -> Iterator[None]:
        """Inside, prediction goes by other keys than the configuration's, for example ``denoising_steps=2``."""
        own = self.options
        self.options = replace(own, **keys)
        try:
            yield
        finally:
            self.options = own

    @torch.no_grad()
    def score_profiles(self, user: Tensor) -> Tensor:
        """Predicted ratings ``(B, I)``, the mean of ``prediction_draws`` draws."""
        x_0, mask = self.profiles(user)
        draws = [self._predict(user, x_0, mask, index) for index in range(self.options.prediction_draws)]
        x_0_hat = torch.stack(draws).mean(dim=0) if len(draws) > 1 else draws[0]
        return x_0_hat + self.center_user[user].unsqueeze(-1) + self.center_item

    def _predict(self, user: Tensor, x_0: Tensor, mask: Tensor, index: int) -> Tensor:
        o = self.options
        level, steps = max(1, o.prediction_noise_steps), o.denoising_steps
        streams = iter(range(index * (2 * o.noise_steps + 2), (index + 1) * (2 * o.noise_steps + 2)))

        def noise(width: int) -> Tensor:
            return self.row_noise(user, width, next(streams))

        def denoise(x_t: Tensor, t: Tensor) -> Tensor:
            return self.generator(self._scale(x_t, mask), noise(self.latent_size), t)

        x_t = x_0
        if o.prediction_noise_steps:
            start = torch.full_like(user, level)
            x_t = self.chain.q_sample(x_0, start, noise(self.width))
        state, x_0_hat = self.chain.reverse(x_t, level, steps, denoise, lambda _: noise(self.width))
        if o.prediction == "x_0_hat" or steps == 0:
            return x_0_hat
        return state / self.chain.alpha_bar[level - steps].sqrt()


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
    """What one training step of DGRM sees. All ``(B, I)`` but ``t``.

    Attributes:
        x_0, mask: profile and where it is rated.
        t: steps ``(B,)``.
        x_tm1, x_t: the real pair of the critic.
        condition: what the generator sees of ``x_t``.
        target: where the reconstruction counts.
    """

    x_0: Tensor
    mask: Tensor
    t: Tensor
    x_tm1: Tensor
    x_t: Tensor
    condition: Tensor
    target: Tensor
