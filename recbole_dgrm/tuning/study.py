"""The study of a search: a queue of trials in a database, worked off by any number of processes.

Every trial is put into the database before it is run and carries its ``index``: a point of the grid, a
random point, or an empty one that the sampler fills. Workers claim waiting trials, which the database
hands out one by one. A trial whose worker dies is put back with the next ``attempt``; of two trials with
one index and attempt only the first counts. So nothing is lost and nothing is run twice, whoever is killed.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from threading import Event, Thread
from time import sleep
from typing import Any

import numpy as np
import optuna
from filelock import FileLock
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import SQLAlchemyError

from recbole_dgrm.config.layers import load_config
from recbole_dgrm.errors import OptionError
from recbole_dgrm.tuning.plan import SearchPlan
from recbole_dgrm.tuning.space_file import parse_space

CLAIM = ".claim"
HEARTBEAT_S, SILENCE_S = 10, 60  # a worker that is not heard of for so long is dead
BUSY_S = 60  # that a worker waits for the SQLite file while others write
PAUSES_S = (0.5, 1, 2)  # before a database whose tables are being made is opened again
MADE_MEANWHILE = ("already exists", "duplicate key")  # what SQLite and PostgreSQL say of such tables
LOSSES = 3  # workers that a trial may take down before it is given up
WARMUP_EPOCHS, STARTUP_TRIALS = 10, 5  # of the median pruner
QUEUED = (TrialState.WAITING, TrialState.RUNNING)
optuna.logging.set_verbosity(optuna.logging.WARNING)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # heartbeats are, since 2021


def _opened(storage: str, engine: dict[str, Any]) -> optuna.storages.RDBStorage:
    """The database, with its tables; of processes that all begin with an empty one, one makes them.

    The others may see a table come into being between the look for it and its making, an error; they try again.
    """
    open_it = partial(
        optuna.storages.RDBStorage, storage, engine, heartbeat_interval=HEARTBEAT_S, grace_period=SILENCE_S
    )
    for pause in PAUSES_S:
        try:
            return open_it()
        except SQLAlchemyError as error:
            if not any(text in str(error) for text in MADE_MEANWHILE):
                raise
            sleep(pause)
    return open_it()


class Study:
    """The study of a search in its database: a queue of trials on top of Optuna."""

    def __init__(self, search: SearchPlan, folder: Path):
        self.search, self.folder = search, folder
        self.space = parse_space(search.space)
        config = load_config(config_dict=search.config)
        self.config = config.given
        self.metric, self.bigger = config["valid_metric"].lower(), config["valid_metric_bigger"]
        self.seed = config["seed"]
        sqlite = search.storage.startswith("sqlite")
        self._storage = _opened(search.storage, {"connect_args": {"timeout": BUSY_S}} if sqlite else {})
        self._claiming: AbstractContextManager = FileLock(folder / CLAIM) if sqlite else nullcontext()  # no row locks
        pruners = optuna.pruners
        self.optuna = optuna.create_study(
            study_name=search.study,
            storage=self._storage,
            load_if_exists=True,
            pruner=pruners.MedianPruner(STARTUP_TRIALS, WARMUP_EPOCHS) if search.prune else pruners.NopPruner(),
            direction="maximize" if self.bigger else "minimize",
        )
        self._study_id = self._storage.get_study_id_from_name(search.study)
        try:
            self.optuna.get_trials(deepcopy=False)
        except (ValueError, LookupError, TypeError) as error:  # of Optuna, about what tables hold as JSON and by name
            raise optuna.exceptions.StorageInternalError(str(error)) from error

    def counted(self) -> dict[int, FrozenTrial]:
        """The trial that counts for each index: the first one of the last attempt."""
        found: dict[int, FrozenTrial] = {}
        for trial in self.optuna.get_trials(deepcopy=False):
            index, attempt = _turn(trial)
            if index not in found or attempt > _turn(found[index])[1]:
                found[index] = trial
        return dict(sorted(found.items()))

    def best(self) -> FrozenTrial | None:
        """The finished trial with the best validation score; the earlier of two equal ones."""
        done = [trial for trial in self.counted().values() if trial.state == TrialState.COMPLETE]
        return max(done, key=self.goodness, default=None)

    def goodness(self, trial: FrozenTrial) -> float:
        """The score of a finished trial; more is better."""
        score = trial.value or 0.0
        return score if self.bigger else -score

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
        """The labels of each trial; a sampler begins with the model's defaults, so that its best is not worse."""
        rng = np.random.default_rng(self.seed)
        if self.search.sampler == "grid":
            yield from self.space.grid(rng)[: self.search.trials]
            return
        drawn = self.search.sampler == "random"
        defaults = {**(self.space.draw(rng) if drawn else {}), **self.space.labels_of(self.config)}
        yield {} if self.space.violated(self.space.point(defaults)) else defaults
        for _ in range(self.search.trials - 1):
            yield self.space.draw(rng) if drawn else {}

    def running(self) -> list[FrozenTrial]:
        """The trials that a worker has claimed and not ended, whether it is alive or dead."""
        return self.optuna.get_trials(deepcopy=False, states=(TrialState.RUNNING,))

    def requeue(self, trial: FrozenTrial) -> None:
        """Queue a trial again, at its own point; it is not to blame for its end."""
        self._replace(trial, trial.params, trial.user_attrs.get("losses", 0))

    def requeue_elsewhere(self, trial: FrozenTrial) -> None:
        """Queue a trial again, at another point if the sampler chose the point; it is not to blame for its end."""
        self._replace(trial, {}, trial.user_attrs.get("losses", 0))

    def requeue_lost(self, trial: FrozenTrial) -> None:
        """Queue a trial again whose worker died, at its own point; after several such deaths it has failed."""
        self._replace(trial, trial.params, trial.user_attrs.get("losses", 0) + 1)

    def requeue_silent(self) -> None:
        """Queue again the trials of workers that are not heard of any more, on whatever machine."""
        optuna.storages.fail_stale_trials(self.optuna)
        for trial in self.counted().values():
            if trial.state == TrialState.FAIL and "error" not in trial.user_attrs:
                self.requeue_lost(trial)

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
        """Within the block, the database hears regularly that a trial is being worked on."""
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
        """Take a waiting trial; False if another worker was faster."""
        try:
            return self._storage.set_trial_state_values(self._id(trial.number), TrialState.RUNNING)
        except optuna.exceptions.UpdateFinishedTrialError:
            return False

    def _repeats(self, trial: FrozenTrial) -> bool:
        """Whether an earlier trial has the same index and attempt: two machines filled the queue at one time."""
        others = self.optuna.get_trials(deepcopy=False)
        return any(_turn(other) == _turn(trial) and other.number < trial.number for other in others)

    def _replace(self, trial: FrozenTrial, labels: dict[str, Any], losses: int) -> None:
        """End the trial and put the next attempt into the queue, at ``labels`` or what was given before it began."""
        index, attempt = _turn(trial)
        if losses < LOSSES:  # first this: a death between the two lines repeats it, which claim() notices
            self._enqueue(index, trial.system_attrs["fixed_params"] | labels, attempt + 1, losses)
        if not trial.state.is_finished():
            self.optuna.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)

    def _enqueue(self, index: int, labels: dict[str, Any], attempt: int = 0, losses: int = 0) -> None:
        self.optuna.enqueue_trial(labels, user_attrs={"index": index, "attempt": attempt, "losses": losses})


def worker_of(trial: FrozenTrial) -> str:
    """The place of the search and the process that claimed the trial, as ``place:pid``."""
    return trial.user_attrs.get("worker", "")


def _turn(trial: FrozenTrial) -> tuple[int, int]:
    return trial.user_attrs["index"], trial.user_attrs["attempt"]
