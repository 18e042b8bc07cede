"""Whether a model knows how sure it is: its ratings and their standard deviations, as Gaussians, against test ratings.

Beside it stands a Gaussian around user + item means whose deviation is the same for all pairs: the root mean square
error of means of the training part on validation. The residuals of training would be smaller than those of new ratings,
by as much as there are users and items with few ratings, and no count of degrees of freedom tells that exactly where
the means are shrunk. The deviations of the model are taken as they are: nothing is fitted to make them right.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import scipy
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_dgrm.data import loaders
from recbole_dgrm.data.splits import Splits, training_part, user_item_means
from recbole_dgrm.evaluation.collector import RatedPredictions

NOMINAL = tuple(round(0.05 * place, 2) for place in range(1, 20))  # of the intervals of a reliability figure
ROUNDING = 1e-6  # deviations below are those of predictions that are always the same
BINS = 10  # of equally many pairs, from those that a model is surest of to the others


class Uncertain(Protocol):
    """A model that says how sure it is; found by its ``deviations``, whatever its name."""

    def deviations(self, user: Tensor, row: Tensor, column: Tensor) -> Tensor:
        """The standard deviations ``(n,)`` of the ratings at ``row`` and ``column`` of distinct users ``(B,)``."""


@dataclass(frozen=True)
class Gaussians:
    """A Gaussian per rating, of which the deviation may be 0: its intervals are points then.

    Attributes:
        error: the ratings minus the means, ``(n,)``.
        deviation: the standard deviations, ``(n,)``.
    """

    error: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def coverage(self, nominal: float) -> float:
        """The share of the ratings that lie within central intervals with the probability ``nominal``."""
        return float((np.abs(self.error) <= scipy.stats.norm.ppf((1 + nominal) / 2) * self.deviation).mean())

    @property
    def crps(self) -> float:
        """The mean continuous ranked probability score, in units of ratings (Gneiting and Raftery 2007, section 4.2).

        A Gaussian of deviation 0 has the absolute error.
        """
        sure = self.deviation == 0
        z = self.error / np.where(sure, 1, self.deviation)
        spread = self.deviation * (z * (2 * scipy.stats.norm.cdf(z) - 1) + 2 * scipy.stats.norm.pdf(z) - np.pi**-0.5)
        return float(np.where(sure, np.abs(self.error), spread).mean())

    @property
    def log_score(self) -> float | None:
        """The mean negative logarithm of the density, in nats; None where it is infinite, since a deviation is 0."""
        if not self.deviation.all():
            return None
        score = float(-scipy.stats.norm.logpdf(self.error, scale=self.deviation).mean())
        return score if np.isfinite(score) else None

    @property
    def rank_correlation(self) -> float | None:
        """Spearman's, of deviations with absolute errors; None where either is the same for all ratings."""
        errors = np.abs(self.error)
        if not self._differ or not np.ptp(errors):
            return None
        return float(scipy.stats.spearmanr(self.deviation, errors).statistic)

    @cached_property
    def _differ(self) -> bool:
        return bool(np.ptp(self.deviation))

    def bins(self) -> list[dict[str, float]]:
        """By rising deviation, root mean squares of ``deviation`` and ``error`` of equally many ratings.

        They are equal where the deviations are right; there are none where all deviations are the same.
        """
        order = np.argsort(self.deviation, kind="stable")
        parts = np.array_split(order, min(BINS, len(order))) if self._differ else []
        return [{"deviation": _rms(self.deviation[part]), "error": _rms(self.error[part])} for part in parts]

    def to_dict(self) -> dict[str, Any]:
        """What a record keeps."""
        return {
            "n": len(self.error),
            "deviation": float(self.deviation.mean()),
            "crps": self.crps,
            "log_score": self.log_score,
            "rank_correlation": self.rank_correlation,
            "nominal": list(NOMINAL),
            "observed": [self.coverage(nominal) for nominal in NOMINAL],
            "bins": self.bins(),
        }


def measure(model: Uncertain, config, splits: Splits, predictions: RatedPredictions) -> dict[str, Any]:
    """The calibration of the ``model`` and of a Gaussian around user + item ``means``, on scored test pairs."""
    item = torch.argsort(loaders.item_rank(splits.train))[predictions.item]
    user, row = torch.unique(torch.as_tensor(predictions.user), return_inverse=True)
    device = config["device"]
    deviation = model.deviations(user.to(device), row.to(device), (item - 1).to(device)).double().cpu().numpy()
    deviation[deviation < ROUNDING] = 0
    means = user_item_means(config, splits, training_part(config)).predict(predictions.user, item.numpy())
    found = {
        "model": Gaussians(predictions.rating - predictions.score.astype(np.float64), deviation),
        "means": Gaussians(predictions.rating - means, np.full(len(means), _usual_error(config, splits))),
    }
    return {name: gaussians.to_dict() for name, gaussians in found.items()}


def _usual_error(config, splits: Splits) -> float:
    """The root mean square error on validation of the means of the training part."""
    user, item, rating = splits.triples("valid")
    return _rms(rating - user_item_means(config, splits, "train").predict(user, item))


def _rms(value: NDArray) -> float:
    return float(np.sqrt(np.square(value).mean()))
