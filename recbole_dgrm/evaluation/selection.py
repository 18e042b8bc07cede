"""The metric for early stopping and tuning.

With ``valid_metric: auto`` it is RatedNDCG if that is precise enough on the validation part, and RMSE otherwise.
"""

import logging

from recbole_dgrm.compat.config import Config
from recbole_dgrm.data.splits import Splits
from recbole_dgrm.evaluation import references
from recbole_dgrm.evaluation.metric_names import ASKED, AUTO, candidates, smaller_is_better
from recbole_dgrm.evaluation.references import Metrics
from recbole_dgrm.evaluation.resolution import blunt, can_tell

LOG = logging.getLogger(__name__)


def settled(config, splits: Splits) -> tuple[Config, dict[str, Metrics]]:
    """The config with the metric that selects, and the resolutions on validation that an ``auto`` was settled by.

    The choice depends on the training and the validation part alone, so it is the same when a run is resumed.
    """
    if config["valid_metric"] != AUTO:
        return config, {}
    found = references.measure(config, splits, "valid").resolution
    chosen = _choice(candidates(config["metrics"], config["topk"]), found)
    bigger = not smaller_is_better(chosen.lower())
    return config.replaced(valid_metric=chosen, valid_metric_bigger=bigger), found


def _choice(names: list[str], found: dict[str, Metrics]) -> str:
    """RatedNDCG if it can tell; else RMSE, unless that is not computed or tells even less."""
    ranking, error = names[0], names[-1]
    ratios = [found[name.lower()]["ratio"] for name in (ranking, error)]
    chosen = ranking if can_tell(found, ranking.lower()) or ratios[1] < ratios[0] else error
    said = blunt(found, [ranking.lower()]) or f"{ranking} has a resolution of {ratios[0]:.0f}"
    LOG.log(
        logging.INFO if chosen == ranking else logging.WARNING, "%s: %s selects; on validation %s", ASKED, chosen, said
    )
    return chosen
