"""A collector of the scores that our metrics need, and an evaluator that keeps the metrics of each user."""

from collections import OrderedDict
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import recbole.evaluator
import torch
from numpy.typing import NDArray
from recbole.evaluator.base_metric import TopkMetric
from recbole.evaluator.collector import DataStruct
from recbole.utils import EvaluatorType
from scipy.sparse import csr_matrix

from recbole_dgrm.data import ITEM_RANK
from recbole_dgrm.data.rating_scale import RatingScale
from recbole_dgrm.evaluation.lists import Lists
from recbole_dgrm.evaluation.ranking import RatedLists, RatedProtocol
from recbole_dgrm.evaluation.recbole_metrics import HITS, LISTS, PREDICTIONS, TOP

ERRORS = ("rmse", "mae")  # computed from clipped predictions
PER_EVALUATION = ("rec.", "data.label")  # prefixes of the collector's keys that belong to one evaluation


@dataclass
class RatedPredictions:
    """Scores of rated pairs in arrays ``(n,)``; ``item`` is the item's rank, by which ``ties: item_order`` sorts."""

    user: NDArray
    item: NDArray
    score: NDArray
    rating: NDArray
    protocol: RatedProtocol
    scale: RatingScale | None

    @cached_property
    def lists(self) -> RatedLists:
        """The sorted lists that all ranking metrics share."""
        return RatedLists(self.user, self.item, self.score, self.rating, self.protocol)

    @cached_property
    def clipped(self) -> NDArray:
        """The scores ``(n,)``, clipped to the scale if there is one, for errors; in rankings they would be tied."""
        return self.scale.clipped(self.score) if self.scale else self.score

    def mean_by_user(self, value: NDArray) -> NDArray:
        """Mean of an ``(n,)`` vector per user, in the order of ``lists.users``."""
        _, row, count = np.unique(self.user, return_inverse=True, return_counts=True)
        return np.bincount(row, value) / count


def rated_protocol(config, scale: RatingScale | None) -> RatedProtocol:
    """The rated-items options of a config; ``scale`` is None if feedback is implicit."""
    run = config.run
    threshold = scale.threshold if scale else run.rating_threshold
    return RatedProtocol(threshold, run.rated_ties, run.rated_filter, run.rated_denominator)


class Collector(recbole.evaluator.Collector):
    """RecBole's collector, which also collects rated pairs and counts, and ranks only once.

    RecBole's own calls ``.cpu()`` on everything, also on counts: ItemCoverage, GiniIndex, AveragePopularity and
    TailPercentage fail with it (RecBole issue 2194).

    RecBole ranks once for the lists and once for the hits, and writes the positives into a matrix of users x items.
    Here one ranking serves both, without that matrix.

    Attributes:
        scale: scale of the evaluated ratings; set before each evaluation.
        known: all pairs before the evaluated part, for full ranking; set before each evaluation.
    """

    scale: RatingScale | None = None
    known: csr_matrix | None = None

    def __init__(self, config):
        super().__init__(config)
        self._wanted = [name for name in (TOP, HITS) if self.register.need(name)]
        for name in self._wanted:
            setattr(self.register, name, False)  # so that RecBole does not compute it
        if config["eval_type"] == EvaluatorType.VALUE:
            setattr(self.register, PREDICTIONS, True)  # the diagnosis always needs them
        self._batches: list[tuple[torch.Tensor, ...]] = []
        self._fields = [config["USER_ID_FIELD"], ITEM_RANK, config["RATING_FIELD"]]

    def eval_batch_collect(self, scores_tensor, interaction, positive_u, positive_i) -> None:
        """Collect the scores of a batch, and the user, item and rating of its pairs if a metric needs them."""
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
        if self._wanted:
            best, top = torch.topk(scores_tensor, max(self.topk), dim=-1)
            hits = _hits(top, positive_u, positive_i, scores_tensor.shape[1])
            ranked = {TOP: top.masked_fill(best == -torch.inf, 0), HITS: hits}  # the padding 0 if few items are left
            for name in self._wanted:
                self.data_struct.update_tensor(name, ranked[name])
        if self.register.need(PREDICTIONS):
            columns = [interaction[field] for field in self._fields]
            self._batches.append(tuple(column.detach().cpu() for column in (*columns, scores_tensor)))

    def get_data_struct(self) -> DataStruct:
        """The collected data with ``RatedPredictions``; data of this evaluation are removed from the collector."""
        struct = DataStruct()
        for key, value in list(self.data_struct._data_dict.items()):
            struct.set(key, value.cpu() if isinstance(value, torch.Tensor) else value)
            if key.startswith(PER_EVALUATION):
                del self.data_struct[key]
        if self.register.need(LISTS):
            struct.set(LISTS, Lists(struct.get(TOP).numpy(), self.known))
        if self._batches:
            user, item, rating, score = (torch.cat(column).numpy() for column in zip(*self._batches, strict=True))
            rule = rated_protocol(self.config, self.scale)
            struct.set(PREDICTIONS, RatedPredictions(user, item, score, rating, rule, self.scale))
            self._batches = []
        return struct


