"""The reference rows that every result is compared with, computed exactly: random, bias (or popularity) and oracle.

Under the rated-items protocols a random order is a constant score with exact ties, because the metrics are then
expectations over all orders; its RMSE is that of the training mean. Under full ranking a random order has its
hypergeometric expectation, and the bias row is item popularity, in expectation over orders of equally popular items.
"""

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.evaluator.collector import DataStruct

from recbole_dgrm.data import ITEM_RANK, loaders
from recbole_dgrm.data.splits import Splits, training_part, user_item_means
from recbole_dgrm.evaluation import collector, resolution
from recbole_dgrm.evaluation.collector import RatedPredictions
from recbole_dgrm.evaluation.metric_names import BIAS
from recbole_dgrm.maths.biases import Biases

Metrics = dict[str, float]


@dataclass(frozen=True)
class References:
    """The reference rows of a part of the data, and the resolutions of its metrics.

    Attributes:
        rows: the metrics of ``random``, ``bias`` and ``oracle``.
        resolution: by metric, see ``recbole_dgrm.evaluation.resolution.of_rows``.
        of_users: the values per user ``(n_users,)`` of the row ``bias`` by metric, and the ascending ``user_id``.
        means: the user + item means of the row ``bias``; None under full ranking.
    """

    rows: dict[str, Metrics]
    resolution: dict[str, Metrics]
    of_users: dict[str, NDArray] = field(compare=False)
    means: Biases | None = field(default=None, compare=False)

    def of(self, users: NDArray) -> dict[str, NDArray]:
        """The values of the row ``bias`` for the ``users`` ``(n,)``, by metric."""
        own = np.searchsorted(self.of_users["user_id"], users)
        return {metric: values[own] for metric, values in self.of_users.items() if metric != "user_id"}

    def vectors(self, users: NDArray) -> dict[str, NDArray]:
        """The values of ``of`` by the names that they have in a run's files."""
        return {BIAS + metric: values for metric, values in self.of(users).items()}


def measure(config, splits: Splits, part: str = "test") -> References:
    """The reference rows on ``test``, fitted on the ratings that the tested model is trained on, or on ``valid``."""
    known = "train" if part == "valid" else training_part(config)
    if config["eval_args"]["mode"][part] == "labeled":
        return _rated(config, splits, part, known)
    return _ranked(config, splits, part, known)


def skill(result: Metrics, reference: dict[str, Metrics]) -> Metrics:
    """``(m - random) / (oracle - random)`` by metric: 0 for a random order, 1 for the best possible value."""
    random, oracle = reference["random"], reference["oracle"]
    return {
        key: (value - random[key]) / (oracle[key] - random[key])
        for key, value in result.items()
        if key in random and key in oracle and oracle[key] != random[key]
    }


def _rated(config, splits: Splits, part: str, known: str) -> References:
    user, item, rating = splits.triples(part)
    biases = user_item_means(config, splits, known)
    protocol = collector.rated_protocol(config, splits.scale)
    any_order = replace(protocol, ties="expected", filter="none")  # item_order would rank a constant by item id
    scores = {
        "random": (np.full(len(rating), biases.mean), any_order),
        "bias": (biases.predict(user, item), protocol),
        "oracle": (rating, protocol),
    }
    rank = loaders.item_rank(splits.train).numpy()[item]
    rows, vectors = {}, {}
    for name, (score, rule) in scores.items():
        evaluator = collector.Evaluator(config)
        rows[name] = evaluated(evaluator, RatedPredictions(user, rank, score, rating, rule, splits.scale))
        vectors[name] = evaluator.per_user
    ratings = np.unique(user, return_counts=True)[1]
    return References(rows, resolution.of_rows(vectors, list(rows["random"]), ratings), vectors["bias"], biases)


def rated_pairs(config, splits: Splits, part: str) -> list[NDArray]:
    """User, item, rank of the item and rating ``(n,)`` of the pairs of a part, in the order of their scores."""
    fields = (config["USER_ID_FIELD"], config["ITEM_ID_FIELD"], ITEM_RANK, config["RATING_FIELD"])
    batches = [batch for batch, *_ in loaders.eval_loader(config, splits, part)]
    return [torch.cat([batch[field] for batch in batches]).numpy() for field in fields]


def evaluated(evaluator: collector.Evaluator, predictions: RatedPredictions) -> Metrics:
    """The metrics of scored rated pairs; ``evaluator`` keeps the vectors per user."""
    struct = DataStruct()
    struct.set(collector.PREDICTIONS, predictions)
    struct.set("rec.score", torch.from_numpy(predictions.score))
    struct.set("data.label", torch.from_numpy(predictions.rating))
    return dict(evaluator.evaluate(struct))


