"""The plan of a search: what is searched, on which data and how often; ``search.json`` in its folder."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from recbole_dgrm.config.layers import load_config, question_keys
from recbole_dgrm.data.atomic_files import check_source, source_hash
from recbole_dgrm.data.convert import FRAMES
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.errors import OptionError
from recbole_dgrm.evaluation import selection
from recbole_dgrm.records import RESULTS, SEARCH, WHERE, Identity, put_aside, read_json, run_name
from recbole_dgrm.system.files import plain, write_json
from recbole_dgrm.tuning.space import Space, listed, parse_space

TRIALS = "trials"  # in the folder of a search, the folder of its trials
USUAL_TRIALS = 50  # where neither a grid nor the caller says how many


@dataclass(frozen=True)
class SearchPlan:
    """A search.

    Attributes:
        config: keys above the model's YAML files: model, dataset, protocol and whatever is set for all trials.
        space: as ``recbole_dgrm.tuning.space.parse_space`` reads it.
        trials: how many are wanted in all.
        study: its name.
        data, code: see ``recbole_dgrm.records.Identity``; a test part that is a file of its own does not count.
    """

    config: dict[str, Any]
    space: dict[str, Any]
    sampler: str
    trials: int
    prune: bool
    study: str
    data: str
    code: int = RESULTS

    def open(self, folder: Path) -> None:
        """Write ``search.json``, after an older search of other data or code in ``folder`` is put aside.

        Raises:
            OptionError: the search in ``folder`` has other keys or another space.
        """
        if (folder / SEARCH).is_file():
            stored = SearchPlan.load(folder)
            if reason := self.identity.difference(stored.identity):
                put_aside(folder, folder, "search", reason, stays=[FRAMES])
            else:
                self._check_same(stored, folder)
        write_json(folder / SEARCH, asdict(self))

    @classmethod
    def load(cls, folder: Path) -> "SearchPlan":
        """Read ``search.json``.

        Raises:
            DataError: it is damaged, or of version 0.2.0.
        """
        remedy = "move the folder away, or name another --output_dir"
        content = read_json(folder / SEARCH, "the plan of a search", remedy, cls.__dataclass_fields__)
        return cls(**{key: content[key] for key in cls.__dataclass_fields__})

    @property
    def identity(self) -> Identity:
        """What the results of all trials depend on, beside their configs."""
        return Identity("", self.data, self.code)

    def _check_same(self, stored: "SearchPlan", folder: Path) -> None:
        ours, theirs = ({**asdict(plan), **plan.config} for plan in (self, stored))
        keys = sorted({*ours, *theirs} - {*WHERE, "config", "trials", "study"})
        if changed := [key for key in keys if ours.get(key) != theirs.get(key)]:
            raise OptionError(
                f"the search in {folder} has {changed[0]}={theirs.get(changed[0])}, not {ours.get(changed[0])}; give "
                "the same keys and the same space, or name another --output_dir"
            )


def plan_search(
    config: Mapping[str, Any],
    space: Mapping[str, Any],
    sampler: str | None = None,
    trials: int | None = None,
    prune: bool = True,
    study: str | None = None,
) -> SearchPlan:
    """Plan a search and check it: the space fits the model and every value can be used, before anything is run.

    Raises:
        UserError: what is wrong and the remedy.
    """
    parsed = parse_space({**space, "sampler": sampler or space.get("sampler")})
    asked = load_config(config_dict=config)
    given = asked.given
    _check_keys(parsed)
    _check_values(config, parsed, given["seed"])
    check_source(asked, with_test=False)
    data = source_hash(asked, with_test=False)
    chosen = parsed.sampler or "tpe"
    if chosen == "grid":
        size = len(parsed.grid(np.random.default_rng(given["seed"])))
        trials = min(trials or size, size)
    settled = plain(_with_metric(config, asked))
    return SearchPlan(settled, plain(space), chosen, trials or USUAL_TRIALS, prune, study or run_name(given), data)


def sampler(kind: str, seed: int) -> BaseSampler:
    """Optuna's sampler of this kind, ``random`` or ``tpe``; from then on Optuna logs warnings only."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return RandomSampler(seed) if kind == "random" else TPESampler(seed=seed, constant_liar=True)


def _with_metric(config: Mapping[str, Any], asked: Any) -> Mapping[str, Any]:
    """The keys of the trials with the metric that all are compared by, where ``valid_metric`` leaves that open."""
    if asked["valid_metric"] != selection.AUTO:
        return config
    used, _ = selection.settled(asked, build_splits(asked, with_test=False))
    return {**config, "valid_metric": used["valid_metric"]}


def _check_keys(space: Space) -> None:
    """Refuse keys of the data, the split, the metrics and the seed: the trial with the easiest question would win."""
    if wrong := [key for key in space.keys if key in question_keys()]:
        raise OptionError(
            f"{wrong[0]} cannot be part of the search space: it changes the data or the evaluation, so trials could "
            f"not be compared; remove it from the space, and give it one value for all trials: --{wrong[0]}=VALUE"
        )


def _check_values(config: Mapping[str, Any], space: Space, seed: int) -> None:
    """Build the config of a point, then with each value of a choice and with the ends of whole numbers in it."""
    base = space.point(space.sample(optuna.create_study(sampler=sampler("random", seed)), {}))
    load_config(config_dict={**config, **base})  # unknown keys
    for key, distribution in space.distributions.items():
        labels = listed(distribution)
        for label in {labels[0], labels[-1]} if isinstance(labels, range) else labels:
            point = {**base, key: space.point({key: label})[key]}
            if space.is_valid(point):
                load_config(config_dict={**config, **point})
