"""ICDAE: an autoencoder whose gradients do not vanish on active users (Liu, Wang, Luo and Ma 2023).

This is **a reconstruction from the abstract**, the only part of the paper that we have: gradients vanish if an
autoencoder is trained on active users. Ours is a collaborative denoising autoencoder (CDAE, Wu et al. 2016)
with a user node, a corrupted input and a sigmoid hidden layer. Its pre-activation sum over the rated items is
divided by ``|I_u|^a``, because a large sum saturates the sigmoid. ``a = 0`` is plain CDAE.

With ``center: bias`` profiles are residuals to user and item biases.

Training computes rated entries only, so the time of an epoch is proportional to the number of ratings, and no tensor of
users x items exists.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from recbole_dgrm.maths.layers import Outputs, SparseLinear
from recbole_dgrm.maths.sparse import Places
from recbole_dgrm.models.base import Phase, ProfileRecommender
from recbole_dgrm.options import CenterKind, Dropout, read


@dataclass(frozen=True)
class ICDAEOptions:
    """Keys of ``properties/model/ICDAE.yaml``, where each is explained."""

    latent_size: PositiveInt
    activity_exponent: Annotated[float, Field(ge=0, le=2)]
    corruption: Dropout
    center: CenterKind
    learning_rate: PositiveFloat


class ICDAE(ProfileRecommender):
    """A collaborative denoising autoencoder whose pre-activation is scaled by the activity of the user."""

    Options = ICDAEOptions

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.options = read(ICDAEOptions, config)
        self.center = self.centered(config)
        size = self.options.latent_size
        self.encoder = SparseLinear(self.width, size)
        self.user_node = nn.Embedding(self.n_users, size)
        self.decoder = nn.Linear(size, self.width)
        nn.init.normal_(self.user_node.weight, std=0.01)
        if not self.implicit:
            nn.init.constant_(self.decoder.bias, float(self._value.mean()))

    def phases(self) -> list[Phase]:
        """One phase trains the autoencoder, with one pass per epoch."""
        return [Phase("autoencoder", list(self.parameters()), self.calculate_loss, 1, self.options.learning_rate)]

    def encode(self, user: Tensor, places: Places, value: Tensor) -> Tensor:
        """The hidden layer ``(B, latent_size)`` of users ``(B,)``, given their (corrupted) entries at ``places``."""
        activity = places.spread(self.activity(user).clamp(min=1)).float()
        scaled = value / activity**self.options.activity_exponent
        return torch.sigmoid(self.encoder(places, scaled) + self.user_node(user))

    def calculate_loss(self, interaction) -> Tensor:
        """The squared error of predictions from corrupted profiles, summed over the batch.

        It is computed on the rated entries, and with implicit feedback on all items.
        """
        user = interaction[self.USER_ID]
        places, value = self.rated(user)
        keep = (torch.rand_like(value) >= self.options.corruption).float() / (1 - self.options.corruption)
        outputs = Outputs.of(self.encode(user, places, value * keep), self.decoder)
        predicted = outputs.at(places)
        rated = (predicted - value).square().sum()
        return rated + outputs.squares().sum() - predicted.square().sum() if self.implicit else rated

    @torch.no_grad()
    def set_users(self) -> None:
        """Give all new users the mean of the learnt user nodes, so that they differ only in their profiles."""
        node = self.user_node.weight[1:].mean(dim=0, keepdim=True)
        self.user_node = nn.Embedding.from_pretrained(node.repeat(self.n_users, 1))
        self.recenter(self.center)

    @torch.no_grad()
    def score_profiles(self, user: Tensor) -> Tensor:
        """Predicted ratings ``(B, I)``."""
        return self._outputs(user).dense() + self.center.rows(user)

    @torch.no_grad()
    def score_at(self, user: Tensor, places: Places) -> Tensor:
        """Predicted ratings ``(n,)`` at ``places``."""
        return self._outputs(user).at(places) + self.center.at(user, places)

    def _outputs(self, user: Tensor) -> Outputs:
        return Outputs.of(self.encode(user, *self.rated(user)), self.decoder)
