"""The worker processes of a search, which work off the trials of its study.

A trial is worth its best validation score; the test part of the data is never there.
"""

import gc
import logging
import math
import os
import shutil
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from uuid import uuid4

import optuna
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from recbole_dgrm.config.layers import load_config
from recbole_dgrm.errors import OutputError, UserError
from recbole_dgrm.records import config_hash
from recbole_dgrm.runs import experiment
from recbole_dgrm.system import processes
from recbole_dgrm.tuning.plan import SearchPlan, address, default_storage
from recbole_dgrm.tuning.space import Point
from recbole_dgrm.tuning.study import LOSSES, SILENCE_S, Study, worker_of

LOG = logging.getLogger(__name__)
AT_WORK, REFRESH_S = "trials", 1.0
STORAGE = "RECBOLE_DGRM_STORAGE"  # environment variable of the workers
MODULE = "recbole_dgrm.tuning.workers"  # what a worker process runs


def run_search(
    search: SearchPlan,
    folder: Path,
    workers: int = 1,
    threads: int = 1,
    timeout: float | None = None,
    show: Callable[[Study], None] = lambda study: None,
) -> Study:
    """Work until no trial of the study is left, on this machine or on another, or the time is over.

    Args:
        folder: where ``search.json``, the default database and the trials at work lie.
        timeout: seconds; trials at work are put back and go on another time.
        show: called every second or so.

    Raises:
        UserError: another search is at work in ``folder``, or the workers cannot start.
    """
    with processes.alone_in(folder, "search"), database_explained(search.storage):
        search.save(folder)
        study = Study(search, folder)
        _requeue_left(study)
        study.fill()
        _WorkerPool(study, folder, workers, threads).run(timeout, show)
        _requeue_left(study)
        if study.is_over():
            shutil.rmtree(folder / AT_WORK, ignore_errors=True)
    return study


def _requeue_left(study: Study) -> None:
    """Queue the trials again that were at work when their search was ended or killed; none of them is to blame."""
    for trial in study.running():
        if worker_of(trial).startswith(study.search.place):
            study.requeue(trial)


@contextmanager
def database_explained(storage: str) -> Iterator[None]:
    """Within the block, an error of the database becomes one that a user understands.

    Raises:
        UserError: which database cannot be used, why, and the remedy.
    """
    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        reason = next((text for cause in (error, error.__cause__) if (text := getattr(cause, "orig", None))), error)
        name = address(storage).render_as_string(hide_password=True)
        raise UserError(
            f"the database of the search, {name}, cannot be used ({reason}); free some space if its disk is full; if "
            "it is damaged, move it away and the search begins again"
        ) from error


class _WorkerPool:
    """The worker processes of one machine."""

    def __init__(self, study: Study, folder: Path, workers: int, threads: int):
        self.study, self.folder, self.workers, self.threads = study, folder, workers, threads
        self.processes: dict[subprocess.Popen, Path] = {}  # each with the file of its output
        self.deaths = 0  # in a row, without a trial that came to its end

    def run(self, timeout: float | None, show: Callable[[Study], None]) -> None:
        deadline = monotonic() + (timeout or math.inf)
        checked = monotonic()
        try:
            while (begun := monotonic()) < deadline:
                self._reap()
                if monotonic() - checked > SILENCE_S / 2:
                    self.study.requeue_silent()
                    checked = monotonic()
                states = [trial.state for trial in self.study.counted().values()]
                show(self.study)
                if self.study.is_over():
                    return
                for _ in range(min(self.workers - len(self.processes), states.count(TrialState.WAITING))):
                    self._start_worker()
                sleep(max(REFRESH_S, 4 * (monotonic() - begun)))  # a large study takes a while to read
        except KeyboardInterrupt:
            LOG.warning("stopped; the same command goes on from here")
            raise
        finally:
            for process in self.processes:
                processes.close_input(process)  # all at once; then wait for each
            for process, output in self.processes.items():
                processes.end(process)
                output.unlink(missing_ok=True)

    def _start_worker(self) -> None:
        environment = {STORAGE: self.study.search.storage}  # not on the command line: it may hold a password
        output = self.folder / f"worker-{uuid4().hex[:8]}.txt"
        self.processes[processes.spawn(MODULE, [str(self.folder)], output, self.threads, environment)] = output

    def _reap(self) -> None:
        """Take note of the processes that have ended."""
        for process in [process for process in self.processes if process.poll() is not None]:
            output = self.processes.pop(process)
            if process.returncode == 0:
                output.unlink(missing_ok=True)
                self.deaths = 0
                continue
            cause = processes.cause_of_death(process, output)
            LOG.warning("a worker is lost, its trial is put back: %s", cause)
            name = f"{self.study.search.place}:{process.pid}"
            for trial in self.study.running():
                if worker_of(trial) == name:
                    self.study.requeue_lost(trial)
            self.deaths += 1
            if self.deaths > LOSSES * max(self.workers, 2):
                raise UserError(f"the workers cannot work: {cause}")