def _hits(top: torch.Tensor, row: torch.Tensor, item: torch.Tensor, n_items: int) -> torch.Tensor:
    """1 or 0 for each place of the lists ``top``, if it is a positive; then the number of positives, ``(B, K + 1)``."""
    row, item = row.to(top.device), item.to(top.device)
    rows = torch.arange(len(top), device=top.device).unsqueeze(-1)
    hit = torch.isin(rows * n_items + top, row * n_items + item)
    return torch.cat([hit.int(), torch.bincount(row, minlength=len(top)).unsqueeze(-1)], dim=1)


class Evaluator(recbole.evaluator.Evaluator):
    """RecBole's Evaluator, which clips predictions for RMSE and MAE, and keeps the values per user for paired tests.

    Attributes:
        per_user: the values ``(n_users,)`` of the last evaluation by metric key; for ``rmse`` and ``mae`` the mean
            squared and the mean absolute error of each user.
        unclipped: RMSE and MAE of the last evaluation from predictions that are not clipped, if they are computed.
        predictions: the rated pairs of the last evaluation with their scores; None if no metric needed them.
    """

    def __init__(self, config):
        super().__init__(config)
        self.per_user: dict[str, NDArray] = {}
        self.unclipped: dict[str, float] = {}
        self.predictions: RatedPredictions | None = None
        for metric in self.metric_class.values():
            if isinstance(metric, TopkMetric):
                metric.topk_result = partial(self._keep, metric.topk_result)

    def _keep(self, topk_result, name: str, value: NDArray) -> dict[str, float]:
        result = topk_result(name, value)
        self.per_user.update({key: value[:, int(key.split("@")[1]) - 1] for key in result})
        return result

    def evaluate(self, dataobject: DataStruct) -> dict[str, Any]:
        """All metrics as plain floats, in the order of the config."""
        self.per_user = {}
        result = super().evaluate(dataobject)
        for metric in self.metric_class.values():
            self.per_user.update(getattr(metric, "per_user", {}))
        if PREDICTIONS in dataobject:
            self.predictions = predictions = dataobject.get(PREDICTIONS)
            error = predictions.clipped - predictions.rating
            self.per_user["user_id"] = predictions.lists.users
            self.unclipped = {key: float(result[key]) for key in ERRORS if key in result}  # as RecBole computes them
            for key in self.unclipped:
                metric = self.metric_class[key]
                clipped = metric.metric_info(predictions.clipped, predictions.rating)
                result[key] = round(clipped, metric.decimal_place)
                self.per_user[key] = predictions.mean_by_user(error**2 if key == "rmse" else np.abs(error))
        return OrderedDict((key, float(value)) for key, value in result.items())