def _ranked(config, splits: Splits, part: str, known: str) -> References:
    user, item, _ = splits.triples(part)
    known_user, known_item, _ = splits.triples("known" if part == "test" else "train")
    _, trained_item, _ = splits.triples(known)
    n_items = splits.train.item_num - 1
    popularity = np.bincount(trained_item, minlength=n_items + 1)
    _, row = np.unique(user, return_inverse=True)
    left = (n_items - np.bincount(known_user, minlength=splits.train.user_num))[user]
    above, tied = _places(popularity, user, item, known_user, known_item)
    vectors: dict[str, dict[str, NDArray]] = {"random": {}, "bias": {}, "oracle": {}}
    for k in config.run.topk:
        vectors["random"] |= _expected_ranking(row, np.zeros_like(left), left, k)
        vectors["bias"] |= _expected_ranking(row, above, tied, k)
        vectors["oracle"] |= _perfect_ranking(np.bincount(row), k)
    wanted = [f"{metric.lower()}@{k}" for metric in config["metrics"] for k in config.run.topk]
    rows = {
        name: {key: float(values[key].mean()) for key in wanted if key in values} for name, values in vectors.items()
    }
    of_users = {"user_id": np.unique(user), **{key: vectors["bias"][key] for key in rows["bias"]}}
    return References(rows, resolution.of_rows(vectors, wanted, np.bincount(row)), of_users)


def _places(
    score: NDArray, user: NDArray, item: NDArray, known_user: NDArray, known_item: NDArray
) -> tuple[NDArray, NDArray]:
    """Rank items among the candidates of their users by an item ``score`` ``(n_items + 1,)`` that all users share.

    Args:
        user, item: the pairs to rank, ``(n,)``.
        known_user, known_item: pairs that are not candidates, ``(m,)``; the padding item 0 is not one either.

    Returns:
        For each pair how many candidates of the user have a higher score, and how many the same, itself included.
    """
    value, level = np.unique(-score, return_inverse=True)
    above = np.append(0, np.cumsum(np.bincount(level[1:], minlength=len(value))))
    known = np.sort(known_user * len(value) + level[known_item])
    first = user * len(value)
    own = first + level[item]
    begin, higher, same = (np.searchsorted(known, key) for key in (first, own, own + 1))
    return above[level[item]] - (higher - begin), np.diff(above)[level[item]] - (same - higher)


def _expected_ranking(row: NDArray, above: NDArray, tied: NDArray, k: int) -> dict[str, NDArray]:
    """Metrics per user, in expectation over all orders of candidates with the same score.

    Args:
        row: user of each positive, numbered from 0 without gaps, ``(n,)``.
        above, tied: number of candidates of the user with a higher score, and with the same score, ``(n,)``.
    """
    number = np.bincount(row)
    places = np.arange(1, k + 1)
    ideal = np.append(0, np.cumsum(1 / np.log2(places + 1)))
    inside = np.clip(k - above, 0, tied)
    hits = np.bincount(row, inside / tied)
    gain = np.bincount(row, (ideal[np.minimum(above, k) + inside] - ideal[np.minimum(above, k)]) / tied)
    start = np.full(len(number), np.iinfo(above.dtype).max)
    np.minimum.at(start, row, above)
    leading = above == start[row]  # the first hit is in the first block of ties that has a positive
    size, positives = np.zeros_like(number), np.bincount(row[leading])
    size[row[leading]] = tied[leading]
    miss = 1 - positives[:, None] / np.maximum(size[:, None] - places + 1, positives[:, None])
    no_hit = np.cumprod(miss, axis=1)  # no positive in the first p places of the block
    first_hit = np.concatenate([np.ones((len(number), 1)), no_hit[:, :-1]], axis=1) - no_hit
    place = start[:, None] + places
    first_hit[place > k] = 0
    return {
        f"recall@{k}": hits / number,
        f"precision@{k}": hits / k,
        f"ndcg@{k}": gain / ideal[np.minimum(number, k)],
        f"hit@{k}": first_hit.sum(axis=1),
        f"mrr@{k}": (first_hit / place).sum(axis=1),
    }


def _perfect_ranking(positives: NDArray, k: int) -> dict[str, NDArray]:
    hits = np.minimum(positives, k)
    perfect = {f"{name}@{k}": np.ones(len(positives)) for name in ("ndcg", "hit", "mrr")}
    return {f"recall@{k}": hits / positives, f"precision@{k}": hits / k, **perfect}