def work(folder: Path) -> None:
    """Run waiting trials of the search in ``folder`` until none waits."""
    storage = os.environ.get(STORAGE) or default_storage(folder)
    with database_explained(storage):
        study = Study(SearchPlan.load(folder, storage), folder)
        while trial := study.claim():
            point = study.space.suggest(trial)
            if broken := study.space.violated(point):  # only a sampler that fills trials itself does this
                trial.set_user_attr("error", f"no valid point: {broken} is broken; another one takes its place")
                study.requeue_elsewhere(study.optuna.trials[trial.number])
            else:
                _run_trial(study, trial, point, folder / AT_WORK)


def _run_trial(study: Study, trial: optuna.Trial, point: Point, at_work: Path) -> None:
    state, value, run_dir, stopped = TrialState.FAIL, None, None, None
    try:
        config = load_config(config_dict={**study.search.config, **point})
        with _directory(at_work, config_hash(config.given), trial) as run_dir, study.alive(trial.number):
            result = experiment.validate_one(config, run_dir, partial(_report, trial))
        trial.set_user_attr("best_epoch", result.best_epoch)
        before_last = config["epochs"] - config["eval_step"]  # 0 or less where there is one validation, at the end
        trial.set_user_attr("still_improving", 0 < before_last < result.best_epoch)
        trial.set_user_attr("metrics", result.metrics)
        state, value = TrialState.COMPLETE, result.score
    except optuna.TrialPruned:
        state = TrialState.PRUNED
    except (KeyboardInterrupt, OutputError) as error:
        stopped = error.with_traceback(None)
    except Exception as error:
        trial.set_user_attr("error", f"{type(error).__name__}: {error}")
        trial.set_user_attr("traceback", traceback.format_exc())
    if stopped:
        gc.collect()  # the cursor of a query that was interrupted would keep SQLite's file locked
        study.requeue(study.optuna.trials[trial.number])  # its checkpoint stays
        raise stopped
    study.optuna.tell(trial, value, state)
    if run_dir:
        shutil.rmtree(run_dir, ignore_errors=True)


def _report(trial: optuna.Trial, epoch: int, score: float) -> None:
    trial.report(score, epoch)
    if trial.should_prune():
        raise optuna.TrialPruned


@contextmanager
def _directory(at_work: Path, point: str, trial: optuna.Trial) -> Iterator[Path]:
    """The directory of a point, where a checkpoint of it may lie; the trial's own while another worker is in there."""
    with ExitStack() as stack:
        run_dir = at_work / point
        try:
            stack.enter_context(processes.alone_in(run_dir, "trial"))
        except UserError:
            run_dir = at_work / f"{point}-{trial.number}"
        yield run_dir


if __name__ == "__main__":  # python -m recbole_dgrm.tuning.workers FOLDER
    sys.exit(processes.worker_main(lambda folder: work(Path(folder))))
