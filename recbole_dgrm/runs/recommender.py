"""Recommendations and predictions of a trained model, by the external ids of users and items."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from recbole.data.interaction import Interaction
from scipy.sparse import csr_matrix
from torch import Tensor

from recbole_dgrm.data import loaders
from recbole_dgrm.data.values import id_text
from recbole_dgrm.errors import DataError, OptionError, UnknownModel
from recbole_dgrm.evaluation.scoring import all_scores, batches, pair_scores
from recbole_dgrm.models import registry
from recbole_dgrm.options import check
from recbole_dgrm.system.turns import OwnGenerator, OwnRandomness, turn, usual_settings
from recbole_dgrm.training.recorded_trainer import RecordedTrainer

EXCLUDE = ("seen", "none")


class Recommender:
    """A trained model with the external ids of its users and items.

    Args:
        config: the config of the run.
        trainer: the trainer of the run, for its source of random numbers.
        model: the model, which scores the users ``1..len(users)``.
        users: external ids, in the order of the model's ids from 1.
        dataset: any part of the run's data set, for the items.
        rated: the pairs that ``exclude="seen"`` leaves out, ``(n_users, n_items)`` with the padding row and column.
    """

    def __init__(
        self, config, trainer: RecordedTrainer, model, users: Sequence[str] | NDArray, dataset, rated: csr_matrix
    ):
        self.config, self.trainer, self.model, self.rated = config, trainer, model, rated
        self.users = np.asarray(users, dtype=str)
        self.items = np.asarray(dataset.field2id_token[dataset.iid_field], dtype=str)  # the first is the padding
        self.scale = dataset.scale
        self._order = torch.argsort(loaders.item_rank(dataset)[1:]) + 1

    @cached_property
    def _positions(self) -> dict[str, dict[str, int]]:
        items = {name: index for index, name in enumerate(self.items) if index}
        return {"users": {name: index + 1 for index, name in enumerate(self.users)}, "items": items}

    @usual_settings()
    def ids(self, kind: str, names: Iterable[Any]) -> Tensor:
        """The model's ids ``(n,)`` of external ids; ``kind`` is ``users`` or ``items``.

        Raises:
            DataError: an id is unknown, or none is given.
        """
        names, positions = _texts(kind, names), self._positions[kind]
        unknown = [name for name in names if name not in positions]
        if unknown:
            problem = f"{len(unknown)} of {len(names)} {kind} are not known, the first: {unknown[0]!r}"
            raise DataError(f"{problem}; the model knows {len(positions)} {kind}")
        if not names:
            raise DataError(f"no {kind} are given")
        return torch.as_tensor([positions[name] for name in names])

    def recommend(
        self, users: Iterable[Any], topk: int = 10, exclude: str = "seen", deviations: bool = False
    ) -> pd.DataFrame:
        """Recommendation lists in one table; see ``tables``."""
        return pd.concat(self.tables(users, topk, exclude, deviations), ignore_index=True)

    def tables(
        self, users: Iterable[Any], topk: int = 10, exclude: str = "seen", deviations: bool = False
    ) -> Iterator[pd.DataFrame]:
        """Recommendation lists, one table per batch of users, so that all scores never exist at once.

        Args:
            users: external ids; a repeated one counts once.
            topk: length of a list; a list is shorter if fewer items are left.
            exclude: ``seen`` leaves out every item that the user has rated anywhere in the data, be it for training,
                validation or test; ``none`` leaves out nothing.
            deviations: add the column ``deviation``; see ``deviations``.

        Yields:
            The columns ``user``, ``rank`` (from 1), ``item``, ``score`` and, if scores are ratings,
            ``predicted_rating``, which is the score clipped to the scale. Items with equal scores are in the order of
            the data's ids.

        Raises:
            DataError: a user is unknown.
            OptionError: an argument is out of range.
            UnknownModel: the model does not say how sure it is, and that is asked for.
        """
        topk = check("topk", np.asarray(topk).item() if np.ndim(topk) == 0 else topk, int)
        if topk < 1:
            raise OptionError(f"topk={topk} must be at least 1")
        if exclude not in EXCLUDE:
            raise OptionError(f"exclude={exclude!r} is not known; one of {', '.join(EXCLUDE)}")
        tables = self._tables(self.ids("users", list(dict.fromkeys(_texts("users", users)))), topk, exclude == "seen")
        if not deviations:
            return tables
        self._check_uncertain()
        return map(self._with_deviations, tables)

    def _tables(self, users: Tensor, topk: int, without_seen: bool) -> Iterator[pd.DataFrame]:
        order, own = self._order.to(self.config["device"]), self._own_randomness()
        for part in batches(self.config, users, len(self.items)):
            with self._scoring(own):  # left before the table is given away: the caller has settings of its own
                ((batch, scores),) = all_scores(self.model, self.config, part, len(self.items))
                if without_seen:
                    rated = self.rated[batch.numpy()].tocoo()  # a rating of 0 is a rating
                    scores[torch.as_tensor(rated.row).long(), torch.as_tensor(rated.col).long()] = -torch.inf
                column, score = best_columns(scores[:, order], topk)
                table = self._table(batch, order[column].cpu(), score.cpu())
            yield table

    def _table(self, users: Tensor, items: Tensor, scores: Tensor) -> pd.DataFrame:
        row, position = np.nonzero(np.isfinite(scores.numpy()))
        table = pd.DataFrame({"user": self.users[users.numpy()[row] - 1], "rank": position + 1})
        table["item"] = self.items[items.numpy()[row, position]]
        table["score"] = score = scores.numpy()[row, position]
        if self.config.predicts_ratings:
            table["predicted_rating"] = np.clip(score, self.scale.low, self.scale.high)
        return table

    def predict(self, users: Iterable[Any], items: Iterable[Any]) -> NDArray[np.float32]:
        """Scores ``(n,)`` of user-item pairs, given as external ids; ratings, not clipped, if the model predicts them.

        Raises:
            DataError: an id is unknown, or the numbers of users and items differ.
        """
        user, item = self._pairs(users, items)
        with self._scoring(self._own_randomness()):
            pairs = Interaction({self.config["USER_ID_FIELD"]: user, self.config["ITEM_ID_FIELD"]: item})
            return pair_scores(self.model, self.config, pairs).float().cpu().numpy()

    def deviations(self, users: Iterable[Any], items: Iterable[Any]) -> NDArray[np.float32]:
        """How sure the model is of the ratings that ``predict`` gives: their standard deviations ``(n,)``.

        Raises:
            DataError: an id is unknown, or the numbers of users and items differ.
            UnknownModel: the model does not say how sure it is.
        """
        self._check_uncertain()
        user, item = (ids.to(self.config["device"]) for ids in self._pairs(users, items))
        distinct, row = torch.unique(user, return_inverse=True)
        with self._scoring(self._own_randomness()):
            return self.model.deviations(distinct, row, item - 1).float().cpu().numpy()

    def _with_deviations(self, table: pd.DataFrame) -> pd.DataFrame:
        return table.assign(deviation=self.deviations(table["user"], table["item"]) if len(table) else 0.0)

    def _pairs(self, users: Iterable[Any], items: Iterable[Any]) -> tuple[Tensor, Tensor]:
        user, item = self.ids("users", users), self.ids("items", items)
        if len(user) != len(item):
            raise DataError(f"{len(user)} users and {len(item)} items are no pairs: give as many of each")
        return user, item

    def _check_uncertain(self) -> None:
        if not (self.config.predicts_ratings and hasattr(self.model, "deviations")):
            able = [name for name, model in registry.MODELS.items() if hasattr(model, "deviations")]
            raise UnknownModel(
                f"{self.config['model']} does not say how sure it is of ratings here; take {', '.join(able)}, trained "
                "on ratings"
            )

    def _own_randomness(self) -> OwnGenerator | OwnRandomness:
        """Random numbers for one call, the same for each call."""
        if registry.is_ours(self.model):
            return OwnGenerator(self.config.run.seed, self.config["device"])
        return self.trainer.own_randomness()

    @contextmanager
    def _scoring(self, own: OwnGenerator | OwnRandomness) -> Iterator[None]:
        """Within the block, the model scores. Threads do so at the same time with our models, and else in turns."""
        self.model.eval()
        with usual_settings() if registry.is_ours(self.model) else turn(), own, torch.no_grad():
            yield


def _texts(kind: str, names: Iterable[Any]) -> list[str]:
    """External ids as texts.

    Raises:
        OptionError: it is not one text or a list, or an id in it is neither a text nor a whole number.
    """
    if isinstance(names, str):
        return [names]
    if not isinstance(names, Iterable) or isinstance(names, (bytes, Mapping, pd.DataFrame)):
        raise OptionError(f"{kind} must be a list of ids like ['196', '186'], not a {type(names).__name__}")
    given = list(names)
    texts = [text for name in given if (text := id_text(name)) is not None]
    if len(texts) < len(given):
        name = next(name for name in given if id_text(name) is None)
        raise OptionError(f"{kind}: an id is a text or a whole number, and {name!r} is a {type(name).__name__}")
    return texts


def best_columns(scores: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """The ``n`` best columns ``(B, n)`` of each row and their scores, best first; ties are in the order of the columns.

    ``torch.topk`` leaves the order of ties open, and sorting whole rows would cost more.
    """
    n = min(n, scores.shape[1])
    last = torch.topk(scores, n, dim=1).values[:, -1:]
    above, level = scores > last, scores == last
    chosen = above | (level & (level.cumsum(dim=1) <= n - above.sum(dim=1, keepdim=True)))
    column = chosen.nonzero()[:, 1].view(len(scores), n)
    score, order = torch.sort(scores.gather(1, column), dim=1, descending=True, stable=True)
    return column.gather(1, order), score
