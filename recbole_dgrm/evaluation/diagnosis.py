"""Diagnosis of a run: what its model predicts, during training and at the end, compared with the given ratings.

Scores of all users are inspected a batch at a time and kept as counts in fixed bins, so a matrix of users x items is
never in memory. An inspection does not change the run: it draws no random number that training uses.
"""

import logging
from collections.abc import Iterator
from time import monotonic
from typing import Any, Protocol

import numpy as np
import torch
from recbole.data.dataset import Dataset
from scipy.sparse import csr_matrix
from torch import Tensor

from recbole_dgrm.data import ITEM_RANK, loaders
from recbole_dgrm.data.rating_scale import RatingScale
from recbole_dgrm.data.splits import Splits, training_part
from recbole_dgrm.evaluation import calibration, collector
from recbole_dgrm.evaluation.collapse import DISTRIBUTION, judge_run
from recbole_dgrm.evaluation.distribution import Bins, Sample, counts_by_user, distance_intervals, ks_p_values
from recbole_dgrm.evaluation.lists import Lists
from recbole_dgrm.evaluation.references import rated_row
from recbole_dgrm.evaluation.scoring import all_scores

LOG = logging.getLogger(__name__)
ALPHAS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.5)  # significance levels of the KS test (Fig. 8)
MOST = 1 << 27  # scores that an inspection computes at most: a second or so of products on two cores
LISTED = 1000  # users whose lists are compared, or all where there are fewer


