"""Base of models that read and predict whole rating profiles.

A profile is a row of the rating matrix without RecBole's padding item: ``(B, I)`` with
``I = n_items - 1``, column ``j`` is item ``j + 1``. Padding is handled here and nowhere else:
``ProfileRecommender.profiles`` leaves it out, ``ProfileRecommender.full_sort_predict``
puts it back as a score of minus infinity.

With the key ``orientation: item``, for models that have it, the matrix is transposed: a profile has the ratings of an
item by all users, ``(B, n_users - 1)``, and training batches consist of items. Scores are still computed by user.
"""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from recbole.model.abstract_recommender import GeneralRecommender
from recbole.utils import InputType
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from recbole_dgrm.maths.biases import Center
from recbole_dgrm.maths.sparse import Places

BLOCK = 1 << 20  # scores that are computed at once if only some of them are needed


@dataclass(frozen=True)
class Phase:
    """One phase of an epoch: the parameters that learn, their loss, and the number of passes over the users.

    Attributes:
        name: the name of the loss in logs.
        parameters: the only parameters that require gradients, and are stepped, in this phase.
        loss: maps a batch to a scalar, a sum over the rows of the batch.
        repeat: the number of passes over the loader per epoch.
        learning_rate: the learning rate of this phase's optimizer.
        after_step: called after each step, for example to clip weights.
        from_epoch: the first epoch of the phase, counted from 0.
        before, after: called at the start and at the end of the phase in each epoch.
        decay_per_rating: if it is given, only weight matrices decay, and not biases: by ``weight_decay`` plus this
            number times the mean number of training ratings per step.
    """

    name: str
    parameters: list[nn.Parameter]
    loss: Callable[[Any], Tensor]
    repeat: int
    learning_rate: float
    after_step: Callable[[], None] | None = None
    from_epoch: int = 0
    before: Callable[[], None] | None = None
    after: Callable[[], None] | None = None
    decay_per_rating: float | None = None


