"""Base of models that read and predict whole rating profiles.

A profile is a row of the rating matrix without RecBole's padding item: ``(B, I)`` with
``I = n_items - 1``, column ``j`` is item ``j + 1``. Padding is handled here and nowhere else:
``ProfileRecommender.profiles`` leaves it out, ``ProfileRecommender.full_sort_predict``
puts it back as a score of minus infinity.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from scipy.sparse import csr_matrix
from torch import Tensor, nn

BLOCK = 1 << 20  # scores held at once when only some of them are asked for


@dataclass(frozen=True)
class Phase:
    """One turn of an epoch: who learns, from which loss, for how many passes over the users.

    Attributes:
        name: shown beside its loss.
        parameters: the only ones that require gradients, and are stepped, in this phase.
        loss: batch to a scalar, a sum over the rows of the batch.
        repeat: passes over the loader.
        learning_rate: of this phase's optimizer.
        after_step: called after each step, for example to clip weights.
        from_epoch: the phase rests before this epoch.
    """

    name: str
    parameters: list[nn.Parameter]
    loss: Callable[[Any], Tensor]
    repeat: int
    learning_rate: float
    after_step: Callable[[], None] | None = None
    from_epoch: int = 0


class ProfileRecommender(GeneralRecommender):
    """Rating rows from CSR, made dense one batch at a time.

    Subclasses give ``phases`` to train and ``score_profiles`` to predict.

    Args:
        config: RecBole config; ``feedback: rating`` reads the ratings, ``implicit`` a 1 per pair.
        dataset: the training part of a RecBole data set.

    Attributes:
        trains_on_profiles: whether an epoch computes whole profiles of all users, so that to look at all predictions
            costs no more than an epoch.
        takes_new_users: whether ``with_profiles`` works: no parameter that scores need is a user's own.
    """

    input_type = InputType.LISTWISE
    takes_new_users: ClassVar[bool] = True
    trains_on_profiles: ClassVar[bool] = True
    undivided: ClassVar[str | None] = None  # why several processes cannot train it together

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.implicit = config["feedback"] == "implicit"
        self.scale = None if self.implicit else dataset.scale
        self.width = self.n_items - 1
        value_field = None if self.implicit else config["RATING_FIELD"]
        self._read(dataset.inter_matrix(form="csr", value_field=value_field))

    def _read(self, matrix: csr_matrix) -> None:
        for name, array in [("indptr", matrix.indptr), ("column", matrix.indices - 1), ("value", matrix.data)]:
            dtype = torch.float32 if name == "value" else torch.long
            self.register_buffer(f"_{name}", torch.as_tensor(array, dtype=dtype), persistent=False)

    def with_profiles(self, ratings: csr_matrix) -> Self:
        """A copy of the trained model that scores other users, whose profiles are the rows of ``ratings``.

        Args:
            ratings: ``(n_users, n_items)`` with RecBole's padding row and column; nothing is learnt from them.
        """
        other = copy.deepcopy(self).cpu()
        other.n_users = ratings.shape[0]
        other._read(ratings)
        if self.implicit:
            other._value.fill_(1)
        other.meet_users()
        return other.to(self.device)

    def meet_users(self) -> None:
        """Called in a copy that has just got its profiles, for what else is kept by user."""

    def rating_matrix(self) -> csr_matrix:
        """The profiles as a matrix ``(n_users, I)``; they must still be on the CPU."""
        indptr, column, value = (table.numpy() for table in (self._indptr, self._column, self._value))
        return csr_matrix((value.astype(np.float64), column, indptr), (self.n_users, self.width))

    def state_rows(self, interaction) -> Tensor:
        """Rows of a state that belong to each user of the batch, ``(B,)``: 1 where states are whole profiles."""
        return torch.ones_like(interaction[self.USER_ID])

    def begin_epoch(self, epoch: int) -> None:
        """Called before the phases of each epoch (from 0)."""

    def end_epoch(self, score: float | None) -> None:
        """Called after each validation with its score, more is better; ``None`` when there is no validation."""

    def score_profiles(self, user: Tensor) -> Tensor:
        """Scores ``(B, I)`` of distinct users ``(B,)``; ratings where the model predicts ratings."""
        raise NotImplementedError

    def entries(self, user: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Training entries of users ``(B,)`` as flat ``row``, ``column``, ``value``, each ``(nnz,)``."""
        start, end = self._indptr[user], self._indptr[user + 1]
        count = end - start
        row = torch.repeat_interleave(torch.arange(len(user), device=user.device), count)
        before = torch.cumsum(count, 0) - count
        index = torch.arange(len(row), device=user.device) + (start - before)[row]
        return row, self._column[index], self._value[index]

    def activity(self, user: Tensor) -> Tensor:
        """Number of training entries of users ``(B,)``, shape ``(B, 1)``."""
        return (self._indptr[user + 1] - self._indptr[user]).unsqueeze(-1)

    def dense(self, n_rows: int, row: Tensor, column: Tensor, value: Tensor | float) -> Tensor:
        """Entries as a matrix ``(n_rows, I)``, 0 elsewhere."""
        matrix = torch.zeros(n_rows, self.width, device=row.device)
        matrix[row, column] = value
        return matrix

    def profiles(self, user: Tensor) -> tuple[Tensor, Tensor]:
        """``x_0`` and ``mask``, both ``(B, I)``. With implicit feedback every item is in the mask."""
        row, column, value = self.entries(user)
        x_0 = self.dense(len(user), row, column, value)
        mask = torch.ones_like(x_0) if self.implicit else self.dense(len(user), row, column, 1.0)
        return x_0, mask

    def full_sort_predict(self, interaction) -> Tensor:
        """Scores ``(B, n_items)`` of all items for the users of the batch; the padding item gets -inf."""
        scores = self.score_profiles(interaction[self.USER_ID])
        return torch.nn.functional.pad(scores, (1, 0), value=-torch.inf)

    def predict(self, interaction) -> Tensor:
        """Scores of user-item pairs, shape ``(n_pairs,)``; each distinct user is computed once."""
        user, row = torch.unique(interaction[self.USER_ID], return_inverse=True)
        return self.score_pairs(user, row, interaction[self.ITEM_ID] - 1)

    def score_pairs(self, user: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """Scores ``(n,)`` of single items at ``row``, ``column`` ``(n,)`` of the batch of distinct users ``(B,)``."""
        scores = torch.empty(len(row), device=row.device)
        size = max(1, BLOCK // self.width)
        for start in range(0, len(user), size):
            pairs = torch.nonzero((row >= start) & (row < start + size)).squeeze(-1)
            scores[pairs] = self.score_profiles(user[start : start + size])[row[pairs] - start, column[pairs]].float()
        return scores
