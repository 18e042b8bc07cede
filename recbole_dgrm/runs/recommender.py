"""Recommendations and predictions of a trained model, by the external ids of users and items."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pydantic import PositiveInt
from recbole.data.interaction import Interaction
from scipy.sparse import csr_matrix
from torch import Tensor

from recbole_dgrm.data import loaders
from recbole_dgrm.data.values import id_text
from recbole_dgrm.errors import DataError, OptionError, UnknownModel
from recbole_dgrm.evaluation.scoring import all_scores, pair_scores
from recbole_dgrm.models import registry
from recbole_dgrm.options import check
from recbole_dgrm.system.files import plain
from recbole_dgrm.system.turns import OwnRandomness, turn, usual_settings


class Recommender:
    """A trained model with the external ids of its users and items.

    Args:
        config: the config of the run.
        model: the model, whose user ids are ``1..len(users)``.
        users: external ids, in the order of the model's ids from 1.
        dataset: any part of the run's data set; its item ids are used.
        rated: the pairs that ``exclude="seen"`` excludes, ``(n_users, n_items)`` with the padding row and column.
    """

    def __init__(self, config, model, users: Sequence[str] | NDArray, dataset, rated: csr_matrix):
        self.config, self.model, self.rated, self.scale = config, model, rated, dataset.scale
        self.users = np.asarray(users, dtype=str)
        self.items = np.asarray(dataset.field2id_token[dataset.iid_field], dtype=str)  # the first is the padding
        self._order = torch.argsort(loaders.item_rank(dataset)[1:]) + 1

    @cached_property
    def _positions(self) -> dict[str, dict[str, int]]:
        names = {"users": self.users, "items": self.items[1:]}
        return {kind: {name: index for index, name in enumerate(each, 1)} for kind, each in names.items()}

    @usual_settings()
    def ids(self, kind: str, names: Iterable[Any]) -> Tensor:
        """The model's ids ``(n,)`` for external ids; ``kind`` is ``users`` or ``items``.

        Raises:
            DataError: an id is unknown, or none is given.
            OptionError: ``names`` is neither a string nor a list of strings and whole numbers.
        """
        names, positions = _texts(kind, names), self._positions[kind]
        unknown = [name for name in names if name not in positions]
        if unknown:
            problem = f"{len(unknown)} of {len(names)} {kind} are unknown, the first: {unknown[0]!r}"
            raise DataError(f"{problem}; the model knows {len(positions)} {kind}")
        if not names:
            raise DataError(f"no {kind} are given")
        return torch.as_tensor([positions[name] for name in names])

    def recommend(
        self, users: Iterable[Any], topk: int = 10, exclude: str = "seen", deviations: bool = False
    ) -> pd.DataFrame:
        """Recommendation lists in one table.

        Args:
            users: external ids; a repeated one counts once.
            topk: length of a list; a list is shorter if fewer items are left.
            exclude: ``seen`` excludes every item that the user has rated in any part of the data, including the test
                part; ``none`` excludes nothing.
            deviations: add the column ``deviation``; see ``deviations``.

        Returns:
            A table with the columns ``user``, ``rank`` (from 1), ``item``, ``score`` and, if scores are ratings,
            ``predicted_rating``, which is the score clipped to the scale. Items with equal scores are in the order of
            their external ids.

        Raises:
            DataError: a user is unknown.
            OptionError: an argument has another type or is out of range.
            UnknownModel: ``deviations`` is true, and the model has no standard deviations.
        """
        topk = check("topk", plain(topk), PositiveInt)
        check("exclude", exclude, Literal["seen", "none"])
        row, tables = self.ids("users", dict.fromkeys(_texts("users", users))), []
        if deviations:
            self._check_deviations()
        with self._scoring():
            order = self._order.to(self.config["device"])
            for batch, scores in all_scores(self.model, self.config, row, len(self.items)):
                if exclude == "seen":
                    rated = self.rated[batch.numpy()].tocoo()  # a rating of 0 is a rating
                    scores[torch.as_tensor(rated.row).long(), torch.as_tensor(rated.col).long()] = -torch.inf
                column, score = best_columns(scores[:, order], topk)
                tables.append(self._table(batch, order[column].cpu(), score.cpu()))
        if deviations:
            tables = [
                table.assign(deviation=self.deviations(table["user"], table["item"]) if len(table) else 0.0)
                for table in tables
            ]
        return pd.concat(tables, ignore_index=True)

    def _table(self, users: Tensor, items: Tensor, scores: Tensor) -> pd.DataFrame:
        row, position = np.nonzero(np.isfinite(scores.numpy()))
        table = pd.DataFrame({"user": self.users[users.numpy()[row] - 1], "rank": position + 1})
        table["item"] = self.items[items.numpy()[row, position]]
        table["score"] = score = scores.numpy()[row, position]
        if self.config.predicts_ratings:
            table["predicted_rating"] = self.scale.clipped(score)
        return table

    def predict(self, users: Iterable[Any], items: Iterable[Any]) -> NDArray[np.float32]:
        """Scores ``(n,)`` of user-item pairs, given as external ids; ratings are not clipped to the scale.

        Raises:
            DataError: an id is unknown, or the numbers of users and items differ.
        """
        user, item = self._pairs(users, items)
        with self._scoring():
            pairs = Interaction({self.config["USER_ID_FIELD"]: user, self.config["ITEM_ID_FIELD"]: item})
            return pair_scores(self.model, self.config, pairs).float().cpu().numpy()

    def deviations(self, users: Iterable[Any], items: Iterable[Any]) -> NDArray[np.float32]:
        """The standard deviations ``(n,)`` of the ratings that ``predict`` returns, in rating units.

        Raises:
            DataError: an id is unknown, or the numbers of users and items differ.
            UnknownModel: the model has no standard deviations.
        """
        self._check_deviations()
        user, item = (ids.to(self.config["device"]) for ids in self._pairs(users, items))
        distinct, row = torch.unique(user, return_inverse=True)
        with self._scoring():
            return self.model.deviations(distinct, row, item - 1).float().cpu().numpy()

    def _check_deviations(self) -> None:
        if not (self.config.predicts_ratings and hasattr(self.model, "deviations")):
            able = [name for name, model in registry.MODELS.items() if hasattr(model, "deviations")]
            name = self.config["model"]
            raise UnknownModel(f"{name} has no standard deviations here; use {', '.join(able)}, trained on ratings")

    def _pairs(self, users: Iterable[Any], items: Iterable[Any]) -> tuple[Tensor, Tensor]:
        user, item = self.ids("users", users), self.ids("items", items)
        if len(user) != len(item):
            raise DataError(f"{len(user)} users and {len(item)} items do not make pairs: give as many of each")
        return user, item

    @contextmanager
    def _scoring(self) -> Iterator[None]:
        """Within the block, the model can score, with the same random numbers in each call.

        Threads score at the same time with models that draw no random numbers, and in turns with others.
        """
        self.model.eval()
        with ExitStack() as stack:
            if registry.draws_nothing(self.model):
                stack.enter_context(usual_settings())
            else:
                stack.enter_context(turn())
                stack.enter_context(OwnRandomness(self.config.run.seed))
            stack.enter_context(torch.no_grad())
            yield


def _texts(kind: str, names: Iterable[Any]) -> list[str]:
    """External ids as strings; a single string is one id."""
    if isinstance(names, str):
        return [names]
    if not isinstance(names, Iterable):
        raise OptionError(f"{kind} must be a list of ids like ['196', '186'], not a {type(names).__name__}")
    given = list(names)
    for name in given:
        if id_text(name) is None:
            raise OptionError(f"{kind}: an id is a text or a whole number, and {name!r} is a {type(name).__name__}")
    return [str(id_text(name)) for name in given]


def best_columns(scores: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The ``n`` best columns ``(B, n)`` of each row and their scores, best first; ties are in the order of the columns.

    ``torch.topk`` does not define the order of ties, and sorting whole rows would cost more.
    """
    n = min(n, scores.shape[1])
    last = torch.topk(scores, n, dim=1).values[:, -1:]
    above, tied = scores > last, scores == last
    chosen = above | (tied & (tied.cumsum(dim=1) <= n - above.sum(dim=1, keepdim=True)))
    column = chosen.nonzero()[:, 1].view(len(scores), n)
    score, order = torch.sort(scores.gather(1, column), dim=1, descending=True, stable=True)
    return column.gather(1, order), score
