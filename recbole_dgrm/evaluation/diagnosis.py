"""Diagnosis of a run: the predictions of its model during and after training, compared with the given ratings.

Scores are computed in batches of users and counted in fixed bins, so a matrix of users x items is never in memory. An
inspection does not change the run: it has a random generator of its own.
"""

import logging
from dataclasses import asdict
from time import monotonic
from typing import Any

import numpy as np
import torch
from recbole.data.dataset import Dataset
from scipy.sparse import csr_matrix
from torch import Tensor

from recbole_dgrm.data.rating_scale import RatingScale
from recbole_dgrm.data.splits import Splits, training_part
from recbole_dgrm.evaluation import calibration, collector
from recbole_dgrm.evaluation.collapse import DISTRIBUTION, judge_run
from recbole_dgrm.evaluation.distribution import Bins, Sample, counts_by_user, distance_intervals, ks_p_values
from recbole_dgrm.evaluation.lists import Lists
from recbole_dgrm.evaluation.references import evaluated, rated_pairs
from recbole_dgrm.evaluation.scoring import all_scores

LOG = logging.getLogger(__name__)
RESAMPLED = 5000  # groups of users that the bootstrap resamples; users are in groups of their own if they are fewer
ALPHAS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.5)  # significance levels of the KS test (Fig. 8)
MOST = 1 << 24  # scores counted by all inspections of a training, and by that of the tested model: a second or two
LISTED = 1000  # users whose lists are compared, at most
LISTED_SCORES = 1 << 22  # scores from which these lists are made; there are fewer users if there are many items
LISTED_AT_LEAST = 100  # users, because the lists of fewer cannot show a collapse


def rating_bins(config, scale: RatingScale | None) -> Bins | None:
    """The bins in which predictions are counted; None if scores are not ratings."""
    return Bins(scale.levels) if config.predicts_ratings and scale else None


