"""What is collected while a part is evaluated, and the evaluator that keeps the metrics of each user."""

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

PER_EVALUATION = ("rec.", "data.label")  # how keys of RecBole's collector begin that belong to one evaluation


@dataclass
class RatedPredictions:
    """Scores of rated pairs in arrays ``(n,)``; ``item`` is the rank that ``ties: item_order`` sorts by."""

    user: NDArray
    item: NDArray
    score: NDArray
    rating: NDArray
    protocol: RatedProtocol
    scale: RatingScale | None

    @cached_property
    def lists(self) -> RatedLists:
        """The sorted lists, shared by all ranking metrics."""
        return RatedLists(self.user, self.item, self.score, self.rating, self.protocol)

    def mean_by_user(self, value: NDArray) -> NDArray:
        """Mean of an ``(n,)`` vector per user, in the order of ``lists.users``."""
        _, row, count = np.unique(self.user, return_inverse=True, return_counts=True)
        return np.bincount(row, value) / count


def rated_protocol(config, scale: RatingScale | None) -> RatedProtocol:
    """The rated-items options of a config; the ``scale`` of its ratings is None where feedback is implicit."""
    run = config.run
    threshold = scale.threshold if scale else run.rating_threshold
    return RatedProtocol(threshold, run.rated_ties, run.rated_filter, run.rated_denominator)


class Collector(recbole.evaluator.Collector):
    """RecBole's collector that also keeps rated pairs, that ranks once, and that collects counts.

    RecBole's own calls ``.cpu()`` on everything, also on counts: ItemCoverage, GiniIndex, AveragePopularity and
    TailPercentage fail with it (RecBole issue 2194).

    RecBole ranks once for the lists and once for the hits, and writes the positives into a matrix of users x items.
    Here one ranking serves both, and the hits are looked up.

    Attributes:
        scale: scale of the ratings that are evaluated; set before each evaluation.
        known: the pairs that lie before the part that is evaluated, where all items are ranked; set like it.
    """

    scale: RatingScale | None = None
    known: csr_matrix | None = None

    def __init__(self, config):
        super().__init__(config)
        self._wanted = [name for name in (TOP, HITS) if self.register.need(name)]
        for name in self._wanted:
            setattr(self.register, name, False)  # so that RecBole leaves it to us
        if config["eval_type"] == EvaluatorType.VALUE:
            setattr(self.register, PREDICTIONS, True)  # diagnosis looks at them, whatever the metrics are
        self._batches: list[tuple[torch.Tensor, ...]] = []
        self._fields = [config["USER_ID_FIELD"], ITEM_RANK, config["RATING_FIELD"]]

    def eval_batch_collect(self, scores_tensor, interaction, positive_u, positive_i) -> None:
        """Collect a batch; user, item, rating and score of its pairs too if a metric needs them."""
        scores_tensor = scores_tensor.float()  # numpy knows no bfloat16
        super().eval_batch_collect(scores_tensor, interaction, positive_u, positive_i)
        if self._wanted:
            best, top = torch.topk(scores_tensor, max(self.topk), dim=-1)
            hits = _hits(top, positive_u, positive_i, scores_tensor.shape[1])
            found = {TOP: top.masked_fill(best == -torch.inf, 0), HITS: hits}  # 0, the padding: too few items are left
            for name in self._wanted:
                self.data_struct.update_tensor(name, found[name])
        if self.register.need(PREDICTIONS):
            columns = [interaction[field] for field in self._fields]
            self._batches.append(tuple(column.detach().cpu() for column in (*columns, scores_tensor)))

    def get_data_struct(self) -> DataStruct:
        """What was collected, with ``RatedPredictions``; what belongs to this evaluation alone is dropped here."""
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
    """For each place of the lists ``top`` 1 if it holds a positive, then the number of positives, ``(B, K + 1)``."""
    row, item = row.to(top.device), item.to(top.device)
    rows = torch.arange(len(top), device=top.device).unsqueeze(-1)
    hit = torch.isin(rows * n_items + top, row * n_items + item)
    return torch.cat([hit.int(), torch.bincount(row, minlength=len(top)).unsqueeze(-1)], dim=1)


class Evaluator(recbole.evaluator.Evaluator):
    """RecBole's Evaluator that also keeps per-user vectors, for paired tests.

    Attributes:
        per_user: metric key to vector ``(n_users,)`` of the last evaluation; ``rmse`` and ``mae`` are
            the per-user mean squared and absolute error.
        predictions: the rated pairs of the last evaluation with their scores, where a metric needed them.
    """

    def __init__(self, config):
        super().__init__(config)
        self.per_user: dict[str, NDArray] = {}
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
            error = predictions.score - predictions.rating
            self.per_user["user_id"] = predictions.lists.users
            for key, value in [("rmse", error**2), ("mae", np.abs(error))]:
                if key in result:
                    self.per_user[key] = predictions.mean_by_user(value)
        return OrderedDict((key, float(value)) for key, value in result.items())
