"""Search and its study: a queue of trials in a database, worked off by any number of processes.

Every trial is put into the database before it is run and carries its ``index``: a point of the grid, a
random point, or an empty one that the sampler fills. Workers claim waiting trials, which the database
hands out one by one. A trial whose worker dies is put back with the next ``attempt``; of two trials with
one index and attempt only the first counts. So nothing is lost and nothing is run twice, whoever is killed.
"""

import hashlib
import json
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any
from uuid import uuid4

import numpy as np
import optuna
from filelock import FileLock
from optuna.trial import FrozenTrial, TrialState

from recbole_dgrm import record_types
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.errors import DataError, OptionError
from recbole_dgrm.records import WHERE, read_json, run_name
from recbole_dgrm.system.files import plain, write_json
from recbole_dgrm.tuning.space import Space, parse_space

SEARCH, DATABASE, CLAIM = "search.json", "study.db", ".claim"
HEARTBEAT_S, GRACE_S, BUSY_S = 10, 60, 60
TRIALS = 50  # where neither a grid nor the command line says how many
LOSSES = 3  # workers that a trial may take down before it is given up
WARMUP_EPOCHS, STARTUP_TRIALS = 10, 5  # of the median pruner
QUEUED = (TrialState.WAITING, TrialState.RUNNING)
optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # heartbeats are, since 2021


