"""ICDAE: an autoencoder whose gradients do not vanish on active users (Liu, Wang, Luo and Ma 2023).

This is **a reconstruction from the abstract**, the only part of the paper that we have: gradients vanish when
an autoencoder trains on active users. Ours is a collaborative denoising autoencoder (CDAE, Wu et al. 2016)
with a user node, a corrupted input and a sigmoid hidden layer. Its pre-activation sum over the rated items is
divided by ``|I_u|^a``, because a large sum saturates the sigmoid. ``a = 0`` is plain CDAE.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from recbole_dgrm.maths.losses import masked_squared_error
from recbole_dgrm.models.base import Phase, ProfileRecommender
from recbole_dgrm.options import Dropout, read


@dataclass(frozen=True)
class ICDAEOptions:
    """Keys of ``properties/model/ICDAE.yaml``, where each is explained."""

    latent_size: PositiveInt
    activity_exponent: Annotated[float, Field(ge=0, le=2)]
    corruption: Dropout
    learning_rate: PositiveFloat


class ICDAE(ProfileRecommender):
    """A collaborative denoising autoencoder whose pre-activation is scaled by the activity of the user."""

    Options = ICDAEOptions

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.options = read(ICDAEOptions, config)
        size = self.options.latent_size
        self.encoder = nn.Linear(self.width, size)
        self.user_node = nn.Embedding(self.n_users, size)
        self.decoder = nn.Linear(size, self.width)
        nn.init.normal_(self.user_node.weight, std=0.01)
        if not self.implicit:
            nn.init.constant_(self.decoder.bias, float(self._value.mean()))

    def phases(self) -> list[Phase]:
        """One phase trains the autoencoder, with one pass per epoch."""
        return [Phase("autoencoder", list(self.parameters()), self.calculate_loss, 1, self.options.learning_rate)]

    def encode(self, user: Tensor, profile: Tensor) -> Tensor:
        """The hidden layer ``(B, latent_size)`` of the (corrupted) profiles ``(B, I)`` of users ``(B,)``."""
        activity = self.activity(user).clamp(min=1)
        total = profile @ self.encoder.weight.T / activity**self.options.activity_exponent
        return torch.sigmoid(total + self.encoder.bias + self.user_node(user))

    def calculate_loss(self, interaction) -> Tensor:
        """The squared error of all rated entries, predicted from a corrupted profile, summed over the batch."""
        user = interaction[self.USER_ID]
        x_0, mask = self.profiles(user)
        keep = (torch.rand_like(x_0) >= self.options.corruption).float() / (1 - self.options.corruption)
        hidden = self.encode(user, x_0 * keep)
        return masked_squared_error(self.decoder(hidden), x_0, mask)

    @torch.no_grad()
    def set_users(self) -> None:
        """Give new users the mean of the learnt user nodes, so that only their profiles tell them apart."""
        node = self.user_node.weight[1:].mean(dim=0, keepdim=True)
        self.user_node = nn.Embedding.from_pretrained(node.repeat(self.n_users, 1))

    @torch.no_grad()
    def score_profiles(self, user: Tensor) -> Tensor:
        """Predicted ratings ``(B, I)``."""
        x_0, _ = self.profiles(user)
        return self.decoder(self.encode(user, x_0))
