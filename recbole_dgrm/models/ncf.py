"""NCF: neural collaborative filtering (He et al. 2017) for ratings, on RecBole's NeuMF.

The DGRM paper uses it to predict ratings, so its output is linear and its loss the squared error on rated pairs,
without sampled negatives. With ``center: bias`` it predicts residuals to user and item biases. With implicit feedback
it is RecBole's NeuMF, unchanged.
"""

from dataclasses import dataclass

import torch
from pydantic import PositiveFloat, PositiveInt
from recbole.model.general_recommender.neumf import NeuMF
from torch import Tensor

from recbole_dgrm.maths.biases import Center
from recbole_dgrm.options import CenterKind, Dropout, read

PAIRS = 1 << 19  # user-item pairs scored at once in a full ranking


@dataclass(frozen=True)
class NCFOptions:
    """Keys of ``properties/model/NCF.yaml``; all but ``center`` have RecBole's names."""

    mf_embedding_size: PositiveInt
    mlp_embedding_size: PositiveInt
    mlp_hidden_size: list[PositiveInt]
    dropout_prob: Dropout
    mf_train: bool
    mlp_train: bool
    learning_rate: PositiveFloat
    center: CenterKind


class NCF(NeuMF):
    """NeuMF whose output is a rating."""

    Options = NCFOptions

    def __init__(self, config, dataset):
        own = config.replaced(use_pretrain=False, mf_pretrain_path=None, mlp_pretrain_path=None)  # NeuMF reads these
        super().__init__(own, dataset)
        options = read(NCFOptions, config)
        self.implicit = config["feedback"] == "implicit"
        self.center = Center(self.n_users, self.n_items)
        if self.implicit:
            return
        self.LABEL = config["RATING_FIELD"]
        if options.center != "none":
            ratings = dataset.inter_matrix(form="csr", value_field=self.LABEL)
            self.center.fit(ratings, options.center, config["bias_shrinkage"])
        start = 0.0 if self.center.is_fitted else float(dataset.inter_feat[self.LABEL].mean())
        self.predict_layer.bias.data.fill_(start)

    def forward(self, user: Tensor, item: Tensor) -> Tensor:
        """Maps users and items ``(n,)`` to NeuMF's outputs plus the centre, ``(n,)``."""
        return super().forward(user, item) + self.center.pairs(user, item)

    def calculate_loss(self, interaction) -> Tensor:
        """The mean squared error of a batch of ratings, or NeuMF's cross-entropy for implicit feedback."""
        if self.implicit:
            return super().calculate_loss(interaction)
        predicted = self.forward(interaction[self.USER_ID], interaction[self.ITEM_ID])
        return (predicted - interaction[self.LABEL]).square().mean()

    @torch.no_grad()
    def predict(self, interaction) -> Tensor:
        """The ratings ``(n,)`` of user-item pairs, or their logits for implicit feedback."""
        return self.forward(interaction[self.USER_ID], interaction[self.ITEM_ID])

    @torch.no_grad()
    def full_sort_predict(self, interaction) -> Tensor:
        """The scores ``(B, n_items)`` of all items for the users of the batch; the padding item gets -inf."""
        items = torch.arange(self.n_items, device=self.device)
        users = interaction[self.USER_ID].split(max(1, PAIRS // self.n_items))
        rows = [
            self.forward(user.repeat_interleave(self.n_items), items.repeat(len(user))).view(len(user), -1)
            for user in users
        ]
        scores = torch.cat(rows)
        scores[:, 0] = -torch.inf
        return scores