class EpochMonitor:
    """Inspects the predictions after epochs of the training that selects the epoch.

    The scores of the rated validation pairs are counted at every validation, which computes them anyway; all other
    entries are inspected every ``diagnose_every`` epochs.
    """

    def __init__(self, config, splits: Splits):
        self.config, self.splits, self._works = config, splits, True

    def __call__(self, trainer: Any, epoch: int, validated: bool) -> dict[str, Any]:
        """Entries for the epoch's line in ``metrics.jsonl``; an inspection that fails does not stop training."""
        if not self._works:
            return {}
        try:
            return self._inspected(trainer, epoch, validated)
        except Exception as error:
            self._works = False
            LOG.warning("training continues without diagnosis, which failed (%s: %s)", type(error).__name__, error)
            LOG.info("diagnosis failed", exc_info=True)
            return {"diagnosis_error": f"{type(error).__name__}: {error}"}

    def _inspected(self, trainer: Any, epoch: int, validated: bool) -> dict[str, Any]:
        predicted: dict[str, Any] = {}
        start, every = monotonic(), self.config.run.diagnose_every
        bins = rating_bins(self.config, self.splits.scale)
        if bins and validated:
            score = torch.as_tensor(trainer.evaluator.predictions.score)
            predicted["validation"] = Sample.of(bins, score).to_dict()
        if every and (epoch == 0 or (epoch + 1) % every == 0):
            predicted |= inspect(trainer, self.config, self.splits.train, max(1, self.config.run.epochs // every))
        return {DISTRIBUTION: predicted, "diagnose_s": round(monotonic() - start, 4)} if predicted else {}


def inspect(
    trainer: Any, config, dataset: Dataset, inspections: int = 1, listed: int = LISTED, scores: int = MOST
) -> dict[str, Any]:
    """Inspect the predictions for the rated pairs of ``dataset`` and for all other pairs, in one pass.

    Args:
        inspections: the number of inspections that share the limits, so that together they take as long as one.
        listed: number of users whose lists are compared; they are evenly spaced among the users with ratings. They
            depend only on the data and the number of inspections, so they are the same for all models.
        scores: the most predictions to count. A model without fast prediction of whole profiles counts those of the
            ``listed`` users instead.

    Returns:
        ``lists`` (see ``_lists``). If scores are ratings, also ``rated`` and ``unrated`` (each from
        ``Sample.to_dict``) and ``between_users``, the share of the variance of all predictions that is between users.
    """
    matrix = dataset.inter_matrix(form="csr", value_field=None)
    n_scores = inspections * matrix.shape[1]  # of a user, in all inspections
    compared = _spaced(matrix, min(listed, max(LISTED_AT_LEAST, LISTED_SCORES // n_scores)))
    by_profiles = getattr(trainer.model, "by_profiles", False)
    observed = _spaced(matrix, scores // n_scores) if by_profiles else compared
    users = torch.unique(torch.cat([compared, observed]))
    bins = rating_bins(config, dataset.scale)
    top, whole, rated, every, centre = [], [], [], [], 0.0
    totals = np.zeros((2, dataset.item_num - 1))
    trainer.model.eval()
    with trainer.own_randomness(), torch.no_grad():
        for batch, score in all_scores(trainer.model, config, users, dataset.item_num):
            seen = matrix[batch.numpy()].tocoo()
            row, column = (
                torch.as_tensor(index, dtype=torch.long, device=score.device) for index in (seen.row, seen.col)
            )
            if bins and (counted := torch.isin(batch, observed).to(score.device)).any():
                rated.append(Sample.of(bins, score[row, column][counted[row]]))
                entries = score[counted, 1:]
                every.append(Sample.of(bins, entries))
                centre = centre or rated[0].mean
                centred = entries - centre  # small numbers, so that float32 sums of squares are exact enough
                totals += torch.stack([centred.sum(dim=0), centred.square().sum(dim=0)]).cpu().numpy()
            if (here := torch.isin(batch, compared).to(score.device)).any():
                n = min(max(config.run.topk), dataset.item_num - 1)
                whole.append(_tops(score[here], n))
                score[row, column] = -torch.inf
                top.append(_tops(score[here], n))
    predicted: dict[str, Any] = {"lists": _lists(matrix, torch.cat(top), torch.cat(whole))}
    if bins:
        known, all_entries = sum(rated[1:], rated[0]), sum(every[1:], every[0])
        predicted |= {"rated": known.to_dict(), "unrated": (all_entries - known).to_dict()}
        predicted["between_users"] = _between_users(*totals, len(observed))
    return predicted


def _lists(matrix: csr_matrix, top: Tensor, whole: Tensor) -> dict[str, Any]:
    """``Lists.statistics`` of the lists of unseen items (``top``, ``(n_users, N)``), with the numbers of users.

    ``rankings`` is distinct lists of all items (``whole``, ``(n_users, N)``) / users, where the order of items counts.
    """
    rankings = len(torch.unique(whole, dim=0)) / len(whole)
    of_users = int((np.diff(matrix.indptr) > 0).sum())
    return {"users": len(top), "of_users": of_users, "rankings": rankings, **Lists(top.numpy(), matrix).statistics()}


def _spaced(matrix: csr_matrix, wanted: int) -> Tensor:
    """``wanted`` of the users with ratings, evenly spaced, or all of them if there are fewer."""
    users = torch.as_tensor(np.flatnonzero(np.diff(matrix.indptr)))
    wanted = min(len(users), max(1, wanted))
    return users[torch.linspace(0, len(users) - 1, wanted, dtype=torch.float64).round().long()]


def _tops(scores: Tensor, n: int) -> Tensor:
    """The ``n`` best items of each row, ``(B, n)``, filled up with 0 if fewer have a score above minus infinity."""
    best = torch.topk(scores, n)
    return best.indices.masked_fill(best.values == -torch.inf, 0).cpu()


def _between_users(total: np.ndarray, squares: np.ndarray, n_users: int) -> float | None:
    if n_users < 2:
        return None
    variance = squares.mean() / n_users - (total.mean() / n_users) ** 2
    within_items = (squares / n_users - (total / n_users) ** 2).mean()
    return float(np.clip(within_items / variance, 0, 1)) if variance > 0 else 0.0


def examine(
    trainer: Any, config, splits: Splits, lines: list[dict[str, Any]], epoch: int
) -> tuple[dict[str, Any], dict[str, float]]:
    """The diagnosis of a finished run and its times, for its record; ``trainer`` has tested ``epoch``, from 1."""
    start, seconds = monotonic(), dict[str, float]()
    final = inspect(trainer, config, getattr(splits, training_part(config)))
    report: dict[str, Any] = {DISTRIBUTION: final}
    bins = rating_bins(config, splits.scale)
    if bins:
        report["levels"] = list(bins.scale)
        final["ratings"] = Sample.of(bins, torch.as_tensor(splits.triples("train")[2])).to_dict()
        predictions = trainer.evaluator.predictions
        if predictions is not None:
            final["test"] = Sample.of(bins, torch.as_tensor(predictions.score)).to_dict()
            report |= _test_distances(config, bins, predictions)
            if hasattr(trainer.model, "deviations"):
                begun = monotonic()
                with trainer.own_randomness():
                    report["calibration"] = calibration.measure(trainer.model.eval(), config, splits, predictions)
                seconds["calibrate_s"] = round(monotonic() - begun, 3)
    report["verdict"] = asdict(judge_run(bins, final, lines, epoch))
    if config.run.diagnose_every and bins and hasattr(trainer.model, "walk") and not config.run.refit:
        report["sweep"] = sweep(trainer, config, splits)
    in_training = sum(line.get("diagnose_s", 0.0) for line in lines)
    took = monotonic() - start - sum(seconds.values()) + in_training
    return report, {"diagnose_s": round(took, 3), **seconds}


def _test_distances(config, bins: Bins, predictions) -> dict[str, Any]:
    """The distances of Table 2 on the test pairs, with intervals over users, and the KS test per user (Fig. 8)."""
    _, row = np.unique(predictions.user, return_inverse=True)
    counts = [counts_by_user(row % RESAMPLED, value, bins.levels) for value in (predictions.score, predictions.rating)]
    p_value = ks_p_values(row, predictions.score, predictions.rating)
    intervals = distance_intervals(*counts, bins.levels, config.run.seed)
    return {
        "distances": {name: dict(zip(("value", "low", "high"), ends, strict=True)) for name, ends in intervals.items()},
        "ks": {"users": len(p_value), "alphas": list(ALPHAS), "hits": [int((p_value >= a).sum()) for a in ALPHAS]},
    }


def sweep(trainer: Any, config, splits: Splits) -> list[dict[str, Any]]:
    """Fig. 7 on the validation part: metrics of one trained model after T' = 0, 1, ..., T of its T denoising steps.

    The model must not be refitted, because a refit has trained on the validation part.

    One walk down the chain gives the posterior and the estimate of ``x_0`` for each T'; both are in the result.
    """
    user, item, rank, rating = rated_pairs(config, splits, "valid")
    model, device = trainer.model.eval(), config["device"]
    readings = ("posterior", "x_0_hat") if model.options.noise_support == "all" else ("x_0_hat",)
    rule = collector.rated_protocol(config, splits.scale)
    points = []
    column = torch.as_tensor(item - 1).to(device)
    for steps, predicted in enumerate(model.walk(torch.as_tensor(user).to(device), column)):
        for reading, score in zip(("posterior", "x_0_hat"), predicted, strict=True):
            if reading in readings:
                point = {"prediction": reading, "denoising_steps": steps}
                point["prediction_noise_steps"] = model.options.noise_steps
                predictions = collector.RatedPredictions(user, rank, score.cpu().numpy(), rating, rule, splits.scale)
                points.append(point | evaluated(collector.Evaluator(config), predictions))
    return points
