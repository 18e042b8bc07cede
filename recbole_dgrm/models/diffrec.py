"""DiffRec: the diffusion recommender model (Wang et al. 2023) in RecBole's implementation, on ratings.

Chain, network and loss are RecBole's. Here the model reads rating profiles from a sparse matrix instead of a padded
matrix of ones. Its loss can be restricted to rated items (``reconstruct: rated``), because the unrated items pull
predictions to 0. The history of its importance sampling is saved in checkpoints, and the initial noise of a profile at
prediction depends only on the user. With implicit feedback it equals RecBole's DiffRec. ``sampling_steps`` counts
FORWARD steps at prediction, unlike DGRM's T'. Profiles are dense, because RecBole's network applies dropout to every
entry of a noised profile.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from recbole.model.general_recommender.diffrec import DiffRec as RecBoleDiffRec
from torch import Tensor
from torch.nn.functional import pad

from recbole_dgrm.errors import OptionError
from recbole_dgrm.maths.noise import RowNoise
from recbole_dgrm.models.base import Phase, ProfileRecommender
from recbole_dgrm.options import Share, read
from recbole_dgrm.system import distributed


@dataclass(frozen=True)
class DiffRecOptions:
    """Keys of ``properties/model/DiffRec.yaml``; all but ``reconstruct`` and ``center`` have RecBole's names."""

    noise_schedule: Literal["linear-var", "linear", "cosine", "binomial"]
    noise_scale: NonNegativeFloat
    noise_min: Share
    noise_max: Share
    steps: Annotated[int, Field(ge=2)]
    sampling_steps: NonNegativeInt
    sampling_noise: bool
    dims_dnn: list[PositiveInt]
    embedding_size: Annotated[int, Field(ge=2)]
    reweight: bool
    reconstruct: Literal["rated", "all"]
    center: Literal["none", "bias"]
    learning_rate: PositiveFloat

    def __post_init__(self) -> None:
        if self.sampling_steps > self.steps:
            raise OptionError(f"sampling_steps={self.sampling_steps} is out of range; allowed: 0..steps={self.steps}")
        if self.noise_min >= self.noise_max:
            raise OptionError(f"noise_min={self.noise_min} must be below noise_max={self.noise_max}")


class DiffRec(ProfileRecommender, RecBoleDiffRec):
    """RecBole's DiffRec over rating profiles."""

    Options = DiffRecOptions

    def __init__(self, config, dataset):
        self.options = read(DiffRecOptions, config)
        super().__init__(config, dataset)
        self.center = self.centered(config)
        self.row_noise = RowNoise(config["seed"], self.n_items, self.device)
        for name in ("Lt_history", "Lt_count"):  # attributes in RecBole; buffers are saved in checkpoints
            table = getattr(self, name)
            delattr(self, name)
            self.register_buffer(name, table)

    def build_histroy_items(self, dataset) -> None:
        """Do nothing: RecBole would build a padded matrix, users x longest profile, and the base class has profiles."""

    def get_rating_matrix(self, user: Tensor) -> Tensor:
        """The profiles ``(B, n_items)``, with the padding column in front that RecBole's class expects."""
        x_0, self._mask = self._padded(user)
        return x_0

    def _padded(self, user: Tensor) -> tuple[Tensor, Tensor]:
        """The profiles and their mask, both ``(B, n_items)``."""
        x_0, mask = self.profiles(user)
        return pad(x_0, (1, 0)), pad(mask, (1, 0))

    def phases(self) -> list[Phase]:
        """One phase trains the denoiser, with one pass per epoch."""
        return [Phase("denoiser", list(self.mlp.parameters()), self.calculate_loss, 1, self.options.learning_rate)]

    def calculate_loss(self, interaction) -> Tensor:
        """RecBole's loss, which is a mean over the batch, times the number of users, because a phase needs the sum."""
        return super().calculate_loss(interaction) * len(interaction[self.USER_ID])

    def reweight_loss(self, x_start, x_t, mse, ts, target, model_output, device) -> Tensor:
        """RecBole's weighting of the errors by step; with ``reconstruct: rated`` the mean error of the rated items."""
        if self.options.reconstruct == "rated" and not self.implicit:
            mse = ((target - model_output).square() * self._mask).sum(dim=-1) / self._mask.sum(dim=-1).clamp(min=1)
        return super().reweight_loss(x_start, x_t, mse, ts, target, model_output, device)

    def update_Lt_history(self, ts: Tensor, reloss: Tensor) -> None:
        """RecBole's history of losses by step, with the losses of all processes."""
        super().update_Lt_history(*map(distributed.all_gather_rows, (ts, reloss.detach())))

    def set_users(self) -> None:
        """Centre the profiles of new users."""
        self.recenter(self.center)

    @torch.no_grad()
    def score_profiles(self, user: Tensor) -> Tensor:
        """The scores ``(B, I)`` at the end of RecBole's reverse chain, without the padding item.

        The initial noise of a user's profile is always the same. With ``reconstruct: rated`` each step reads only the
        rated items of the state: predictions of unrated items are not pulled to 0 in that case, and steps that read
        them would bring all users to the same state.
        """
        o, (x_t, mask) = self.options, self._padded(user)
        if o.sampling_steps:
            x_t = self.q_sample(x_t, torch.full_like(user, o.sampling_steps - 1), self.row_noise(user, self.n_items, 0))
        for step in reversed(range(o.steps)):
            t = torch.full_like(user, step)
            if o.noise_scale == 0:
                x_t = self.mlp(x_t, t)
                continue
            seen = x_t * mask if o.reconstruct == "rated" and not self.implicit else x_t
            posterior = self.p_mean_variance(seen, t)
            x_t = posterior["mean"]
            if o.sampling_noise:
                x_t = x_t + (step > 0) * torch.exp(0.5 * posterior["log_variance"]) * torch.randn_like(x_t)
        return x_t[:, 1:] + self.center.rows(user)