class Denoiser(Protocol):
    """A model that predicts by a chain of denoising steps; found by its ``walk``, whatever its name.

    Attributes:
        options: has ``noise_steps``, the length of the chain, and ``noise_support``, the items that get noise.
    """

    options: Any

    def walk(self, user: Tensor, column: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """For 0, 1, ... denoising steps the ratings ``(n,)`` of pairs by the state, and by the estimate of ``x_0``."""


def rating_bins(config, scale: RatingScale | None) -> Bins | None:
    """The bins in which predictions are counted; None where scores are no ratings."""
    return Bins(scale.levels) if config.predicts_ratings and scale else None


class EpochMonitor:
    """Called after each epoch of the training that selects, it finds what the model predicts by then.

    Rated validation pairs are scored for validation anyway and are counted whenever that happens; all other
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
            LOG.warning("training goes on unwatched: looking at it failed (%s: %s)", type(error).__name__, error)
            LOG.info("looking failed", exc_info=True)
            return {"diagnosis_error": f"{type(error).__name__}: {error}"}

    def _inspected(self, trainer: Any, epoch: int, validated: bool) -> dict[str, Any]:
        found: dict[str, Any] = {}
        start, every = monotonic(), self.config.run.diagnose_every
        bins = rating_bins(self.config, self.splits.scale)
        if bins and validated:
            score = torch.as_tensor(trainer.evaluator.predictions.score)
            found["validation"] = Sample.of(bins, score).to_dict()
        if every and (epoch == 0 or (epoch + 1) % every == 0):
            found |= inspect(trainer, self.config, self.splits.train)
        return {DISTRIBUTION: found, "diagnose_s": round(monotonic() - start, 4)} if found else {}


def inspect(trainer: Any, config, dataset: Dataset, listed: int = LISTED, scores: int = MOST) -> dict[str, Any]:
    """Inspect what the model predicts for the entries of ``dataset`` and for all others, in one pass.

    Args:
        listed: how many users' lists are compared, evenly spaced among those who have ratings; the same for all models.
        scores: how many predictions are counted at most; a model that does not predict by profiles counts those of
            the ``listed`` users.

    Returns:
        ``lists`` (see ``_lists``), for the same users whatever the model. Where scores are ratings also ``rated``
        and ``unrated`` (as ``Sample.to_dict`` gives them) and ``between_users``, the share of the variance of all
        predictions that is between users.
    """
    matrix = dataset.inter_matrix(form="csr", value_field=None)
    compared = _spaced(matrix, listed)
    by_profiles = getattr(trainer.model, "by_profiles", False)
    observed = _spaced(matrix, scores // matrix.shape[1]) if by_profiles else compared
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
                apart = entries - centre  # small numbers, so that float32 sums of squares are exact enough
                totals += torch.stack([apart.sum(dim=0), apart.square().sum(dim=0)]).cpu().numpy()
            if (here := torch.isin(batch, compared).to(score.device)).any():
                n = min(max(config.run.topk), dataset.item_num - 1)
                whole.append(_tops(score[here], n))
                score[row, column] = -torch.inf
                top.append(_tops(score[here], n))
    found: dict[str, Any] = {"lists": _lists(matrix, torch.cat(top), torch.cat(whole))}
    if bins:
        known, all_entries = sum(rated[1:], rated[0]), sum(every[1:], every[0])
        found |= {"rated": known.to_dict(), "unrated": (all_entries - known).to_dict()}
        found["between_users"] = _between_users(*totals, len(observed))
    return found


def _lists(matrix: csr_matrix, top: Tensor, whole: Tensor) -> dict[str, Any]:
    """Statistics of the lists of unseen items (``top``) and of all items (``whole``), ``(n_users, N)`` each.

    Returns:
        ``users``, how many users have a list here; ``of_users``, how many have ratings; ``rankings``, the share of
        the lists of all items that differ, in order or in items; and ``Lists.statistics`` of the unseen items.
    """
    rankings = len(torch.unique(whole, dim=0)) / len(whole)
    of_users = int((np.diff(matrix.indptr) > 0).sum())
    return {"users": len(top), "of_users": of_users, "rankings": rankings, **Lists(top.numpy(), matrix).statistics()}


def _spaced(matrix: csr_matrix, wanted: int) -> Tensor:
    """``wanted`` of the users who have ratings, evenly spaced, or all where there are fewer."""
    users = torch.as_tensor(np.flatnonzero(np.diff(matrix.indptr)))
    wanted = min(len(users), max(1, wanted))
    return users[torch.linspace(0, len(users) - 1, wanted, dtype=torch.float64).round().long()]


def _tops(scores: Tensor, n: int) -> Tensor:
    """The ``n`` best items of each row, ``(B, n)``; 0 where fewer have a score above minus infinity."""
    best = torch.topk(scores, n)
    return best.indices.masked_fill(best.values == -torch.inf, 0).cpu()


def _between_users(total: np.ndarray, squares: np.ndarray, n_users: int) -> float | None:
    if n_users < 2:
        return None  # nothing is between one user
    variance = squares.mean() / n_users - (total.mean() / n_users) ** 2
    within_items = (squares / n_users - (total / n_users) ** 2).mean()
    return float(np.clip(within_items / variance, 0, 1)) if variance > 0 else 0.0


def examine(trainer: Any, config, splits: Splits, lines: list[dict[str, Any]], epoch: int) -> dict[str, Any]:
    """The diagnosis of a finished run, for its record; ``trainer`` has just scored the test part.

    Args:
        lines: the lines of ``metrics.jsonl``.
        epoch: epoch of the tested model, from 1.
    """
    start = monotonic()
    final = inspect(trainer, config, getattr(splits, training_part(config)))
    found: dict[str, Any] = {DISTRIBUTION: final}
    bins = rating_bins(config, splits.scale)
    if bins:
        found["levels"] = list(bins.scale)
        final["ratings"] = Sample.of(bins, torch.as_tensor(splits.triples("train")[2])).to_dict()
        predictions = trainer.evaluator.predictions
        if predictions is not None:
            final["test"] = Sample.of(bins, torch.as_tensor(predictions.score)).to_dict()
            found |= _test_distances(config, bins, predictions)
            if hasattr(trainer.model, "deviations"):
                with trainer.own_randomness():
                    found["calibration"] = calibration.measure(trainer.model.eval(), config, splits, predictions)
    found["verdict"] = judge_run(bins, final, lines, epoch).to_dict()
    if config.run.diagnose_every and bins and hasattr(trainer.model, "walk"):
        found["sweep"] = sweep(trainer, config, splits)
    found["seconds"] = round(monotonic() - start + sum(line.get("diagnose_s", 0.0) for line in lines), 3)
    return found


def _test_distances(config, bins: Bins, predictions) -> dict[str, Any]:
    """For the test pairs the distances of Table 2 with intervals over users, and the KS test per user (Fig. 8)."""
    _, row = np.unique(predictions.user, return_inverse=True)
    counts = [counts_by_user(row, value, bins.levels) for value in (predictions.score, predictions.rating)]
    p_value = ks_p_values(row, predictions.score, predictions.rating)
    intervals = distance_intervals(*counts, bins.levels, config.run.seed)
    return {
        "distances": {name: dict(zip(("value", "low", "high"), ends, strict=True)) for name, ends in intervals.items()},
        "ks": {"users": len(p_value), "alphas": list(ALPHAS), "hits": [int((p_value >= a).sum()) for a in ALPHAS]},
    }


def sweep(trainer: Any, config, splits: Splits) -> list[dict[str, Any]]:
    """Fig. 7 on the validation part: metrics of one trained model after T' = 0, 1, ..., T of its T denoising steps.

    One walk down the chain gives all T'. A point has ``prediction``, ``denoising_steps``, ``prediction_noise_steps``
    and the metrics.
    """
    pairs = [batch for batch, *_ in loaders.eval_loader(config, splits, "valid")]
    fields = (config["USER_ID_FIELD"], config["ITEM_ID_FIELD"], ITEM_RANK, config["RATING_FIELD"])
    user, item, rank, rating = (torch.cat([batch[name] for batch in pairs]) for name in fields)
    model: Denoiser = trainer.model.eval()
    readings = ("posterior", "x_0_hat") if model.options.noise_support == "all" else ("x_0_hat",)
    rule = collector.rated_protocol(config, splits.scale)
    points = []
    for steps, predicted in enumerate(model.walk(user.to(config["device"]), item.to(config["device"]) - 1)):
        for reading, score in zip(("posterior", "x_0_hat"), predicted, strict=True):
            if reading in readings:
                point = {"prediction": reading, "denoising_steps": steps}
                point["prediction_noise_steps"] = model.options.noise_steps
                of_users, ranks, scores, ratings = (each.numpy() for each in (user, rank, score.cpu(), rating))
                predictions = collector.RatedPredictions(of_users, ranks, scores, ratings, rule, splits.scale)
                points.append(point | rated_row(config, predictions))
    return points