@dataclass(frozen=True)
class Search:
    """What all workers of a study share; ``search.json`` in the output directory.

    Attributes:
        config: keys above the model's YAML files: model, dataset, protocol and whatever is set for all trials.
        space: as ``recbole_dgrm.tuning.space.parse_space`` reads it.
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
        """Of what makes two searches one study."""
        config = {key: value for key, value in self.config.items() if key not in WHERE}
        what = {"config": config, "space": self.space, "sampler": self.sampler, "prune": self.prune}
        return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]

    def save(self, folder: Path) -> None:
        """Write ``search.json``; without ``storage``, which may hold a password."""
        write_json(folder / SEARCH, {**asdict(self), "storage": None})

    @classmethod
    def load(cls, folder: Path, storage: str | None = None) -> "Search":
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


def plan_search(
    config: dict[str, Any], space: dict[str, Any], folder: Path, sampler: str | None = None, trials: int | None = None,
    prune: bool = True, study: str | None = None, storage: str | None = None,
) -> Search:  # fmt: skip
    """A search, checked: the space fits the model and every value can be used, before anything is run.

    Raises:
        UserError: what is wrong and the remedy.
    """
    parsed = parse_space(space)
    parsed = Space(parsed.dimensions, parsed.fixed, parsed.conditions, sampler or parsed.sampler)
    given = load_config(config_dict=config).given
    seed = given["seed"]
    _check_values(config, parsed, seed)
    chosen = parsed.sampler or "tpe"
    if chosen == "grid":
        size = len(parsed.grid(np.random.default_rng(seed)))
        trials = min(trials or size, size)
    name = study or run_name(given)
    saved = folder / SEARCH
    place = Search.load(folder).place if saved.is_file() else uuid4().hex
    where = (storage or default_storage(folder)).replace("postgresql://", "postgresql+psycopg://")
    return Search(plain(config), plain(space), chosen, trials or TRIALS, prune, name, where, place)


def _check_values(config: dict[str, Any], space: Space, seed: int) -> None:
    base = space.point(space.draw(np.random.default_rng(seed)))
    load_config(config_dict={**config, **base})  # unknown keys
    for key, dimension in space.dimensions.items():
        labels = getattr(dimension, "labels", [])
        for label in {labels[0], labels[-1]} if isinstance(labels, range) else labels:
            point = {**base, **{key: space.point({key: label})[key]}}
            if not space.violated(point):
                load_config(config_dict={**config, **point})


class Study:
    """The study of a search in its database, with the queue on top of Optuna."""

    def __init__(self, search: Search, folder: Path):
        self.search, self.folder = search, folder
        self.space = parse_space(search.space)
        config = load_config(config_dict=search.config)
        self.config = config.given
        self.metric, self.bigger = config["valid_metric"].lower(), config["valid_metric_bigger"]
        self.seed = config["seed"]
        sqlite = search.storage.startswith("sqlite")
        self._storage = optuna.storages.RDBStorage(
            search.storage, engine_kwargs={"connect_args": {"timeout": BUSY_S}} if sqlite else {},
            heartbeat_interval=HEARTBEAT_S, grace_period=GRACE_S,
        )  # fmt: skip
        self._claiming: AbstractContextManager = FileLock(folder / CLAIM) if sqlite else nullcontext()  # no row locks
        pruner = optuna.pruners.MedianPruner(STARTUP_TRIALS, WARMUP_EPOCHS) if search.prune else (
            optuna.pruners.NopPruner())  # fmt: skip
        self.optuna = optuna.create_study(
            study_name=search.study, storage=self._storage, load_if_exists=True, pruner=pruner,
            direction="maximize" if self.bigger else "minimize",
        )  # fmt: skip
        self._study_id = self._storage.get_study_id_from_name(search.study)

    def counted(self) -> dict[int, FrozenTrial]:
        """Index to its one trial: of the last attempt the first."""
        found: dict[int, FrozenTrial] = {}
        for trial in self.optuna.get_trials(deepcopy=False):
            index, attempt = _turn(trial)
            if index not in found or attempt > _turn(found[index])[1]:
                found[index] = trial
        return dict(sorted(found.items()))

    def best(self) -> FrozenTrial | None:
        """The finished trial with the best validation score; the earlier of two equal ones."""
        done = [trial for trial in self.counted().values() if trial.state == TrialState.COMPLETE]
        return max(done, key=lambda trial: trial.value if self.bigger else -trial.value, default=None)

    def is_over(self) -> bool:
        """Whether no trial waits or is at work."""
        return not any(trial.state in QUEUED for trial in self.counted().values())

    def fill(self) -> None:
        """Put into the queue what is missing of the wanted trials.

        Raises:
            OptionError: the study in the database is of another search.
        """
        search = self.search
        if self.optuna.user_attrs.get("fingerprint", search.fingerprint) != search.fingerprint:
            raise OptionError(
                f"study {search.study!r} was made with another space or other keys; give the same, or name another "
                "--study or --output_dir"
            )
        self.optuna.set_user_attr("fingerprint", search.fingerprint)
        there = self.counted()
        for index, labels in enumerate(self._points()):
            if index not in there:
                self._enqueue(index, labels)

    def _points(self) -> Iterator[dict[str, Any]]:
        """Labels of each index; a sampler begins with the model's defaults, so that its best is not worse."""
        rng = np.random.default_rng(self.seed)
        if self.search.sampler == "grid":
            yield from self.space.grid(rng)[: self.search.trials]
            return
        drawn = self.search.sampler == "random"
        defaults = {**(self.space.draw(rng) if drawn else {}), **self.space.labels_of(self.config)}
        yield {} if self.space.violated(self.space.point(defaults)) else defaults
        for _ in range(self.search.trials - 1):
            yield self.space.draw(rng) if drawn else {}

    def put_back(self, dead: Callable[[FrozenTrial], bool], lost: bool = True) -> None:
        """Queue again the running trials that nobody works on any more; ``lost``: see ``retry``."""
        for trial in self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if dead(trial):
                self.retry(trial, lost)

    def put_back_stale(self) -> None:
        """Queue again the trials of workers without a sign of life, on whatever machine."""
        optuna.storages.fail_stale_trials(self.optuna)
        for trial in self.counted().values():
            if trial.state == TrialState.FAIL and "error" not in trial.user_attrs:
                self.retry(trial)

    def retry(self, trial: FrozenTrial, lost: bool = True, elsewhere: bool = False) -> None:
        """Queue the trial again, unless it has taken too many workers down; then it has failed.

        Args:
            lost: whether its worker died.
            elsewhere: at another point, where the sampler may choose one; else at its own.
        """
        index, attempt = _turn(trial)
        losses = trial.user_attrs.get("losses", 0) + lost
        labels = trial.system_attrs["fixed_params"] | ({} if elsewhere else trial.params)
        if losses < LOSSES:  # first this: a death between the two lines repeats it, which claim() notices
            self._enqueue(index, labels, attempt + 1, losses)
        if not trial.state.is_finished():
            self.optuna.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    def claim(self) -> optuna.Trial | None:
        """A waiting trial that is now ours, or None if none waits."""
        with self._claiming:
            for frozen in self.optuna.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
                if not self._start(frozen):
                    continue
                self._storage.record_heartbeat(self._id(frozen.number))
                if self._repeats(frozen):
                    self.optuna.tell(frozen.number, state=TrialState.FAIL)
                    continue
                seed = self.seed + frozen.number
                self.optuna.sampler = optuna.samplers.TPESampler(seed=seed, constant_liar=True)
                trial = optuna.Trial(self.optuna, self._id(frozen.number))
                trial.set_user_attr("worker", f"{self.search.place}:{os.getpid()}")
                return trial
        return None

    @contextmanager
    def alive(self, number: int) -> Iterator[None]:
        """Inside, the database hears regularly that a trial is being worked on."""
        over = Event()

        def beat() -> None:
            while not over.wait(HEARTBEAT_S):
                self._storage.record_heartbeat(self._id(number))

        self._storage.record_heartbeat(self._id(number))
        thread = Thread(target=beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)

    def _start(self, trial: FrozenTrial) -> bool:
        """Whether it was us who took it."""
        try:
            return self._storage.set_trial_state_values(self._id(trial.number), TrialState.RUNNING)
        except optuna.exceptions.UpdateFinishedTrialError:
            return False

    def _repeats(self, trial: FrozenTrial) -> bool:
        """Whether an earlier trial has the same index and attempt: two machines filled the queue at one time."""
        others = self.optuna.get_trials(deepcopy=False)
        return any(_turn(other) == _turn(trial) and other.number < trial.number for other in others)

    def _enqueue(self, index: int, labels: dict[str, Any], attempt: int = 0, losses: int = 0) -> None:
        self.optuna.enqueue_trial(labels, user_attrs={"index": index, "attempt": attempt, "losses": losses})


def _turn(trial: FrozenTrial) -> tuple[int, int]:
    return trial.user_attrs["index"], trial.user_attrs["attempt"]
