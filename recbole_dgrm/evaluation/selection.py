"""The metric for early stopping and tuning.

With ``valid_metric: auto`` it is RatedNDCG if that is precise enough on the validation part, and RMSE otherwise.
"""

import logging

from recbole_dgrm.compat.config import Config
from recbole_dgrm.data.splits import Splits
from recbole_dgrm.evaluation import references
from recbole_dgrm.evaluation.metric_names import ASKED, AUTO, candidates, smaller_is_better
from recbole_dgrm.evaluation.references import Metrics
from recbole_dgrm.evaluation.resolution import is_precise, too_noisy

LOG = logging.getLogger(__name__)


def with_chosen_metric(config, splits: Splits) -> tuple[Config, dict[str, Metrics]]:
    """Replace ``valid_metric: auto`` by the metric to use for early stopping and tuning.

    The choice depends only on the training and the validation part, so it is the same when a run is resumed. Returns
    also the resolutions on the validation part, by which it was made; these are empty if the config names a metric.
    """
    if config["valid_metric"] != AUTO:
        return config, {}
    resolutions = references.measure(config, splits, "valid").resolution
    chosen = _choice(candidates(config["metrics"], config["topk"]), resolutions)
    bigger = not smaller_is_better(chosen.lower())
    return config.replaced(valid_metric=chosen, valid_metric_bigger=bigger), resolutions


def _choice(names: list[str], resolutions: dict[str, Metrics]) -> str:
    """RatedNDCG if it is precise enough; else RMSE, unless that is not computed or has a smaller resolution."""
    ranking, error = names[0], names[-1]
    ratios = [resolutions[name.lower()]["ratio"] for name in (ranking, error)]
    chosen = ranking if is_precise(resolutions, ranking.lower()) or ratios[1] < ratios[0] else error
    reason = too_noisy(resolutions, [ranking.lower()]) or f"{ranking} has a resolution of {ratios[0]:.0f}"
    severity = logging.INFO if chosen == ranking else logging.WARNING
    LOG.log(severity, "%s chooses %s for early stopping and tuning; on validation %s", ASKED, chosen, reason)
    return chosen
