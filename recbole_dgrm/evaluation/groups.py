"""Test results by groups of users and of items, which are grouped by their number of training ratings.

The groups have fixed edges, so that they are the same for all data sets, splits and reports.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from recbole_dgrm.data import loaders
from recbole_dgrm.data.splits import Splits, training_part
from recbole_dgrm.evaluation import collector
from recbole_dgrm.evaluation.metric_names import is_mean_over_users
from recbole_dgrm.evaluation.references import References

EDGES = (5, 20, 50, 200)  # the most training ratings of a group; the last group has more than 200
Groups = list[dict[str, Any]]
Vectors = Mapping[str, NDArray]


def measure(
    evaluator: collector.Evaluator, config, splits: Splits, users: NDArray, reference: References
) -> dict[str, Any]:
    """The result of the last evaluation of ``evaluator``, on the test part, by groups.

    Args:
        users: ids of the tested users, in the order of the evaluator's values per user.
        reference: the reference rows of the test part.

    Returns:
        ``users`` and, if predictions are ratings, ``items``; each with the groups of the ``model`` and, under the
        rated-items protocols, of ``bias``, user + item means. A group has its ``least`` and ``most`` training ratings
        (None for the last), its number ``n`` of users or test ratings, and the metrics: errors are means over its
        test ratings, all others means over its users. Empty groups are left out.
    """
    user, item, _ = splits.triples(training_part(config))
    of_users = np.bincount(user, minlength=splits.train.user_num)[users]
    pairs, means = evaluator.predictions, reference.means
    vectors = {key: value for key, value in evaluator.per_user.items() if key != "user_id"}
    if pairs is None or means is None:
        return {"users": {"model": _by_users(of_users, vectors, None)}}
    tested = torch.argsort(loaders.item_rank(splits.train)).numpy()[pairs.item]
    of_items = np.bincount(item, minlength=splits.train.item_num)[tested]
    number = np.unique(pairs.user, return_counts=True)[1]
    of_means = {key: value for key, value in reference.of(users).items() if key in vectors}
    result = {"users": {"model": _by_users(of_users, vectors, number), "bias": _by_users(of_users, of_means, number)}}
    if "rmse" in vectors or "mae" in vectors:
        scores = {"model": pairs.clipped, "bias": splits.scale.clipped(means.predict(pairs.user, tested))}
        result["items"] = {name: _by_items(of_items, score - pairs.rating) for name, score in scores.items()}
    return result


def _by_users(ratings: NDArray, vectors: Vectors, tested: NDArray | None) -> Groups:
    """Groups of users by their number of training ``ratings``; errors are weighted by the ``tested`` ratings."""
    return [
        group | {key: _pooled(key, value[here], tested is not None and tested[here]) for key, value in vectors.items()}
        for group, here in _groups(ratings)
    ]


def _pooled(key: str, value: NDArray, tested: Any) -> float:
    if is_mean_over_users(key):
        return float(value.mean())
    mean = float(np.average(value, weights=tested))
    return mean**0.5 if key == "rmse" else mean


def _by_items(ratings: NDArray, error: NDArray) -> Groups:
    """Groups of test ratings by the number of training ``ratings`` of their items."""
    error = error.astype(np.float64)
    return [
        group | {"rmse": float(np.square(error[here]).mean()) ** 0.5, "mae": float(np.abs(error[here]).mean())}
        for group, here in _groups(ratings)
    ]


def _groups(ratings: NDArray) -> list[tuple[dict[str, Any], NDArray[np.bool_]]]:
    """The groups that are not empty, each with a mask of its members."""
    place, groups = np.searchsorted(EDGES, ratings), []
    for number, (below, most) in enumerate(zip((-1, *EDGES), (*EDGES, None), strict=True)):
        here = place == number
        if here.any():
            groups.append(({"least": below + 1, "most": most, "n": int(here.sum())}, here))
    return groups
