"""Our metrics as metrics of RecBole, with the collector and the evaluator that serve them.

RatedRecall@N, RatedNDCG@N and RatingKL need user, item and rating of the evaluated pairs beside the scores; RecBole's
RMSE and MAE are computed in the same pass. ``ranking.py``, ``distribution.py`` and ``lists.py`` define the metrics.

RecBole's metrics of lists are replaced: it counts the padding as an item, divides the entropy by the number of listed
items, counts items that a user has seen where too few are left, and loops over users in Python.
"""

from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import recbole.evaluator
import torch
from numpy.typing import NDArray
from recbole.evaluator.base_metric import AbstractMetric, TopkMetric
from recbole.evaluator.collector import DataStruct
from recbole.utils import EvaluatorType
from scipy.sparse import csr_matrix

from recbole_dgrm import compat
from recbole_dgrm.data.loaders import ITEM_RANK
from recbole_dgrm.data.rating_scale import RatingScale
from recbole_dgrm.evaluation.distribution import kl_divergence, level_shares
from recbole_dgrm.evaluation.lists import Lists
from recbole_dgrm.evaluation.metric_names import is_mean_over_users
from recbole_dgrm.evaluation.ranking import RatedLists, RatedProtocol
from recbole_dgrm.system import distributed

PREDICTIONS, LISTS = "rec.rated", "rec.lists"
TOP, HITS = "rec.items", "rec.topk"  # RecBole's names: the lists, and which of their places are hits


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


class _RatedMetric(AbstractMetric):
    """A rated-items ranking metric; ``per_user`` keeps the vectors of the last evaluation."""

    metric_type = EvaluatorType.VALUE  # what RecBole calls metrics over given pairs
    metric_need = (PREDICTIONS,)

    def __init__(self, config):
        super().__init__(config)
        self.topk = config.run.topk
        self.per_user: dict[str, NDArray] = {}

    def calculate_metric(self, dataobject: DataStruct) -> dict[str, float]:
        """The mean over all users with test items."""
        lists = dataobject.get(PREDICTIONS).lists
        self.per_user = {f"{type(self).__name__.lower()}@{n}": self.vector(lists, n) for n in self.topk}
        return {key: round(float(value.mean()), self.decimal_place) for key, value in self.per_user.items()}


class RatedRecall(_RatedMetric):
    """RatedRecall@N, which ``recbole_dgrm.evaluation.ranking.RatedLists.recall`` computes."""

    vector = staticmethod(RatedLists.recall)


class RatedNDCG(_RatedMetric):
    """RatedNDCG@N, which ``recbole_dgrm.evaluation.ranking.RatedLists.ndcg`` computes."""

    vector = staticmethod(RatedLists.ndcg)


class RatingKL(AbstractMetric):
    """``KL(predicted || given)`` of the test ratings over the levels of the ratings (paper, Table 2)."""

    metric_type = EvaluatorType.VALUE
    metric_need = (PREDICTIONS,)
    smaller = True

    def calculate_metric(self, dataobject: DataStruct) -> dict[str, float]:
        """The divergence of all evaluated pairs together, not averaged per user."""
        predictions = dataobject.get(PREDICTIONS)
        levels = np.asarray(predictions.scale.levels)
        shares = [level_shares(value, levels) for value in (predictions.score, predictions.rating)]
        return {"ratingkl": round(float(kl_divergence(*shares)), self.decimal_place)}


class _ListMetric(AbstractMetric):
    """A metric of lists; ``per_user`` keeps the vectors of the last evaluation where it is a mean over users."""

    metric_type = EvaluatorType.RANKING
    metric_need = (TOP, LISTS)

    def __init__(self, config):
        super().__init__(config)
        self.topk = config.run.topk
        self.per_user: dict[str, NDArray] = {}

    def calculate_metric(self, dataobject: DataStruct) -> dict[str, float]:
        """The metric of the first n of each list, for each n of ``topk``."""
        name, lists = type(self).__name__.lower(), dataobject.get(LISTS)
        found = {f"{name}@{n}": self.of(lists, n) for n in self.topk}
        self.per_user = found if is_mean_over_users(name) else {}
        return {key: round(float(np.mean(value)), self.decimal_place) for key, value in found.items()}


