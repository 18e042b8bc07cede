"""NCF: neural collaborative filtering (He et al. 2017) for ratings, on RecBole's NeuMF.

The paper uses it for rating prediction: a linear output and the squared error on rated pairs, no
sampled negatives. With implicit feedback it is RecBole's NeuMF, unchanged.
"""

from dataclasses import dataclass

import torch
from pydantic import PositiveFloat, PositiveInt
from recbole.model.general_recommender.neumf import NeuMF
from torch import Tensor

from recbole_dgrm.options import Dropout, read

PAIRS = 1 << 19  # user-item pairs scored at once in a full ranking


@dataclass(frozen=True)
class NCFOptions:
    """Keys of ``properties/model/NCF.yaml``; the names are RecBole's."""

    mf_embedding_size: PositiveInt
    mlp_embedding_size: PositiveInt
    mlp_hidden_size: list[PositiveInt]
    dropout_prob: Dropout
    mf_train: bool
    mlp_train: bool
    use_pretrain: bool
    mf_pretrain_path: str | None
    mlp_pretrain_path: str | None
    learning_rate: PositiveFloat


class NCF(NeuMF):
    """NeuMF whose output is a rating."""

    Options = NCFOptions

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        read(NCFOptions, config)
        self.implicit = config["feedback"] == "implicit"
        if not self.implicit:
            self.LABEL = config["RATING_FIELD"]
            self.predict_layer.bias.data.fill_(float(dataset.inter_feat[self.LABEL].mean()))

    def calculate_loss(self, interaction) -> Tensor:
        """Mean squared error of a batch of ratings; NeuMF's cross-entropy for implicit feedback."""
        if self.implicit:
            return super().calculate_loss(interaction)
        predicted = self.forward(interaction[self.USER_ID], interaction[self.ITEM_ID])
        return (predicted - interaction[self.LABEL]).square().mean()

    @torch.no_grad()
    def predict(self, interaction) -> Tensor:
        """Ratings of pairs ``(n_pairs,)``; logits for implicit feedback."""
        return self.forward(interaction[self.USER_ID], interaction[self.ITEM_ID])

    @torch.no_grad()
    def full_sort_predict(self, interaction) -> Tensor:
        """Scores ``(B, n_items)``; the padding item gets -inf."""
        items = torch.arange(self.n_items, device=self.device)
        users = interaction[self.USER_ID].split(max(1, PAIRS // self.n_items))
        rows = [
            self.forward(user.repeat_interleave(self.n_items), items.repeat(len(user))).view(len(user), -1)
            for user in users
        ]
        scores = torch.cat(rows)
        scores[:, 0] = -torch.inf
        return scores
