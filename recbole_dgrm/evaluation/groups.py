"""A test result by groups: users by how many ratings they have in training, items by how many they have there.

The groups have fixed edges, so that those of several data sets, splits and reports are the same.
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

EDGES = (5, 20, 50, 200)  # the most ratings of a group; the last group has whatever is above
Groups = list[dict[str, Any]]
Vectors = Mapping[str, NDArray]


def measure(
    evaluator: collector.Evaluator, config, splits: Splits, users: NDArray, reference: References
) -> dict[str, Any]:
    """What ``evaluator`` has just found on the test part, by groups.

    Args:
        users: ids of the tested users, in the order of the evaluator's vectors.
        reference: the reference rows of the test part.

    Returns:
        ``users`` and, where predictions are ratings, ``items``; each with the groups of the ``model`` and, where the
        rated items are judged, of ``bias``, user + item means. A group has ``least`` and ``most`` ratings in training
        (None for the last), ``n`` users or test ratings, and the metrics: means over its users, of errors over its
        ratings. A group without any is left out.
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
    found = {"users": {"model": _by_users(of_users, vectors, number), "bias": _by_users(of_users, of_means, number)}}
    if "rmse" in vectors or "mae" in vectors:
        scores = {"model": pairs.score, "bias": means.predict(pairs.user, tested)}
        found["items"] = {name: _by_items(of_items, score - pairs.rating) for name, score in scores.items()}
    return found


def _by_users(ratings: NDArray, vectors: Vectors, tested: NDArray | None) -> Groups:
    """Groups of users with ``ratings`` in training and, where errors are among the vectors, ``tested`` ratings."""
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
    """Groups of test ratings whose items have ``ratings`` in training."""
    error = error.astype(np.float64)
    return [
        group | {"rmse": float(np.square(error[here]).mean()) ** 0.5, "mae": float(np.abs(error[here]).mean())}
        for group, here in _groups(ratings)
    ]


def _groups(ratings: NDArray) -> list[tuple[dict[str, Any], NDArray[np.bool_]]]:
    """The groups that are not empty, each with the places of those who are in it."""
    place, found = np.searchsorted(EDGES, ratings), []
    for number, (below, most) in enumerate(zip((-1, *EDGES), (*EDGES, None), strict=True)):
        here = place == number
        if here.any():
            found.append(({"least": below + 1, "most": most, "n": int(here.sum())}, here))
    return found
