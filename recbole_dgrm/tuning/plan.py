"""The plan of a search: what is searched, where and how often; its workers read it from ``search.json``."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from sqlalchemy import URL, make_url
from sqlalchemy.exc import SQLAlchemyError

from recbole_dgrm import record_types
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.errors import DataError, OptionError
from recbole_dgrm.evaluation import selection
from recbole_dgrm.records import WHERE, read_json, run_name
from recbole_dgrm.system.files import plain, write_json
from recbole_dgrm.tuning.space import Space, listed
from recbole_dgrm.tuning.space_file import parse_space

SEARCH, DATABASE = "search.json", "study.db"
TRIALS = 50  # where neither a grid nor the caller says how many


@dataclass(frozen=True)
class SearchPlan:
    """What all workers of a study share; ``search.json`` in the output directory.

    Attributes:
        config: keys above the model's YAML files: model, dataset, protocol and whatever is set for all trials.
        space: as ``recbole_dgrm.tuning.space_file.parse_space`` reads it.
        trials: how many are wanted in all.
        storage: of Optuna; an SQLite file in the output directory by default.
        place: names this output directory, to know its trials in a shared database.
    """

    config: dict[str, Any]
    space: dict[str, Any]
    sampler: str
    trials: int
    prune: bool
    study: str
    storage: str
    place: str

    @property
    def fingerprint(self) -> str:
        """A hash of what must be equal for two searches to share a study."""
        config = {key: value for key, value in self.config.items() if key not in WHERE}
        what = {"config": config, "space": self.space, "sampler": self.sampler, "prune": self.prune}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write ``search.json`` without ``storage``, which may hold a password."""
        write_json(folder / SEARCH, {**asdict(self), "storage": None})

    @classmethod
    def load(cls, folder: Path, storage: str | None = None) -> "SearchPlan":
        """Read ``search.json``.

        Raises:
            DataError: it is damaged.
        """
        path, what = folder / SEARCH, "the plan of a search"
        remedy = "move it away; the same command writes it again"
        content = read_json(path, what, remedy, record_types.Search)
        try:
            return cls(**{**content, "storage": storage or default_storage(folder)})
        except TypeError as error:
            raise DataError(f"{path} is not {what} ({error}); {remedy}") from error


def default_storage(folder: Path) -> str:
    """The SQLite database of a search in ``folder``."""
    return f"sqlite:///{(folder / DATABASE).resolve()}"


def address(storage: str) -> URL:
    """The parts of the address of a database.

    Raises:
        OptionError: it is none.
    """
    try:
        return make_url(storage)
    except SQLAlchemyError:
        raise OptionError("--storage is no address of a database like postgresql://user@host/name") from None


def plan_search(
    config: Mapping[str, Any],
    space: Mapping[str, Any],
    folder: Path,
    sampler: str | None = None,
    trials: int | None = None,
    prune: bool = True,
    study: str | None = None,
    storage: str | None = None,
) -> SearchPlan:
    """Plan a search and check it: the space fits the model and every value can be used, before anything is run.

    Raises:
        UserError: what is wrong and the remedy.
    """
    parsed = parse_space({**space, "sampler": sampler or space.get("sampler")})
    given = load_config(config_dict=config).given
    seed = given["seed"]
    _check_values(config, parsed, seed)
    where = (storage or default_storage(folder)).replace("postgresql://", "postgresql+psycopg://")
    address(where)
    config = _with_metric(config)
    chosen = parsed.sampler or "tpe"
    if chosen == "grid":
        size = len(parsed.grid(np.random.default_rng(seed)))
        trials = min(trials or size, size)
    name = study or run_name(given)
    saved = folder / SEARCH
    place = SearchPlan.load(folder).place if saved.is_file() else uuid4().hex
    return SearchPlan(plain(config), plain(space), chosen, trials or TRIALS, prune, name, where, place)


def _with_metric(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The keys of the trials with the metric that all are compared by, where ``valid_metric`` leaves that open."""
    asked = load_config(config_dict=config)
    if asked["valid_metric"] != selection.AUTO:
        return config
    used, _ = selection.settled(asked, build_splits(asked, with_test=False))
    return {**config, "valid_metric": used["valid_metric"]}


def _check_values(config: Mapping[str, Any], space: Space, seed: int) -> None:
    """Build the config of a point, then with each value of a choice and with the ends of whole numbers in it."""
    base = space.point(space.draw(np.random.default_rng(seed)))
    load_config(config_dict={**config, **base})  # unknown keys
    for key, distribution in space.distributions.items():
        labels = listed(distribution)
        for label in {labels[0], labels[-1]} if isinstance(labels, range) else labels:
            point = {**base, key: space.point({key: label})[key]}
            if not space.violated(point):
                load_config(config_dict={**config, **point})