class ItemCoverage(_ListMetric):
    """ItemCoverage@N, which ``recbole_dgrm.evaluation.lists.Lists.coverage`` computes."""

    of = staticmethod(Lists.coverage)


class GiniIndex(_ListMetric):
    """GiniIndex@N, which ``recbole_dgrm.evaluation.lists.Lists.gini`` computes."""

    of, smaller = staticmethod(Lists.gini), True


class ShannonEntropy(_ListMetric):
    """ShannonEntropy@N, which ``recbole_dgrm.evaluation.lists.Lists.entropy`` computes."""

    of = staticmethod(Lists.entropy)


class AveragePopularity(_ListMetric):
    """AveragePopularity@N, which ``recbole_dgrm.evaluation.lists.Lists.mean_popularity`` computes."""

    of, smaller = staticmethod(Lists.mean_popularity), True


class TailPercentage(_ListMetric):
    """TailPercentage@N, which ``recbole_dgrm.evaluation.lists.Lists.tail`` computes."""

    of = staticmethod(Lists.tail)


class Novelty(_ListMetric):
    """Novelty@N, which ``recbole_dgrm.evaluation.lists.Lists.novelty`` computes."""

    of = staticmethod(Lists.novelty)


class Diversity(_ListMetric):
    """Diversity@N, which ``recbole_dgrm.evaluation.lists.Lists.diversity`` computes."""

    of = staticmethod(Lists.diversity)


OF_LISTS = (ItemCoverage, GiniIndex, ShannonEntropy, AveragePopularity, TailPercentage, Novelty, Diversity)


OURS = {metric.__name__.lower(): metric for metric in (RatedRecall, RatedNDCG, RatingKL, *OF_LISTS)}


def register() -> None:
    """Enter the metrics into RecBole's own tables, so that ``metrics: [RatedRecall]`` is known."""
    tables = recbole.evaluator.register
    for name, metric in OURS.items():
        tables.metrics_dict[name] = metric
        tables.metric_information[name] = list(metric.metric_need)
        tables.metric_types[name] = metric.metric_type
        if metric.smaller and name not in tables.smaller_metrics:
            tables.smaller_metrics.append(name)


def names() -> set[str]:
    """The names that ``metrics`` may contain, ours and RecBole's, in lower case."""
    return set(recbole.evaluator.register.metrics_dict)


def kind(name: str) -> EvaluatorType:
    """``RANKING`` for a metric that ranks all items, ``VALUE`` for one that judges given pairs."""
    return recbole.evaluator.register.metric_types[name.lower()]


def title(name: str) -> str:
    """The metric's name as its class spells it: ``RatedNDCG``."""
    return recbole.evaluator.register.metrics_dict[name.lower()].__name__


def keys(names: Iterable[str], topk: Iterable[int]) -> set[str]:
    """The keys that the metrics of these ``names`` have in a result: ``ndcg@10``, ``rmse``."""
    tables, found = recbole.evaluator.register, set()
    for name in map(str.lower, names):
        lists = {"rec.topk", "rec.items"} & set(tables.metric_information[name])
        cut = lists or issubclass(tables.metrics_dict[name], _RatedMetric)
        found |= {f"{name}@{n}" for n in topk} if cut else {name}
    return found


class Collector(compat.RepairedCollector):
    """RecBole's collector that also keeps rated pairs, and that ranks once.

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
        """RecBole's struct with ``RatedPredictions``, of all users, whichever process evaluated them."""
        struct = super().get_data_struct()
        for key in [key for key in struct._data_dict if key.startswith(self.PER_EVALUATION)]:
            struct.set(key, distributed.all_gather_rows(struct.get(key)))
        if self.register.need(LISTS):
            struct.set(LISTS, Lists(struct.get(TOP).numpy(), self.known))
        if self._batches:
            user, item, rating, score = (
                distributed.all_gather_rows(torch.cat(column)).numpy() for column in zip(*self._batches, strict=True)
            )
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
