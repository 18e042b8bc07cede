"""DGRM (Deng et al.): a diffusion model and a Wasserstein GAN that train each other.

The class has the paper's order: forward chain (step 1), generator (step 2), backward step (step 3), critic (step 4),
and the two losses (``critic_loss``, ``generator_loss``). Eqs. 11 to 20, the chain, are in ``diffusion.py``, the
networks in ``networks.py``, prediction (section 3.3) in ``prediction.py`` and ``sampling.py``. A ``State`` represents a
batch of profiles ``(B, I)``, the paper's R, without a tensor of that size: see ``profiles.py``.

Deviations from the paper
    * The paper states no Lipschitz constraint for its Wasserstein critic; ours has a gradient penalty
      by default (``lipschitz``).
    * The users of a batch share rows of noise: the states of each user have the paper's distribution, but the users
      of a batch are not independent (``noise.py``).
    * With ``step_cost: ratings`` the noise has no gradient, and its covariance is that of the weights at the start of
      the phase; only the weights of items that the batch has rated are updated.
    * All keys under "Generalisation" in the YAML file are ours, and have no effect by default.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from recbole_dgrm.errors import OptionError
from recbole_dgrm.maths import losses
from recbole_dgrm.maths.layers import Outputs, clip_weights
from recbole_dgrm.maths.noise import RowNoise
from recbole_dgrm.models.base import Phase
from recbole_dgrm.models.dgrm.diffusion import DiffusionChain, linear_variance_betas
from recbole_dgrm.models.dgrm.networks import Critic, Generator
from recbole_dgrm.models.dgrm.noise import Factors, FirstLayers, GivenRows, SharedNoise
from recbole_dgrm.models.dgrm.options import DGRMOptions
from recbole_dgrm.models.dgrm.prediction import ChainRecommender
from recbole_dgrm.models.dgrm.profiles import Draw, Rows, State
from recbole_dgrm.models.dgrm.sampling import condition
from recbole_dgrm.options import read

SPARSE = 0.005  # step_cost=auto is ratings if a smaller share of all entries is rated
SMALL_LATENT = 16  # default width of z with step_cost=ratings
NOISES = 4  # noises per user and training step: those of x_{t-1}, x_t and the posterior, and z
BEFORE_0_3 = "closed_form."  # prefix of the centre in states of version 0.2.0


class DGRM(ChainRecommender):
    """Diffusion-GAN recommendation model.

    Args:
        config: RecBole config with every key of ``DGRMOptions``.
        dataset: the training part of a RecBole data set.
    """

    Options: type[DGRMOptions] = DGRMOptions
    critic_objective = staticmethod(losses.critic_loss)
    generator_objective = staticmethod(losses.generator_loss)

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        o = self.options = read(self.Options, config)
        self.chain = DiffusionChain(linear_variance_betas(o.noise_steps, o.noise_scale, o.noise_min, o.noise_max))
        self.by_ratings = self._steps_by_ratings(config["learner"].lower())
        widest = SMALL_LATENT if self.by_ratings else self.width
        latent_size = min(self.width, widest) if o.latent_size is None else o.latent_size
        self.generator = self.new_generator(latent_size)
        self.critic = Critic(self.width, o.critic_hidden, o.step_embedding_size) if o.adversarial_weight else None
        self.row_noise = RowNoise(config["seed"], max(self.width, latent_size, *o.generator_hidden), self.device)
        self.factors = Factors()
        critic = list(self.critic.first.states) if self.critic else []
        self.first_layers = FirstLayers([self.generator.first.states[0], *critic])
        self.center = self.centered(config)
        self.mean_count = len(self._value) / max(1, int((torch.diff(self._indptr) > 0).sum()))
        self._start([*self.generator.first.states[: self.generator.n_states], *critic])
        self.average = None
        if o.weight_average:
            self.average = AveragedModel(self.generator, avg_fn=self._averaged).requires_grad_(False)

    @torch.no_grad()
    def _start(self, first: list[Tensor]) -> None:
        """Let the generator start at the mean of the profiles' values, which stays its output for unrated entries.

        Its output weights start at 0, so that entries with few ratings, whose weights hardly learn, are predicted near
        the mean. With ``step_cost: ratings`` neither gradient nor weight decay reaches the weights of unrated entries
        in the ``first`` layers, which are 0, too.
        """
        if not self.implicit:
            self.generator.output.bias.fill_(self._value.mean())
            self.generator.output.weight.zero_()
        if self.by_ratings:
            unrated = torch.bincount(self._column, minlength=self.width) == 0
            for weight in first:
                weight[unrated] = 0

    def _averaged(self, average: Tensor, now: Tensor, n_averaged: Tensor | int) -> Tensor:
        """The moving average of a weight after one more epoch; of the first epochs it is the mean."""
        return average.lerp(now, max(1 - self.options.weight_average, 1 / (int(n_averaged) + 1)))

    def _steps_by_ratings(self, learner: str) -> bool:
        """Whether a training step costs by its ratings; its sparse gradients need our Adam."""
        if (cost := self.options.step_cost) == "ratings" and learner != "adam":
            raise OptionError(f"step_cost=ratings needs learner=adam, not {learner}; set step_cost=items")
        few = len(self._value) < SPARSE * (len(self._indptr) - 2) * self.width
        return cost == "ratings" or (cost == "auto" and few and learner == "adam" and not self.implicit)

    def new_generator(self, latent_size: int) -> Generator:
        """The untrained generator."""
        o = self.options
        return Generator(self.width, o.generator_hidden, latent_size, o.step_embedding_size)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False):
        """Load a state; that of version 0.2.0 has other names for some parts."""
        renamed = {name.removeprefix(BEFORE_0_3): value for name, value in state_dict.items()}
        if not hasattr(self, "share"):  # in 0.2.0 all models had the share of DGRMPlus
            renamed.pop("share", None)
        self.first_layers.forget()
        return super().load_state_dict(renamed, strict, assign)

    # Step 1: the forward chain. A part of the profile may be hidden from the generator.

    def draw(self, ids: Tensor) -> Draw:
        """Sample the inputs of a training step for the profiles ``(B,)``."""
        o, x_0 = self.options, self.x_0(ids)
        if o.fixed_step is None:
            t = torch.randint(1, o.noise_steps + 1, (len(ids),), device=ids.device)
        else:
            t = torch.full((len(ids),), o.fixed_step, device=ids.device)
        noise, z = self._noises(x_0)
        x_tm1, x_t = self.chain.q_pair(x_0, t, noise)
        shown = target = torch.ones_like(x_0.value)
        if o.condition_dropout:
            shown = (torch.rand_like(shown) >= o.condition_dropout).float()
            target = 1 - shown if o.reconstruct == "hidden" else target
        return Draw(x_0, t, x_tm1, x_t, condition(x_t, shown, o.condition_scale, self.mean_count), z, noise, target)

    def _noises(self, x_0: State) -> tuple[Callable[[], State], Rows | None]:
        """The noises of one training step: a function that returns a new one with each call, and z."""
        n_users, latent_size, device = x_0.places.n_rows, self.generator.latent_size, x_0.value.device
        wide = latent_size > self.options.generator_hidden[0] and not self.by_ratings
        width = max(self.width, latent_size) if wide else self.width
        shared = SharedNoise(width, n_users, NOISES, device)
        z = None
        if latent_size:
            z = shared.another(latent_size) if wide else GivenRows(torch.randn(n_users, latent_size, device=device))
        if self.options.noise_support == "rated":
            return lambda: State(x_0.places, torch.randn_like(x_0.value)), z
        if self.by_ratings:
            return lambda: State(x_0.places, torch.zeros_like(x_0.value), dict([self.first_layers.sample(n_users)])), z
        return lambda: State.of(shared.another(self.width), x_0.places), z

    # Steps 2 and 3: the generator predicts x_0, the masking layer restores the sparsity, and the posterior makes a fake
    # x_{t-1} of it.

    def generate(self, draw: Draw) -> tuple[Outputs, State]:
        """The prediction ``x_0_hat`` and the fake ``x_{t-1}`` (sections 3.1 and 3.2)."""
        x_0_hat = self.generator(draw.condition, draw.z, draw.t)
        return x_0_hat, self.chain.q_posterior(self._masked(x_0_hat, draw.x_0), draw.x_t, draw.t, draw.noise())

    def _masked(self, x_0_hat: Outputs, x_0: State) -> State:
        """The masking layer: the predictions of rated items; with implicit feedback those of all items."""
        if self.implicit and self.options.noise_support == "all":
            return State.of(x_0_hat, x_0.places)
        return State(x_0.places, x_0_hat.at(x_0.places))

    # Step 4: the critic and the two losses.

    def critic_loss(self, interaction) -> Tensor:
        """Eq. 21, ``sum D(x_{t-1}, x_t, t) - sum D(fake x_{t-1}, x_t, t)``, plus the Lipschitz term in ``x_{t-1}``."""
        draw, critic = self.draw(interaction[self.row_field]), self.critic
        with torch.no_grad():
            _, fake_state = self.generate(draw)
        given = critic.read_condition(draw.x_t, draw.t)
        real, fake = critic.read_state(draw.x_tm1) + given, critic.read_state(fake_state) + given
        loss = self.critic_objective(critic.score(real), critic.score(fake))
        everywhere, places = self.options.noise_support == "all", draw.x_0.places
        squared_norms = partial(critic.squared_norms, places=None if everywhere else places)
        if self.by_ratings and everywhere:
            squared_norms = partial(self.first_layers.squared_norms, weight=critic.first.states[0], places=places)
        if self.options.lipschitz == "gradient_penalty":
            penalty = losses.gradient_penalty(critic.score, real, fake, squared_norms)
            return loss + self.options.lipschitz_weight * penalty
        if self.options.lipschitz == "r1":
            return loss + self.options.lipschitz_weight * losses.r1_penalty(critic.score, real, squared_norms)
        return loss

    def generator_loss(self, interaction) -> Tensor:
        """Eq. 22, ``sum D(fake x_{t-1}, x_t, t) + lambda sum |(x_0_hat - x_0) * mask|^2``."""
        draw = self.draw(interaction[self.row_field])
        x_0_hat, fake = self.generate(draw)
        loss = self.options.reconstruction_weight * self._reconstruction(x_0_hat, draw)
        if self.critic is None:
            return loss
        adversarial = self.generator_objective(self.critic(fake, draw.x_t, draw.t))
        return self.options.adversarial_weight * adversarial + loss

    def _reconstruction(self, x_0_hat: Outputs, draw: Draw) -> Tensor:
        """The squared error of the rated items in ``draw.target``; with implicit feedback also of unrated items."""
        x_0 = draw.x_0
        predicted = x_0_hat.at(x_0.places)
        rated = losses.masked_squared_error(predicted, x_0.value, draw.target)
        if not self.implicit:
            return rated
        hidden = self.options.condition_dropout if self.options.reconstruct == "hidden" else 1.0
        return rated + hidden * (x_0_hat.squares().sum() - predicted.square().sum())

    def phases(self) -> list[Phase]:
        """The critic trains first, then the generator; without a critic only the generator trains."""
        o = self.options
        g = list(self.generator.parameters())
        generator = Phase(
            "generator",
            g,
            self.generator_loss,
            o.generator_iterations,
            o.learning_rate,
            after=partial(self.average.update_parameters, self.generator) if self.average else None,
            decay_per_rating=o.decay_per_rating,
        )
        if self.critic is None:
            return [self._with_current_noise(generator, self.generator)]
        clip = partial(clip_weights, self.critic, o.weight_clip) if o.lipschitz == "weight_clipping" else None
        d, rate = list(self.critic.parameters()), o.critic_learning_rate
        critic = Phase("critic", d, self.critic_loss, o.critic_iterations, rate, clip)
        return [self._with_current_noise(critic, self.generator), self._with_current_noise(generator, self.critic)]

    def _with_current_noise(self, phase: Phase, changed: nn.Module) -> Phase:
        """The phase with noise through the first layers as they are at its start; before, only ``changed`` learned."""
        sampled = self.by_ratings and self.options.noise_support == "all"
        return replace(phase, before=partial(self.first_layers.refresh, *changed.first.states)) if sampled else phase


class DGRMKL(DGRM):
    """DGRM-KL (section 4.3), with the Kullback-Leibler form of the adversarial loss instead of Wasserstein's.

    D outputs a logit, high for real pairs, and is trained with binary cross-entropy; G has the non-saturating
    loss. Reconstruction, rating scale and prediction are those of DGRM.
    """

    critic_objective = staticmethod(losses.discriminator_loss)
    generator_objective = staticmethod(losses.non_saturating_loss)
