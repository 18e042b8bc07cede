"""The study of a search: its trials as Optuna sees them, made of what their runs have left on disk.

A trial is the run in ``trials/<number>/``, and its record is all that is kept of it. After a kill the study is made of
the records again, and the sampler goes on from there.
"""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from recbole_dgrm.benchmarks.worker import Job
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.records import CHECKPOINT, EVENTS, RunDirectory, put_aside, read_run
from recbole_dgrm.runs.trial import Trial, read_trial
from recbole_dgrm.system.files import make_folder, writing
from recbole_dgrm.system.processes import EXIT_S, alone_in
from recbole_dgrm.tuning.plan import TRIALS, SearchPlan, sampler
from recbole_dgrm.tuning.space import parse_space

WARMUP_EPOCHS, STARTUP_TRIALS = 10, 5  # no trial ends early before so many epochs, and so many finished trials
STATES = {
    "validated": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    **dict.fromkeys(("running", "interrupted"), TrialState.RUNNING),
}  # by the status of the run; every other is a failure


class Study:
    """The trials of a search.

    Attributes:
        metric, bigger: what trials are compared by, and whether more is better.
    """

    def __init__(self, search: SearchPlan, folder: Path):
        self.search, self.folder = search, folder
        self.space = parse_space(search.space)
        config = load_config(config_dict=search.config)
        self.config, self.seed = config.given, config["seed"]
        self.metric, self.bigger = config["valid_metric"].lower(), config["valid_metric_bigger"]
        self._trials = {
            int(path.name): self._read(path)
            for path in (folder / TRIALS).glob("*")
            if path.name.isdecimal() and read_trial(path) and self._is_ours(path)
        }

    def counted(self) -> dict[int, FrozenTrial]:
        """The trials by their numbers."""
        return dict(sorted(self._trials.items()))

    @property
    def optuna(self) -> optuna.Study:
        """A study of Optuna with these trials, in memory; trials that are missing before others are left out."""
        made = optuna.create_study(direction="maximize" if self.bigger else "minimize")
        made.add_trials(self.counted().values())
        return made

    def best(self) -> FrozenTrial | None:
        """The finished trial with the best validation score; the earlier of two equal ones."""
        done = [trial for trial in self.counted().values() if trial.state == TrialState.COMPLETE]
        return max(done, key=self.goodness, default=None)

    def goodness(self, trial: FrozenTrial) -> float:
        """The score of a finished trial; more is better."""
        score = trial.value or 0.0
        return score if self.bigger else -score

    def waiting(self) -> list[int]:
        """The numbers of the trials that are still to be made or continued; those that have been begun come first."""
        begun = [number for number, trial in self.counted().items() if trial.state == TrialState.RUNNING]
        return begun + [number for number in range(self.search.trials) if number not in self._trials]

    def is_over(self) -> bool:
        """Whether all trials have come to their end."""
        return not self.waiting()

    def job(self, number: int, threads: int) -> Job:
        """The run of a trial; a new trial gets its point now, and the medians that it is compared with."""
        path = self._path(number)
        if (trial := read_trial(path) if number in self._trials else None) is None:
            trial = Trial(self._ask(number), self._medians())
            make_folder(path)
            trial.save(path)
            self._trials[number] = self._read(path)
        return Job(f"trial {number}", self._given(trial), str(path), threads, trial=trial)

    def settle(self, number: int) -> FrozenTrial:
        """Read how a trial has ended, and remove what only its continuation would need."""
        path = self._path(number)
        self._trials[number] = trial = self._read(path)
        if trial.state.is_finished():
            with writing(path):
                (path / CHECKPOINT).unlink(missing_ok=True)
            shutil.rmtree(path / EVENTS, ignore_errors=True)
        return trial

    def _path(self, number: int) -> Path:
        return self.folder / TRIALS / str(number)

    def _given(self, trial: Trial) -> dict[str, Any]:
        return load_config(config_dict={**self.search.config, **self.space.point(trial.labels)}).given

    def _is_ours(self, path: Path) -> bool:
        """Whether the run in ``path`` is the trial that it says; one of another identity is put aside."""
        run, trial = read_run(path), read_trial(path)
        if run is None or trial is None:
            return trial is not None
        if reason := replace(self.search.identity, config=run.identity.config).difference(run.identity):
            with alone_in(path, "process", "wait for its end", EXIT_S):
                put_aside(path, self.folder, f"{TRIALS}/{path.name}", reason)
        return not reason

    def _read(self, path: Path) -> FrozenTrial:
        """The trial in ``path`` as Optuna has it."""
        trial, run = read_trial(path), read_run(path)
        assert trial
        lines = run.epochs() if run else []
        score = f"valid_{self.metric}"
        found = create_trial(
            state=STATES.get(run.record["status"], TrialState.FAIL) if run else TrialState.RUNNING,
            value=run.record["valid"].get(self.metric) if run else None,
            params=dict(trial.labels),
            distributions=dict(self.space.distributions),
            user_attrs=_described(run, lines) if run else {},
            intermediate_values={line["epoch"]: line[score] for line in lines if line.get(score) is not None},
        )
        found.number = int(path.name)
        return found

    def _ask(self, number: int) -> dict[str, Any]:
        """The labels of a new trial; a sampler begins with the model's defaults, so that its best is not worse."""
        if self.search.sampler == "grid":
            return self.space.grid(np.random.default_rng(self.seed))[number]
        study, start = self.optuna, {} if number else self.space.labels_of(self.config)
        study.sampler = sampler(self.search.sampler, self.seed + number)
        return self.space.sample(study, start if self.space.is_valid(self.space.point(start)) else {})

    def _medians(self) -> dict[int, float]:
        """For each epoch the median score that finished trials had there; empty where none is to be ended early."""
        done = [trial for trial in self._trials.values() if trial.state == TrialState.COMPLETE]
        if not self.search.prune or len(done) < STARTUP_TRIALS:
            return {}
        scores: dict[int, list[float]] = {}
        for epoch, score in (pair for trial in done for pair in trial.intermediate_values.items()):
            scores.setdefault(epoch, []).append(score)
        return {epoch: float(np.median(found)) for epoch, found in scores.items() if epoch >= WARMUP_EPOCHS}


def _described(run: RunDirectory, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """What the table of trials has of a run beside its score."""
    record, best, config = run.record, run.record["timing"].get("best_epoch"), run.record["config"]
    found = {"seconds": round(sum(line["seconds"] for line in lines), 3)}
    if record["error"]:
        return found | {"error": record["error"], "traceback": record["traceback"]}
    before_last = config["epochs"] - config["eval_step"]  # 0 or less where there is one validation, at the end
    still = 0 < before_last < (best or 0)
    return found | {"metrics": record["valid"], "best_epoch": best, "still_improving": still}
