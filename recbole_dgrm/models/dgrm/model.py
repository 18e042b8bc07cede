"""DGRM (Deng et al.): a diffusion model and a Wasserstein GAN that train each other.

This is what the paper trains, in its order: forward chain (step 1), generator (step 2), backward step (step 3),
critic (step 4) and the two losses. Prediction is in ``sampling.py`` and ``scoring.py``, the chain in ``diffusion.py``.
All states are those of ``profiles.py``, so no tensor of users x items exists.

Deviations from the paper
    * The paper states no Lipschitz constraint for its Wasserstein critic; ours has a gradient penalty
      by default (``lipschitz``).
    * Rows may be items instead of users, and G may read which entries are rated (``orientation``, ``mask_channel``).
    * The users of a batch share few rows of noise (``noise_rows``): each user's states are distributed as the paper's,
      but users of a batch are not independent (``noise.py``).
    * Everything under "Generalisation" in the YAML file is ours, and off in ``DGRM.yaml``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from recbole_dgrm.errors import OptionError
from recbole_dgrm.maths import losses
from recbole_dgrm.maths.factorization import Factorization, Sampling
from recbole_dgrm.maths.layers import Outputs, clip_weights
from recbole_dgrm.maths.noise import RowNoise
from recbole_dgrm.maths.ridge import MOST_ITEMS, ItemRidge
from recbole_dgrm.models.base import Phase
from recbole_dgrm.models.dgrm.blend import ClosedForm
from recbole_dgrm.models.dgrm.diffusion import DiffusionChain, linear_variance_betas
from recbole_dgrm.models.dgrm.networks import Critic, Generator
from recbole_dgrm.models.dgrm.noise import Factors, GivenRows, SharedNoise, shared_rows
from recbole_dgrm.models.dgrm.options import BURN_IN, DGRMOptions
from recbole_dgrm.models.dgrm.profiles import Rows, State
from recbole_dgrm.models.dgrm.sampling import condition
from recbole_dgrm.models.dgrm.scoring import ChainRecommender, Kept
from recbole_dgrm.options import read
from recbole_dgrm.system import distributed
from recbole_dgrm.system.data_parallel import whole_batch

START = 0.5  # the share of the model to blend with before it is chosen
STEP = 0.1
SHARES = [round(STEP * step, 6) for step in range(11)]
NOISES = 4  # of a user in a training step: of x_{t-1}, of x_t, of the posterior, and z


class DGRM(ChainRecommender):
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
        latent_size = self.width if o.latent_size is None else o.latent_size
        reads_mask = o.mask_channel and not self.implicit  # of implicit feedback it would be all there is to predict
        self.generator = Generator(self.width, o.generator_hidden, latent_size, o.step_embedding_size, reads_mask)
        self.critic = Critic(self.width, o.critic_hidden, o.step_embedding_size) if o.adversarial_weight else None
        self.row_noise = RowNoise(config["seed"], max(self.width, latent_size, *o.generator_hidden), self.device)
        self.factors, self.kept = Factors(), Kept()
        self.rating_field = config["RATING_FIELD"]
        self.takes_new_users = bool(o.blend) or not self.by_item
        other = self._other(config) if o.blend else None  # reads ratings, before profiles are centred
        self.closed_form = ClosedForm(self.centered(config))
        if other:
            self.closed_form.blend_with(other, START if o.blend == "auto" else o.blend)

    def _other(self, config) -> Factorization | ItemRidge:
        """The model to blend with."""
        o, ratings = self.options, self.rating_matrix()
        if not self.implicit:
            numbers = o.blend_factors, "both", o.blend_components, o.blend_chains, BURN_IN, o.blend_sweeps, None
            return Factorization(ratings, Sampling(*numbers, seed=config.run.seed))
        if ratings.shape[1] > MOST_ITEMS:
            raise OptionError(
                f"blend={o.blend} inverts a matrix of items x items under implicit feedback, and there are "
                f"{ratings.shape[1]} items, more than {MOST_ITEMS}; set blend=0"
            )
        return ItemRidge(ratings, o.blend_ridge)

    def begin_epoch(self, epoch: int) -> None:
        """The model to blend with learns before the first epoch."""
        self.closed_form.learn()

    def choose(self, valid_data, score: Callable[[], float]) -> None:
        """Choose the share of the model to blend with, on validation.

        Under ratings it is the one with the least squared error there, under implicit feedback a step of ``STEP`` up
        or down from the last, if that has the better score.
        """
        if self.options.blend != "auto":
            return
        share = self.closed_form.share
        if self.implicit:
            near = {round(share.item() + step, 6) for step in (-STEP, 0.0, STEP)} & set(SHARES)
            share.fill_(max(sorted(near), key=lambda value: (share.fill_(value), score())[1]))
        else:
            share.fill_(self._best_share(valid_data))

    @torch.no_grad()
    def _best_share(self, valid_data) -> float:
        """The share that minimises the squared error of rated pairs."""
        product = square = 0.0
        self.eval()
        for pairs, *_ in valid_data:
            pairs = pairs.to(self.device)
            rating, ends = pairs[self.rating_field].double(), []
            for share in (0.0, 1.0):
                self.closed_form.share.fill_(share)
                ends.append(self.predict(pairs).double())
            product += ((rating - ends[0]) * (ends[1] - ends[0])).sum().item()
            square += (ends[1] - ends[0]).square().sum().item()
        product, square = distributed.all_reduce_sum(product), distributed.all_reduce_sum(square)
        return min(1.0, max(0.0, product / square)) if square else START

    def chosen(self) -> dict[str, float]:
        """What ``choose`` has chosen."""
        return {"share": self.closed_form.share.item()} if self.options.blend == "auto" else {}

    def adopt(self, chosen: dict[str, float]) -> None:
        """Take over what another has ``chosen``, and do not choose again."""
        if "share" in chosen:
            self.closed_form.share.fill_(chosen["share"])

    def set_users(self) -> None:
        """Solve the centre and rows of users who were not there in training.

        Where profiles are those of items, the generator has no weights for them, so they get the other model alone.
        """
        self.closed_form.set_users(self.rating_matrix())
        if self.by_item:
            self.closed_form.share.fill_(1.0)
        self.recenter(self.closed_form.center)

    def state_rows(self, interaction) -> Tensor:
        """The number of rated entries of each profile, ``(B,)``."""
        return self.activity(interaction[self.row_field]).squeeze(-1)

    # Step 1 is the forward chain. The generator's condition may hide a part of the profile.

    def draw(self, ids: Tensor) -> "Draw":
        """What one training step sees of profiles ``(B,)``: themselves, steps, real pairs and conditions."""
        o, x_0 = self.options, self.x_0(ids)
        if o.fixed_step is None:
            t = torch.randint(1, o.noise_steps + 1, (len(ids),), device=ids.device)
        else:
            t = torch.full((len(ids),), o.fixed_step, device=ids.device)
        noise, z = self._noises(x_0)
        x_tm1, x_t = self.chain.q_pair(x_0, t, noise)
        kept = target = torch.ones_like(x_0.value)
        if o.condition_dropout:
            kept = (torch.rand_like(kept) >= o.condition_dropout).float()
            target = 1 - kept if o.reconstruct == "hidden" else target
        return Draw(x_0, t, x_tm1, x_t, condition(x_t, kept, o.condition_scale), z, noise, target)

    def _noises(self, x_0: State) -> tuple[Callable[[], State], Rows | None]:
        """The noises of one step: a function that gives another one for each call, and z."""
        n_users, latent_size, device = x_0.places.n_rows, self.generator.latent_size, x_0.value.device
        wide = latent_size > self.options.generator_hidden[0]
        width = max(self.width, latent_size) if wide else self.width
        n_rows = shared_rows(whole_batch(n_users)) if self.options.noise_rows == "auto" else self.options.noise_rows
        shared = SharedNoise(n_rows, width, n_users, NOISES, device)
        z = None
        if latent_size:
            z = shared.another(latent_size) if wide else GivenRows(torch.randn(n_users, latent_size, device=device))
        if self.options.noise_support == "rated":
            return lambda: State(x_0.places, torch.randn_like(x_0.value)), z
        return lambda: State.of(shared.another(self.width), x_0.places), z

    # In steps 2 and 3 the generator predicts x_0, the masking layer restores the sparsity,
    # and the posterior turns it into a fake x_{t-1}.

    def generate(self, draw: "Draw") -> tuple[Outputs, State]:
        """The prediction ``x_0_hat`` and the fake ``x_{t-1}`` (sections 3.1 and 3.2)."""
        x_0_hat = self.generator(draw.condition, draw.z, draw.t)
        return x_0_hat, self.chain.q_posterior(self._masked(x_0_hat, draw.x_0), draw.x_t, draw.t, draw.noise())

    def _masked(self, x_0_hat: Outputs, x_0: State) -> State:
        """The masking layer: predictions of rated items only. Implicit feedback is about all items."""
        if self.implicit and self.options.noise_support == "all":
            return State.of(x_0_hat, x_0.places)
        return State(x_0.places, x_0_hat.at(x_0.places))

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
        )
        return [critic, generator]

    def critic_loss(self, interaction) -> Tensor:
        """The loss of the critic (Eq. 21) and its Lipschitz term in ``x_{t-1}``, summed over the batch."""
        draw, critic = self.draw(interaction[self.row_field]), self.critic
        with torch.no_grad():
            _, fake_state = self.generate(draw)
        beside = critic.beside(draw.x_t, draw.t)
        real, fake = critic.read(draw.x_tm1) + beside, critic.read(fake_state) + beside
        loss = self.critic_objective(critic.score(real), critic.score(fake))
        everywhere = self.options.noise_support == "all"
        squared_norms = partial(critic.squared_norms, places=None if everywhere else draw.x_0.places)
        if self.options.lipschitz == "gradient_penalty":
            penalty = losses.gradient_penalty(critic.score, real, fake, squared_norms)
            return loss + self.options.lipschitz_weight * penalty
        if self.options.lipschitz == "r1":
            return loss + self.options.lipschitz_weight * losses.r1_penalty(critic.score, real, squared_norms)
        return loss

    def generator_loss(self, interaction) -> Tensor:
        """The loss of the generator (Eq. 22), summed over the batch."""
        draw = self.draw(interaction[self.row_field])
        x_0_hat, fake = self.generate(draw)
        loss = self.options.reconstruction_weight * self._reconstruction(x_0_hat, draw)
        if self.critic is None:
            return loss
        adversarial = self.generator_objective(self.critic(fake, draw.x_t, draw.t))
        return self.options.adversarial_weight * adversarial + loss

    def _reconstruction(self, x_0_hat: Outputs, draw: "Draw") -> Tensor:
        """The squared error of the rated items that are asked for; of implicit feedback, of unrated ones beside."""
        x_0 = draw.x_0
        predicted = x_0_hat.at(x_0.places)
        rated = losses.masked_squared_error(predicted, x_0.value, draw.target)
        if not self.implicit:
            return rated
        hidden = self.options.condition_dropout if self.options.reconstruct == "hidden" else 1.0
        return rated + hidden * (x_0_hat.squares().sum() - predicted.square().sum())


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
        x_0: the profiles of the batch.
        t: the steps of the users, ``(B,)``.
        x_tm1, x_t: the pair of states that is real for the critic.
        condition: what the generator reads of ``x_t``.
        z: what the generator reads beside it, ``(B, latent_size)``; None without.
        noise: gives the noise of one more step, for the posterior.
        target: 1 at the rated entries where the reconstruction counts, else 0, ``(nnz,)``.
    """

    x_0: State
    t: Tensor
    x_tm1: State
    x_t: State
    condition: State
    z: Rows | None
    noise: Callable[[], State]
    target: Tensor
