"""Our metrics as classes of RecBole, so that ``metrics`` in a config can name them.

RatedRecall@N, RatedNDCG@N and RatingKL need the user, item and rating of the evaluated pairs as well as the scores;
RecBole's RMSE and MAE are computed in the same pass. ``ranking.py``, ``distribution.py`` and ``lists.py`` define the
metrics, and ``collector.py`` collects what they need.

RecBole's own metrics of lists are replaced, because they count the padding as an item, divide the entropy by the number
of listed items, count items that the user has seen if too few others are left, and loop over users in Python.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import recbole.evaluator
from numpy.typing import NDArray
from recbole.evaluator.base_metric import AbstractMetric
from recbole.evaluator.collector import DataStruct
from recbole.utils import EvaluatorType

from recbole_dgrm.evaluation.distribution import kl_divergence, level_shares
from recbole_dgrm.evaluation.lists import Lists
from recbole_dgrm.evaluation.metric_names import is_mean_over_users
from recbole_dgrm.evaluation.ranking import RatedLists

PREDICTIONS, LISTS = "rec.rated", "rec.lists"  # what metrics are computed from, by the names of RecBole's collector
TOP, HITS = "rec.items", "rec.topk"  # RecBole's names: the lists, and which of their places are hits


class _ListMetric(AbstractMetric):
    """A metric of the first n items of lists.

    Attributes:
        per_user: the values ``(n_users,)`` of the last evaluation by key, if the metric is a mean over users.
    """

    of: Callable[[Any, int], Any]
    lists: Callable[[DataStruct], Any]

    def __init__(self, config):
        super().__init__(config)
        self.topk = config.run.topk
        self.per_user: dict[str, NDArray] = {}

    def calculate_metric(self, dataobject: DataStruct) -> dict[str, float]:
        """The metric for each n of ``topk``: its mean over users, or its value for all lists together."""
        name, lists = type(self).__name__.lower(), self.lists(dataobject)
        values = {f"{name}@{n}": self.of(lists, n) for n in self.topk}
        self.per_user = values if is_mean_over_users(name) else {}
        return {key: round(float(np.mean(value)), self.decimal_place) for key, value in values.items()}


class _OfRatedItems(_ListMetric):
    metric_type, metric_need = EvaluatorType.VALUE, (PREDICTIONS,)  # VALUE: RecBole's type for metrics of given pairs
    lists = staticmethod(lambda dataobject: dataobject.get(PREDICTIONS).lists)


class _OfUnseenItems(_ListMetric):
    metric_type, metric_need = EvaluatorType.RANKING, (TOP, LISTS)
    lists = staticmethod(lambda dataobject: dataobject.get(LISTS))


def _metric(base: type[_ListMetric], name: str, of: Callable[[Any, int], Any], smaller: bool = False) -> Any:
    """A class ``name`` for the metric that the function ``of`` computes; ``smaller`` if smaller values are better."""
    text = f"{name}@N, which ``{of.__module__}.{of.__qualname__}`` computes."
    return type(name, (base,), {"of": staticmethod(of), "smaller": smaller, "__doc__": text})


class RatingKL(AbstractMetric):
    """``KL(predicted || given)`` of the test ratings over the rating levels, in nats (paper, Table 2)."""

    metric_type = EvaluatorType.VALUE
    metric_need = (PREDICTIONS,)
    smaller = True

    def calculate_metric(self, dataobject: DataStruct) -> dict[str, float]:
        """The divergence of all evaluated pairs together, not averaged per user."""
        predictions = dataobject.get(PREDICTIONS)
        levels = np.asarray(predictions.scale.levels)
        shares = [level_shares(value, levels) for value in (predictions.score, predictions.rating)]
        return {"ratingkl": round(float(kl_divergence(*shares)), self.decimal_place)}


RATED = (_metric(_OfRatedItems, "RatedRecall", RatedLists.recall), _metric(_OfRatedItems, "RatedNDCG", RatedLists.ndcg))
OF_LISTS = (
    _metric(_OfUnseenItems, "ItemCoverage", Lists.coverage),
    _metric(_OfUnseenItems, "GiniIndex", Lists.gini, smaller=True),
    _metric(_OfUnseenItems, "ShannonEntropy", Lists.entropy),
    _metric(_OfUnseenItems, "AveragePopularity", Lists.mean_popularity, smaller=True),
    _metric(_OfUnseenItems, "TailPercentage", Lists.tail),
    _metric(_OfUnseenItems, "Novelty", Lists.novelty),
    _metric(_OfUnseenItems, "Diversity", Lists.diversity),
)
OURS = {metric.__name__.lower(): metric for metric in (*RATED, RatingKL, *OF_LISTS)}


def register() -> None:
    """Add the metrics to RecBole's tables, so that it accepts ``metrics: [RatedRecall]``."""
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
    """``RANKING`` for a metric of rankings of all items, ``VALUE`` for one of given pairs."""
    return recbole.evaluator.register.metric_types[name.lower()]


def title(name: str) -> str:
    """The metric's name as its class spells it: ``RatedNDCG``."""
    return recbole.evaluator.register.metrics_dict[name.lower()].__name__


def keys(names: Iterable[str], topk: Iterable[int]) -> set[str]:
    """The keys that the metrics of these ``names`` have in a result: ``ndcg@10``, ``rmse``."""
    tables, result = recbole.evaluator.register, set()
    for name in map(str.lower, names):
        lists = {"rec.topk", "rec.items"} & set(tables.metric_information[name])
        cut = lists or issubclass(tables.metrics_dict[name], _OfRatedItems)
        result |= {f"{name}@{n}" for n in topk} if cut else {name}
    return result
