"""Our metrics as metrics of RecBole, by the names that ``metrics`` in a config has.

RatedRecall@N, RatedNDCG@N and RatingKL need user, item and rating of the evaluated pairs beside the scores; RecBole's
RMSE and MAE are computed in the same pass. ``ranking.py``, ``distribution.py`` and ``lists.py`` define the metrics, and
``collector.py`` collects what they need.

RecBole's metrics of lists are replaced: it counts the padding as an item, divides the entropy by the number of listed
items, counts items that a user has seen where too few are left, and loops over users in Python.
"""

from collections.abc import Iterable

import numpy as np
import recbole.evaluator
from numpy.typing import NDArray
from recbole.evaluator.base_metric import AbstractMetric
from recbole.evaluator.collector import DataStruct
from recbole.utils import EvaluatorType

from recbole_dgrm.evaluation.collector import LISTS, PREDICTIONS, TOP
from recbole_dgrm.evaluation.distribution import kl_divergence, level_shares
from recbole_dgrm.evaluation.lists import Lists
from recbole_dgrm.evaluation.metric_names import is_mean_over_users
from recbole_dgrm.evaluation.ranking import RatedLists


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
