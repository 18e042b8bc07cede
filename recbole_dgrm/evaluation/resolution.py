"""How precisely a metric can compare two models on some data: its range, in standard errors of a difference.

The *resolution* of a metric is its range, oracle - random, divided by the standard error (over users) of the difference
between two models. That standard error is taken from two rows that need no training, bias and random, user by user:
what is the same for every model, such as the score of a user with a single test item, cancels in their difference. A
skill is a share of the range, so the resolution is 1 / (the standard error of a skill).

The oracle's RMSE and MAE are 0, which no model reaches, because people do not repeat their ratings exactly. The range
of RMSE and MAE is therefore defined as three times random - bias, since in ranking metrics user + item means cover
about a third of the range. Errors are pooled over ratings, so a user is weighted by the number of test ratings.
RatingKL has no value per user, and therefore no resolution.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from recbole_dgrm.evaluation.metric_names import metric_label, smaller_is_better

SMALLEST = 0.1  # the difference in skill between two models that a metric should be able to detect
POWER_80 = 2.8  # a difference of so many standard errors is significant at 5 % with a probability of 80 %
LIMIT = POWER_80 / SMALLEST  # with a smaller resolution, a metric is too noisy to compare models
THIRD = 3.0  # range of an error / (random - bias): user + item means have a skill of .27 to .48 in ranking metrics
NO_DIFFERENCE = 1e-9
Vectors = Mapping[str, NDArray]
Resolutions = Mapping[str, Mapping[str, float]]


def of_rows(rows: Mapping[str, Vectors], metrics: list[str], ratings: NDArray) -> dict[str, dict[str, float]]:
    """The resolution of each metric that has a value per user.

    Args:
        rows: for each of ``random``, ``bias`` and ``oracle`` the values per user ``(n_users,)`` by metric.
        ratings: number of ratings of each user in the evaluated part, ``(n_users,)``.

    Returns:
        For each metric the ``ratio``, which is its resolution, the number of ``users`` for whom random and oracle
        differ, and the number ``of`` all users.
    """
    random, bias, oracle = (rows[name] for name in ("random", "bias", "oracle"))
    resolutions: dict[str, dict[str, float]] = {}
    for key in [key for key in metrics if key in random]:
        if smaller_is_better(key):
            weight, perfect = ratings / ratings.mean(), random[key] + THIRD * (bias[key] - random[key])
        else:
            weight, perfect = np.ones(len(ratings)), oracle[key]
        value = resolution(perfect - random[key], bias[key] - random[key], weight)
        users = int(np.count_nonzero(np.abs(oracle[key] - random[key]) > NO_DIFFERENCE))
        resolutions[key] = {"ratio": value, "users": users, "of": len(ratings)}
    return resolutions


def resolution(width: NDArray, difference: NDArray, weight: NDArray) -> float:
    """The mean of ``width`` divided by the standard error of the mean of ``difference``, all ``(n_users,)``.

    The standard error counts one more user, who differs by the whole range. So a resolution is never above the number
    of users, and it stays finite if all users happen to have the same difference. ``width`` is the range of the metric
    for each user, and ``weight`` the weight of each user, 1 on average.
    """
    mean_width = abs(float((weight * width).mean()))
    if mean_width < NO_DIFFERENCE:
        return 0.0
    deviation = weight * (difference - (weight * difference).mean())
    return float(len(width) * mean_width / np.sqrt(np.sum(deviation**2) + mean_width**2))


def averaged(several: Sequence[Resolutions]) -> dict[str, dict[str, float]]:
    """The mean resolutions over several splits, by metric."""
    names = dict.fromkeys(metric for resolutions in several for metric in resolutions)
    parts = {metric: [each[metric] for each in several if metric in each] for metric in names}
    return {
        metric: {key: float(np.mean([part[key] for part in every])) for key in every[0]}
        for metric, every in parts.items()
    }


def is_precise(resolutions: Resolutions, metric: str) -> bool:
    """Whether a metric is precise enough to compare models; true if its resolution is unknown."""
    return metric not in resolutions or resolutions[metric]["ratio"] >= LIMIT


def too_noisy(resolutions: Resolutions, metrics: list[str]) -> str:
    """A clause that names those of the metrics that are too noisy to compare models; empty if there are none.

    ``RatedNDCG@5 (resolution 21; a model can change it for 354 of 26,729 users) is too noisy to compare models``
    """
    noisy = [
        f"{metric_label(metric)[:-2]} (resolution {resolutions[metric]['ratio']:.0f}; a model can change it for "
        f"{resolutions[metric]['users']:,.0f} of {resolutions[metric]['of']:,.0f} users)"
        for metric in metrics
        if not is_precise(resolutions, metric)
    ]
    return f"{', '.join(noisy)} {'is' if len(noisy) == 1 else 'are'} too noisy to compare models" if noisy else ""
