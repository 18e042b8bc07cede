"""The plan of a search: config, space, sampler and number of trials; ``search.json`` in its folder."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from recbole_dgrm.config.layers import load_config, question_keys
from recbole_dgrm.data.atomic_files import check_source, source_hash
from recbole_dgrm.data.convert import FRAMES
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.errors import OptionError
from recbole_dgrm.evaluation import selection
from recbole_dgrm.evaluation.metric_names import AUTO
from recbole_dgrm.identity import RESULTS, SEARCH, Identity, changed_key, put_aside
from recbole_dgrm.records import read_json
from recbole_dgrm.system.files import plain, write_json
from recbole_dgrm.tuning.space import Space, listed, parse_space

USUAL_TRIALS = 50  # the default number of trials if the sampler is not a grid


@dataclass(frozen=True)
class SearchPlan:
    """A search: the keys of all its trials, the space as ``parse_space`` reads it, and the total number of trials.

    ``data`` and ``code`` are those of ``Identity``; the file of a test part is not included.
    """

    config: dict[str, Any]
    space: dict[str, Any]
    sampler: str
    trials: int
    prune: bool
    data: str
    code: int = RESULTS

    def open(self, folder: Path) -> None:
        """Write ``search.json``; an older search in ``folder`` of other data or code is first moved to ``.aside``."""
        if (folder / SEARCH).is_file():
            stored = SearchPlan.load(folder)
            free = dict.fromkeys(("config", "trials"))  # these are not compared
            ours, theirs = ({**vars(plan), **plan.config, **free} for plan in (self, stored))
            if reason := self.identity.difference(stored.identity):
                put_aside(folder, folder, "search", reason, stays=[FRAMES])
            elif key := changed_key(ours, theirs):
                raise OptionError(
                    f"the search in {folder} has {key}={theirs.get(key)}, not {ours.get(key)}; give the same keys and "
                    "the same space, or name another --output_dir"
                )
        write_json(folder / SEARCH, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> "SearchPlan":
        """Read ``search.json``."""
        remedy = "move the folder away, or name another --output_dir"
        content = read_json(folder / SEARCH, "the plan of a search", remedy, cls.__dataclass_fields__)
        return cls(**{key: content[key] for key in cls.__dataclass_fields__})

    @property
    def identity(self) -> Identity:
        """Everything that the results of all trials depend on, except for their configs."""
        return Identity("", self.data, self.code)


def plan_search(
    config: Mapping[str, Any],
    space: Mapping[str, Any],
    sampler: str | None = None,
    trials: int | None = None,
    prune: bool = True,
) -> SearchPlan:
    """Plan a search, and check that the space fits the model and that every value can be used."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    parsed = parse_space({**space, "sampler": sampler or space.get("sampler") or "tpe"})
    asked = load_config(config_dict=config)
    config = {**config, **{key: asked.given[key] for key in ("model", "dataset", "protocol", "seed")}}
    if wrong := [key for key in parsed.keys if key in question_keys()]:
        raise OptionError(
            f"{wrong[0]} cannot be part of the search space: it changes the data or the evaluation, so trials could "
            f"not be compared; remove it from the space, and set one value for all trials: --{wrong[0]}=VALUE"
        )
    _check_values(config, parsed)
    check_source(asked, with_test=False)
    if parsed.sampler == "grid":
        size = len(parsed.grid(np.random.default_rng(asked.given["seed"])))
        trials = min(trials or size, size)
    if asked["valid_metric"] == AUTO:  # all trials must have the same metric
        used, _ = selection.with_chosen_metric(asked, build_splits(asked, with_test=False))
        config = {**config, "valid_metric": used["valid_metric"]}
    data = source_hash(asked, with_test=False)
    return SearchPlan(plain(config), plain(space), str(parsed.sampler), trials or USUAL_TRIALS, prune, data)


def _check_values(config: Mapping[str, Any], space: Space) -> None:
    """Build the config of a point, then vary it by each value of choices and by the ends of ranges of integers."""
    base = space.point(space.sample(optuna.create_study(sampler=optuna.samplers.RandomSampler(0)), {}))
    load_config(config_dict={**config, **base})  # unknown keys
    for key, distribution in space.distributions.items():
        labels = listed(distribution)
        for label in {labels[0], labels[-1]} if isinstance(labels, range) else labels:
            point = {**base, key: space.point({key: label})[key]}
            if space.is_valid(point):
                load_config(config_dict={**config, **point})
