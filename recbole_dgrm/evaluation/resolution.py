"""How precisely a metric can compare two models on some data: its range, in standard errors of a difference.

The *resolution* of a metric is its range, oracle - random, divided by the standard error (over users) of the difference
between two models. That standard error is taken from two rows that need no training, bias and random, user by user:
what is the same for every model, such as the score of a user with a single test item, cancels in their difference. A
skill is a share of the range, so the resolution is 1 / (the standard error of a skill).

The oracle of an error is 0, and nobody comes near it, because people do not repeat their ratings. The range of RMSE and
MAE is therefore three times random - bias: user + item means stand about a third of the way in ranking metrics. Errors
are pooled over ratings, so a user is weighted by the number of test ratings. RatingKL has no value per user, and
therefore no resolution.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recbole_dgrm.evaluation.metric_names import metric_label, smaller_is_better

SMALLEST = 0.1  # difference in skill that a metric shall find between two models
POWER_80 = 2.8  # standard errors of a difference that a test at 5 % finds four times out of five
LIMIT = POWER_80 / SMALLEST  # with a smaller resolution, a metric is too noisy to compare models
THIRD = 3.0  # range of an error / (random - bias): user + item means have a skill of .27 to .48 in ranking metrics
NO_DIFFERENCE = 1e-9
Vectors = Mapping[str, NDArray]
Found = Mapping[str, Mapping[str, float]]


def of_rows(rows: Mapping[str, Vectors], metrics: list[str], ratings: NDArray) -> dict[str, dict[str, float]]:
    """The resolution of each metric that has a value per user.

    Args:
        rows: of ``random``, ``bias`` and ``oracle`` the vectors ``(n_users,)`` by metric.
        ratings: how many ratings each user has there, ``(n_users,)``.

    Returns:
        For each metric the ``ratio``, which is its resolution, the number of ``users`` for whom random and oracle
        differ, and the number ``of`` all users.
    """
    random, bias, oracle = (rows[name] for name in ("random", "bias", "oracle"))
    found: dict[str, dict[str, float]] = {}
    for key in [key for key in metrics if key in random]:
        if smaller_is_better(key):
            weight, perfect = ratings / ratings.mean(), random[key] + THIRD * (bias[key] - random[key])
        else:
            weight, perfect = np.ones(len(ratings)), oracle[key]
        value = resolution(perfect - random[key], bias[key] - random[key], weight)
        users = int(np.count_nonzero(np.abs(oracle[key] - random[key]) > NO_DIFFERENCE))
        found[key] = {"ratio": value, "users": users, "of": len(ratings)}
    return found


def resolution(span: NDArray, difference: NDArray, weight: NDArray) -> float:
    """The mean of ``span`` against the standard error of the mean of ``difference``, all ``(n_users,)``.

    One more user is counted who differs by the whole span: so no resolution is above the number of users, and those
    who by chance all differ alike are not taken for certainty.

    Args:
        weight: of each user, 1 on average.
    """
    mean_span = abs(float((weight * span).mean()))
    if mean_span < NO_DIFFERENCE:
        return 0.0
    deviation = weight * (difference - (weight * difference).mean())
    return float(len(span) * mean_span / np.sqrt(np.sum(deviation**2) + mean_span**2))


def averaged(several: Sequence[Found]) -> dict[str, dict[str, float]]:
    """The means of what was found on several splits, metric by metric."""
    names = dict.fromkeys(metric for found in several for metric in found)
    parts = {metric: [found[metric] for found in several if metric in found] for metric in names}
    return {
        metric: {key: float(np.mean([part[key] for part in every])) for key in every[0]}
        for metric, every in parts.items()
    }


def can_tell(found: Found, metric: str) -> bool:
    """Whether a metric can tell models apart, by the resolutions ``found``; true where nothing is known of it."""
    return metric not in found or found[metric]["ratio"] >= LIMIT


def blunt(found: Found, metrics: list[str]) -> str:
    """Half a sentence about those of the metrics that cannot tell models apart; empty if all can.

    ``RatedNDCG@5 (resolution 21; a model can change it for 354 of 26,729 users) cannot tell models apart``
    """
    told = [
        f"{metric_label(metric)[:-2]} (resolution {found[metric]['ratio']:.0f}; a model can change it for "
        f"{found[metric]['users']:,.0f} of {found[metric]['of']:,.0f} users)"
        for metric in metrics
        if not can_tell(found, metric)
    ]
    return f"{', '.join(told)} cannot tell models apart" if told else ""
