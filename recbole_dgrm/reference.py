"""Reference rows that stand beside every result, computed exactly: random, bias (or popularity), oracle.

Under the rated-items protocols a random order is a constant score with exact ties, because the
metrics then are expectations over orders; its RMSE is that of the training mean. Under full ranking the
expectation of a random order is the hypergeometric one, and the bias row is item popularity.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from recbole.evaluator.collector import DataStruct

from recbole_dgrm import data, loaders, metrics
from recbole_dgrm.bias import fit_biases
from recbole_dgrm.ranking import RatedProtocol

Row = dict[str, float]


def reference_rows(config, splits: data.Splits, part: str = "test") -> dict[str, Row]:
    """Metrics of ``random``, ``bias`` and ``oracle`` on a part: ``test``, or ``valid`` of a run without refit."""
    if config["eval_args"]["mode"][part] == "labeled":
        return _rated_rows(config, splits, part)
    return _ranking_rows(config, splits, part)


def skill(result: Row, reference: dict[str, Row]) -> Row:
    """``(m - random) / (oracle - random)``: 0 is a random order, 1 cannot be beaten."""
    random, oracle = reference["random"], reference["oracle"]
    return {
        key: (value - random[key]) / (oracle[key] - random[key])
        for key, value in result.items()
        if key in random and key in oracle and oracle[key] != random[key]
    }


def learnt(config) -> str:
    """The part that a tested model has learnt from."""
    return "known" if config["refit"] else "train"


def _rated_rows(config, splits: data.Splits, part: str) -> dict[str, Row]:
    known_user, known_item, known_rating = splits.triples(learnt(config))
    user, item, rating = splits.triples(part)
    n_users, n_items = splits.train.user_num, splits.train.item_num
    biases = fit_biases(known_user, known_item, known_rating, n_users, n_items, config["bias_shrinkage"])
    protocol = metrics.rated_protocol(config)
    any_order = replace(protocol, ties="expected", filter="none")  # item_order would make a constant an order
    rows = {
        "random": (np.full(len(rating), known_rating.mean()), any_order),
        "bias": (biases.predict(user, item), protocol),
        "oracle": (rating, protocol),
    }
    rank = loaders.item_rank(splits.train).numpy()[item]
    return {name: rated_row(config, user, rank, score, rating, rule) for name, (score, rule) in rows.items()}


def rated_row(config, user: NDArray, item: NDArray, score: NDArray, rating: NDArray, protocol: RatedProtocol) -> Row:
    """Metrics of any scores of rated pairs, all arrays ``(n,)``; ``item`` as in ``RatedPredictions``."""
    struct = DataStruct()
    struct.set(metrics.PREDICTIONS, metrics.RatedPredictions(user, item, score, rating, protocol))
    struct.set("rec.score", torch.from_numpy(score))
    struct.set("data.label", torch.from_numpy(rating))
    return dict(metrics.Evaluator(config).evaluate(struct))


def _ranking_rows(config, splits: data.Splits, part: str) -> dict[str, Row]:
    user, _, _ = splits.triples(part)
    known_user, _, _ = splits.triples("known" if part == "test" else "train")
    _, learnt_item, _ = splits.triples(learnt(config))
    positives = np.bincount(user, minlength=splits.train.user_num)
    users = np.flatnonzero(positives)
    positives = positives[users]
    candidates = splits.train.item_num - 1 - np.bincount(known_user, minlength=splits.train.user_num)[users]
    popularity = torch.from_numpy(np.bincount(learnt_item, minlength=splits.train.item_num)).float()
    wanted = {f"{metric.lower()}@{k}" for metric in config["metrics"] for k in config["topk"]}
    random: dict[str, NDArray] = {}
    oracle: dict[str, NDArray] = {}
    for k in config["topk"]:
        random |= _random_ranking(positives, candidates, k)
        oracle |= _perfect_ranking(positives, k)
    return {
        "random": {key: float(value.mean()) for key, value in random.items() if key in wanted},
        "bias": _fixed_ranking(config, splits, part, popularity),
        "oracle": {key: float(value.mean()) for key, value in oracle.items() if key in wanted},
    }


def _random_ranking(positives: NDArray, candidates: NDArray, k: int) -> dict[str, NDArray]:
    """Expectation per user over all orders of ``candidates`` items of which ``positives`` are relevant."""
    places = np.arange(1, k + 1)
    discount = 1 / np.log2(places + 1)
    rate = positives / candidates
    miss = 1 - positives[:, None] / np.maximum(candidates[:, None] - places + 1, positives[:, None])
    no_hit = np.cumprod(miss, axis=1)  # no positive in the first p places
    first_hit = np.concatenate([np.ones((len(positives), 1)), no_hit[:, :-1]], axis=1) - no_hit
    ideal = np.cumsum(discount)[np.minimum(positives, k) - 1]
    return {
        f"recall@{k}": np.minimum(k / candidates, 1.0),
        f"precision@{k}": rate * np.minimum(candidates, k) / k,
        f"ndcg@{k}": rate * discount.sum() / ideal,
        f"hit@{k}": 1 - no_hit[:, -1],
        f"mrr@{k}": (first_hit / places).sum(axis=1),
    }


def _perfect_ranking(positives: NDArray, k: int) -> dict[str, NDArray]:
    one = np.ones(len(positives))
    found = np.minimum(positives, k)
    return {
        f"recall@{k}": found / positives, f"precision@{k}": found / k,
        f"ndcg@{k}": one, f"hit@{k}": one, f"mrr@{k}": one,
    }  # fmt: skip


def _fixed_ranking(config, splits: data.Splits, part: str, item_score: torch.Tensor) -> Row:
    """The same item scores for everybody, through RecBole's own collector and metrics."""
    collector, evaluator = metrics.Collector(config), metrics.Evaluator(config)
    train = loaders.train_loader(config, splits, learnt(config))
    collector.data_collect(train)
    for interaction, history, positive_u, positive_i in loaders.eval_loader(config, splits, part):
        scores = item_score.repeat(len(interaction), 1)
        scores[:, 0] = -torch.inf
        scores[history] = -torch.inf
        collector.eval_batch_collect(scores, interaction, positive_u, positive_i)
    return dict(evaluator.evaluate(collector.get_data_struct()))