class ProfileRecommender(GeneralRecommender):
    """A model that reads whole rating profiles from a sparse matrix.

    A subclass defines ``phases`` for training and ``score_profiles`` for prediction. If single pairs can be predicted
    without all items of their users, it defines ``score_at``, too.

    Args:
        config: RecBole config; ``feedback: rating`` reads the ratings, ``implicit`` a 1 per pair.
        dataset: the training part of a RecBole data set.

    Attributes:
        by_item: whether profiles are those of items.
        row_field: the column of a training batch with the ids of its profiles, which are users or items.
        width: the length of a profile.
        by_profiles: whether scoring all items of a profile costs about as much as scoring a few. The collapse
            diagnosis then reads all predictions of as many users as its budget allows.
        takes_new_users: whether ``with_profiles`` works: scores must not need parameters of single users.
        undivided: the reason why several processes cannot train the model together; None if they can.
    """

    input_type = InputType.LISTWISE
    takes_new_users: bool = True
    by_profiles: ClassVar[bool] = True
    undivided: ClassVar[str | None] = None

    def __init__(self, config, dataset):
        super().__init__(config, dataset)
        self.implicit = config["feedback"] == "implicit"
        self.scale = None if self.implicit else dataset.scale
        self.by_item = config["orientation"] == "item"
        self.row_field = self.ITEM_ID if self.by_item else self.USER_ID
        self.width = (self.n_users if self.by_item else self.n_items) - 1
        matrix = dataset.inter_matrix(form="csr", value_field=None if self.implicit else config["RATING_FIELD"])
        self._read(matrix.T.tocsr() if self.by_item else matrix)

    def _read(self, matrix: csr_matrix) -> None:
        for name, array in [("indptr", matrix.indptr), ("column", matrix.indices - 1), ("value", matrix.data)]:
            dtype = torch.float32 if name == "value" else torch.long
            self.register_buffer(f"_{name}", torch.as_tensor(array, dtype=dtype), persistent=False)

    def with_profiles(self, ratings: csr_matrix) -> Self:
        """A copy of the trained model that scores other users, whose profiles are the rows of ``ratings``.

        Args:
            ratings: ``(n_users, n_items)`` with RecBole's padding row and column; nothing is trained.
        """
        other = copy.deepcopy(self).cpu()
        other.n_users = ratings.shape[0]
        other._read(ratings.T.tocsr() if self.by_item else ratings)
        if self.implicit:
            other._value.fill_(1)
        other.set_users()
        return other.to(self.device)

    def set_users(self) -> None:
        """Called by ``with_profiles`` in the copy; a model replaces whatever else it stores per user."""

    def centered(self, config) -> Center:
        """The centre of the key ``center``; from now on profiles are residuals to it.

        With implicit feedback there is no centre.
        """
        center = Center(self.n_users, self.n_items - 1)
        if config["center"] != "none" and not self.implicit:
            center.fit(self.rating_matrix(), config["center"], config["bias_shrinkage"])
            self._subtract(center)
        return center

    def recenter(self, center: Center) -> None:
        """Compute the centre of new users, and make their profiles residuals to it; for ``set_users``."""
        center.set_users(self.rating_matrix())
        self._subtract(center)

    def _subtract(self, center: Center) -> None:
        self._value = self._value - center.pairs(*self.pairs())

    def pairs(self) -> tuple[Tensor, Tensor]:
        """The users and the item columns of all training entries, ``(nnz,)`` each."""
        rows = torch.arange(len(self._indptr) - 1, device=self._indptr.device)
        row = torch.repeat_interleave(rows, torch.diff(self._indptr))
        return (self._column + 1, row - 1) if self.by_item else (row, self._column)

    def pairs_of(self, user: Tensor) -> Places:
        """The places of the training entries of distinct users ``(B,)``, in a matrix ``(B, I)``."""
        entry_user, column = self.pairs()
        rows = torch.full((self.n_users,), -1, device=user.device)
        rows[user] = torch.arange(len(user), device=user.device)
        row = rows[entry_user]
        order = torch.argsort(row, stable=True)[int((row < 0).sum()) :]
        return Places(len(user), self.n_items - 1, row[order], column[order])

    def rating_matrix(self) -> csr_matrix:
        """The ratings as a sparse matrix ``(n_users, I)``; the model must be on the CPU."""
        user, column = (table.numpy() for table in self.pairs())
        rating = self._value.numpy().astype(np.float64)
        return csr_matrix((rating, (user, column)), (self.n_users, self.n_items - 1))

    def begin_epoch(self, epoch: int) -> None:
        """Called before the phases of each epoch, which are counted from 0."""

    def end_epoch(self, score: float | None) -> None:
        """Called after each validation with its score (larger is better), or with None if there is no validation."""

    def choose(self, valid_data, score: Callable[[], float]) -> None:
        """Called before each validation, to choose values on the validation part, such as a blending share.

        Args:
            valid_data: the batches of the validation part.
            score: computes the validation score of the current model; larger is better.
        """

    def chosen(self) -> dict[str, float]:
        """The values that were chosen on validation, by name; a refit adopts them."""
        return {}

    def adopt(self, chosen: dict[str, float]) -> None:
        """Use the values that another model has ``chosen``."""

    def score_profiles(self, user: Tensor) -> Tensor:
        """The scores ``(B, I)`` of distinct users ``(B,)``: ratings, or with implicit feedback ranking scores."""
        raise NotImplementedError

    def rated(self, ids: Tensor) -> tuple[Places, Tensor]:
        """The places of the training entries of profiles ``(B,)``, and their values ``(nnz,)``."""
        start, end = self._indptr[ids], self._indptr[ids + 1]
        count = end - start
        row = torch.repeat_interleave(torch.arange(len(ids), device=ids.device), count)
        before = torch.cumsum(count, 0) - count
        index = torch.arange(len(row), device=ids.device) + (start - before)[row]
        return Places(len(ids), self.width, row, self._column[index]), self._value[index]

    def activity(self, ids: Tensor) -> Tensor:
        """The number of training entries of profiles ``(B,)``, shape ``(B, 1)``."""
        return (self._indptr[ids + 1] - self._indptr[ids]).unsqueeze(-1)

    def profiles(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The profiles ``x_0`` and their ``mask``, both ``(B, width)``; with implicit feedback the mask is all 1."""
        places, value = self.rated(ids)
        x_0 = places.dense(value)
        mask = torch.ones_like(x_0) if self.implicit else places.dense(torch.ones_like(value))
        return x_0, mask

    def full_sort_predict(self, interaction) -> Tensor:
        """The scores ``(B, n_items)`` of all items for the users of the batch; the padding item gets -inf."""
        scores = self.score_profiles(interaction[self.USER_ID])
        return torch.nn.functional.pad(scores, (1, 0), value=-torch.inf)

    def predict(self, interaction) -> Tensor:
        """The scores ``(n,)`` of user-item pairs; each distinct user is predicted once."""
        user, row = torch.unique(interaction[self.USER_ID], return_inverse=True)
        return self.score_pairs(user, row, interaction[self.ITEM_ID] - 1)

    def score_pairs(self, user: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The scores ``(n,)`` of single items at ``row`` and ``column`` in a batch of distinct users ``(B,)``."""
        return self.in_order(user, row, column, lambda places: self.score_at(user, places))

    def score_at(self, user: Tensor, places: Places) -> Tensor:
        """The scores ``(n,)`` at ``places`` in ``(B, I)`` of distinct users ``(B,)``; here all items are scored."""
        blocks = map(self.score_profiles, user.split(max(1, BLOCK // self.width)))
        return entries_of(blocks, places.row, places.column)

    def in_order(self, user: Tensor, row: Tensor, column: Tensor, values: Callable[[Places], Tensor]) -> Tensor:
        """Call ``values``, which needs places sorted by row, for entries in any order.

        Args:
            user: distinct users ``(B,)``.
            row, column: the places of the entries in ``(B, I)``, ``(n,)`` each.
            values: maps sorted places to a value each, ``(n,)``.

        Returns:
            The values in the order of the entries, ``(n,)``.
        """
        order = torch.argsort(row, stable=True)
        places = Places(len(user), self.n_items - 1, row[order], column[order])
        return values(places)[torch.argsort(order)]


def entries_of(blocks: Iterable[Tensor], row: Tensor, column: Tensor) -> Tensor:
    """The entries ``(n,)`` at ``row`` and ``column`` of a matrix that is given in consecutive ``blocks`` of rows."""
    entries, start = torch.empty(len(row), dtype=torch.float32, device=row.device), 0
    for block in blocks:
        here = torch.nonzero((row >= start) & (row < start + len(block))).squeeze(-1)
        entries[here] = block[row[here] - start, column[here]].float()
        start += len(block)
    return entries
