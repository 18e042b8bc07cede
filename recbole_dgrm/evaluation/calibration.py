"""Calibration of uncertainty: predicted ratings and their standard deviations, as Gaussians, against test ratings.

The baseline is a Gaussian around user + item means with the same standard deviation for all pairs: the RMSE on the
validation part of means fitted on the training part. The training residuals would be too small, because the means were
fitted to them, and since the means are shrunk, degrees of freedom do not correct that exactly. The standard deviations
of the model are evaluated as they are, without recalibration. Predictions are not clipped to the scale, because the
Gaussian that a model predicts has the unclipped prediction as its mean.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import scipy
import torch
from numpy.typing import NDArray

from recbole_dgrm.data import loaders
from recbole_dgrm.data.splits import Splits, training_part, user_item_means
from recbole_dgrm.evaluation.collector import RatedPredictions

NOMINAL = tuple(round(0.05 * place, 2) for place in range(1, 20))  # probabilities of the evaluated intervals
USERS = 5000  # tested users whose ratings are evaluated, at most; they are evenly spaced
ROUNDING = 1e-6  # smaller standard deviations count as 0
BINS = 10  # bins of equally many pairs, by rising standard deviation


@dataclass(frozen=True)
class Gaussians:
    """A Gaussian per rating; a standard deviation may be 0, and then its intervals are points.

    Attributes:
        error: the ratings minus the means, ``(n,)``.
        deviation: the standard deviations in rating units, ``(n,)``.
    """

    error: NDArray[np.float64]
    deviation: NDArray[np.float64]

    def coverage(self, nominal: float) -> float:
        """The share of the ratings within their central intervals of probability ``nominal``."""
        return float((np.abs(self.error) <= scipy.special.ndtri((1 + nominal) / 2) * self.deviation).mean())

    @property
    def crps(self) -> float:
        """The mean continuous ranked probability score, in units of ratings (Gneiting and Raftery 2007, section 4.2).

        For a Gaussian of standard deviation 0 it is the absolute error.
        """
        constant = self.deviation == 0
        z = self.error / np.where(constant, 1, self.deviation)
        density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
        spread = self.deviation * (z * (2 * scipy.special.ndtr(z) - 1) + 2 * density - np.pi**-0.5)
        return float(np.where(constant, np.abs(self.error), spread).mean())

    @property
    def log_score(self) -> float | None:
        """The mean negative log density, in nats; None if it is infinite because a standard deviation is 0."""
        if not self.deviation.all():
            return None
        z = self.error / self.deviation
        score = float((z**2 / 2 + np.log(self.deviation * np.sqrt(2 * np.pi))).mean())
        return score if np.isfinite(score) else None

    @property
    def rank_correlation(self) -> float | None:
        """Spearman's correlation of standard deviations and absolute errors; None if either is constant."""
        errors = np.abs(self.error)
        if not self._differ or not np.ptp(errors):
            return None
        return float(np.corrcoef(pd.Series(self.deviation).rank(), pd.Series(errors).rank())[0, 1])

    @cached_property
    def _differ(self) -> bool:
        return bool(np.ptp(self.deviation))

    def bins(self) -> list[dict[str, float]]:
        """Root mean squares of ``deviation`` and ``error``, in bins of equally many ratings by rising deviation.

        The two are equal for a calibrated model. There are no bins if all deviations are the same.
        """
        order = np.argsort(self.deviation, kind="stable")
        parts = np.array_split(order, min(BINS, len(order))) if self._differ else []
        return [{"deviation": _rms(self.deviation[part]), "error": _rms(self.error[part])} for part in parts]

    def to_dict(self) -> dict[str, Any]:
        """The scores as JSON values, for the record."""
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


def measure(model: Any, config, splits: Splits, predictions: RatedPredictions) -> dict[str, Any]:
    """The calibration of the ``model``, which has a method ``deviations``, and of a baseline, user + item ``means``.

    They are evaluated on the scored test pairs of at most ``USERS`` users.
    """
    tested = np.unique(predictions.user)
    here = np.isin(predictions.user, tested[:: -(-len(tested) // USERS)])
    users, score, rating = (each[here] for each in (predictions.user, predictions.score, predictions.rating))
    item = torch.argsort(loaders.item_rank(splits.train))[predictions.item[here]]
    user, row = torch.unique(torch.as_tensor(users), return_inverse=True)
    device = config["device"]
    deviation = model.deviations(user.to(device), row.to(device), (item - 1).to(device)).double().cpu().numpy()
    deviation[deviation < ROUNDING] = 0
    means = user_item_means(config, splits, training_part(config)).predict(users, item.numpy())
    of_valid = splits.triples("valid")
    usual = _rms(of_valid[2] - user_item_means(config, splits, "train").predict(*of_valid[:2]))
    compared = {
        "model": Gaussians(rating - score.astype(np.float64), deviation),
        "means": Gaussians(rating - means, np.full(len(means), usual)),
    }
    return {name: gaussians.to_dict() for name, gaussians in compared.items()}


def _rms(value: NDArray) -> float:
    return float(np.sqrt(np.square(value).mean()))
