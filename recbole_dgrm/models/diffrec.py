"""DiffRec: the diffusion recommender model (Wang et al. 2023) in RecBole's implementation, on ratings.

Chain, network and loss are RecBole's. Here the model reads rating profiles from a sparse matrix instead of a padded
matrix of ones. Its loss can be restricted to rated items (``reconstruct: rated``), because the unrated items pull
predictions to 0. The history of its importance sampling is saved in checkpoints, and the initial noise of a profile at
prediction depends only on the user. With implicit feedback it equals RecBole's DiffRec. ``sampling_steps`` counts
FORWARD steps at prediction, unlike DGRM's T'.

With ``reconstruct: rated`` training computes outputs at rated items only. Its inputs are dense, because RecBole's
network applies dropout to every entry of a noised profile. Prediction reads and computes single entries only.
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from recbole.model.general_recommender.diffrec import DiffRec as RecBoleDiffRec
from recbole.model.general_recommender.diffrec import timestep_embedding
from torch import Tensor, nn
from torch.nn.functional import linear, pad

from recbole_dgrm.errors import OptionError
from recbole_dgrm.maths.layers import Outputs
from recbole_dgrm.maths.noise import RowNoise
from recbole_dgrm.maths.sparse import Places, sparse_product
from recbole_dgrm.models.base import Phase, ProfileRecommender
from recbole_dgrm.options import CenterKind, Share, read
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
    dims_dnn: Annotated[list[PositiveInt], Field(min_length=1)]
    embedding_size: Annotated[int, Field(ge=2)]
    reweight: bool
    reconstruct: Literal["rated", "all"]
    center: CenterKind
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
        self.by_entries = self.options.reconstruct == "rated" and not self.implicit
        if self.by_entries and config["mean_type"] != "x0":
            raise OptionError(f"mean_type={config['mean_type']} needs reconstruct=all: noise has no rated items")
        self.sampling_steps = 0  # for RecBole's chain, to which prediction gives the noised profile
        self.row_noise = RowNoise(config["seed"], self.n_items, self.device)
        for name in ("Lt_history", "Lt_count"):  # attributes in RecBole; buffers are saved in checkpoints
            table = getattr(self, name)
            delattr(self, name)
            self.register_buffer(name, table)

    def build_histroy_items(self, dataset) -> None:
        """Do nothing: RecBole would build a padded matrix, users x longest profile, and the base class has profiles."""

    def get_rating_matrix(self, user: Tensor) -> Tensor:
        """The profiles ``(B, n_items)``, with the padding column in front that RecBole's class expects."""
        return pad(self.profiles(user)[0], (1, 0))

    def phases(self) -> list[Phase]:
        """One phase trains the denoiser, with one pass per epoch."""
        return [Phase("denoiser", list(self.mlp.parameters()), self.calculate_loss, 1, self.options.learning_rate)]

    def calculate_loss(self, interaction) -> Tensor:
        """RecBole's loss times the number of users, because a phase needs a sum; of rated items with that option."""
        user = interaction[self.USER_ID]
        if not self.by_entries:
            return super().calculate_loss(interaction) * len(user)
        rated, x_0 = self.rated(user)
        t, share = self.sample_timesteps(len(user), user.device, "importance")
        x_t = pad(rated.dense(x_0), (1, 0))
        noise = torch.randn_like(x_t)
        if self.options.noise_scale:
            x_t = self.q_sample(x_t, t, noise)
        *layers, last = self.mlp.mlp_layers.mlp_layers
        hidden = nn.Sequential(*layers)(torch.cat([self.mlp.drop(x_t), self._embedded(t)], dim=-1))
        padded = Places(len(user), self.n_items, rated.row, rated.column + 1)
        x_0_hat = Outputs.of(hidden, last).at(padded)
        error = rated.sums((x_0 - x_0_hat).square()) / self.activity(user).clamp(min=1)
        loss = self.reweight_loss(None, None, error.squeeze(-1), t, user, None, user.device)
        self.update_Lt_history(t, loss)
        return (loss / share).sum()

    def update_Lt_history(self, ts: Tensor, reloss: Tensor) -> None:
        """RecBole's history of the last losses of each step, with the losses of all processes."""
        ts, loss = map(distributed.all_gather_rows, (ts, reloss.detach()))
        for step, last in enumerate(self.Lt_history):
            kept = torch.cat([last[: self.Lt_count[step]], loss[ts == step].to(last)])[-len(last) :]
            last[: len(kept)] = kept
            self.Lt_count[step] = len(kept)

    def set_users(self) -> None:
        """Centre the profiles of new users."""
        self.recenter(self.center)

    @torch.no_grad()
    def score_profiles(self, user: Tensor) -> Tensor:
        """The scores ``(B, I)`` at the end of the reverse chain, which begins with the same noise at each call."""
        if self.by_entries:
            return self._last_outputs(user).dense() + self.center.rows(user)
        x_t = self.get_rating_matrix(user)
        if steps := self.options.sampling_steps:
            x_t = self.q_sample(x_t, torch.full_like(user, steps - 1), self.row_noise(user, self.n_items, 0))
        return self.p_sample(x_t)[:, 1:] + self.center.rows(user)

    @torch.no_grad()
    def score_at(self, user: Tensor, places: Places) -> Tensor:
        """The scores ``(n,)`` at ``places``; the chain of ``reconstruct: all`` needs whole profiles."""
        if not self.by_entries:
            return super().score_at(user, places)
        return self._last_outputs(user).at(places) + self.center.at(user, places)

    def _last_outputs(self, user: Tensor) -> Outputs:
        """The outputs ``(B, I)`` of the last reverse step; each step reads the rated items of the state.

        Predictions of unrated items are not pulled to 0, and steps that read them would bring all users to one state.
        """
        o, (rated, x_t) = self.options, self.rated(user)
        if o.sampling_steps:
            noise = self.row_noise.at(user[rated.row], rated.column + 1, 0)
            x_t = self.q_sample(x_t, torch.full_like(rated.row, o.sampling_steps - 1), noise)
        column, index = torch.unique(rated.column, return_inverse=True)
        _, first, *rest, last = self.mlp.mlp_layers.mlp_layers
        weight = first.weight[:, column + 1].T.contiguous()
        read, of_step = Places(len(user), len(column), rated.row, index), first.weight[:, self.n_items :]
        for step in reversed(range(o.steps)):
            embedded = self._embedded(torch.full_like(user, step))
            hidden = nn.Sequential(*rest)(sparse_product(read, x_t, weight) + linear(embedded, of_step, first.bias))
            outputs = Outputs(hidden, last.weight[1:], last.bias[1:])
            if step and o.noise_scale:
                t = torch.full_like(rated.row, step)
                x_t, _, log_variance = self.q_posterior_mean_variance(outputs.at(rated), x_t, t)
                if o.sampling_noise:
                    x_t = x_t + torch.exp(0.5 * log_variance) * torch.randn_like(x_t)
            elif step:
                x_t = outputs.at(rated)
        return outputs

    def _embedded(self, t: Tensor) -> Tensor:
        return self.mlp.emb_layer(timestep_embedding(t, self.emb_size))
