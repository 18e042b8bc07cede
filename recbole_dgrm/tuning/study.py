"""A search and its trials in Optuna's form, which are read from the files of their runs.

A trial is the run in ``trials/<number>/``, and nothing else is stored about it. After a kill the Optuna study is made
again from these files, and the sampler continues from there.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from recbole_dgrm.benchmarks.executors import Job
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.evaluation.metric_names import STILL, metric_label
from recbole_dgrm.identity import put_aside_unless
from recbole_dgrm.records import CHECKPOINT, EVENTS, UNFINISHED, RunDirectory, read_run
from recbole_dgrm.reports.comparable import still_improving
from recbole_dgrm.reports.table_repr import TableRepr
from recbole_dgrm.runs.trial import Trial, read_trial
from recbole_dgrm.system.files import writing
from recbole_dgrm.tuning.plan import SearchPlan
from recbole_dgrm.tuning.space import parse_space

TRIALS = "trials"  # the folder of the trials in the folder of a search
WARMUP_EPOCHS, STARTUP_TRIALS = 10, 5  # no trial is pruned before so many epochs and so many finished trials
SHOWN = 10  # trials in the table, at most


class Search(TableRepr):
    """A search and its trials so far; ``print`` and notebooks show its best trials.

    Attributes:
        plan: the plan of the search.
        config: the keys of all trials, with ``model``, ``dataset``, ``protocol`` and ``seed``.
        path: its folder, with ``best.yaml``, ``trials.csv`` and ``report.html`` when they have been written.
        metric, bigger: the metric by which trials are compared, and whether larger values are better.
        by_number: number to Optuna trial, in the order of the numbers.
    """

    def __init__(self, plan: SearchPlan, path: Path):
        self.plan, self.config, self.path, self.space = plan, plan.config, path, parse_space(plan.space)
        config = load_config(config_dict=plan.config)
        self.metric, self.bigger = config["valid_metric"].lower(), config["valid_metric_bigger"]
        self._defaults, self._seed = config.given, config["seed"]
        self._asked: dict[int, Trial] = {}
        self.by_number: dict[int, FrozenTrial] = {}
        for folder in (path / TRIALS).glob("*"):
            if folder.name.isdecimal() and (trial := read_trial(folder)):
                run = read_run(folder)
                if not (run and put_aside_unless(folder, run.identity, path, [plan.identity])):
                    self._asked[int(folder.name)] = trial
                    self.settle(int(folder.name), run)

    @property
    def best(self) -> dict[str, Any] | None:
        """The keys of the best trial; None if no trial has finished."""
        finished = self.finished()
        return self.space.point(finished[0].params) if finished else None

    @property
    def trials(self) -> pd.DataFrame:
        """The content of ``trials.csv``, a row per trial: its state, score, keys, metrics and seconds."""
        return self._study().trials_dataframe(attrs=("number", "state", "value", "params", "user_attrs"))

    def shown(self) -> pd.DataFrame:
        """The best finished trials with their scores and keys."""
        best = self.finished()[:SHOWN]
        frame = pd.DataFrame([trial.params for trial in best], [f"trial {trial.number}" for trial in best])
        frame.insert(0, f"validation {metric_label(self.metric)}", [trial.value for trial in best])
        still = [f", {STILL}" if trial.user_attrs.get("still_improving") else "" for trial in best]
        epochs = [trial.user_attrs.get("best_epoch") for trial in best]
        return frame.assign(epoch=[f"{epoch}{remark}" for epoch, remark in zip(epochs, still, strict=True)])

    def counts(self) -> str:
        """The numbers of finished trials and of all so far."""
        return f"{len(self.finished())} finished trials of {len(self.by_number)}"

    def finished(self) -> list[FrozenTrial]:
        """The trials with a score, the best first; equal scores are in the order of the numbers."""
        finished = [trial for trial in self.by_number.values() if trial.state == TrialState.COMPLETE]
        return sorted(finished, key=lambda trial: trial.value or 0.0, reverse=self.bigger)

    def waiting(self) -> list[int]:
        """The numbers of the trials that are to be made or continued; those to be continued come first."""
        begun = [number for number, trial in self.by_number.items() if trial.state == TrialState.RUNNING]
        return begun + [number for number in range(self.plan.trials) if number not in self.by_number]

    def folder(self, number: int) -> Path:
        """The folder of a trial."""
        return self.path / TRIALS / str(number)

    def job(self, number: int, threads: int) -> Job:
        """The job of a trial; the point of a new trial is sampled now."""
        if number not in self._asked:
            self._asked[number] = Trial(self._ask(number), self._medians())
            self.settle(number, None)
        trial = self._asked[number]
        config = load_config(config_dict={**self.config, **self.space.point(trial.labels)}).given
        return Job(f"trial {number}", config, threads, trial=trial)

    def settle(self, number: int, run: RunDirectory | None) -> None:
        """Record the state of a trial; if it has ended, its checkpoint and events are removed."""
        lines, score = run.epochs() if run else [], f"valid_{self.metric}"
        status = run.record["status"] if run else UNFINISHED[0]
        ended = {"validated": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(status, TrialState.FAIL)
        trial = create_trial(
            state=TrialState.RUNNING if status in UNFINISHED else ended,
            value=run.record["valid"].get(self.metric) if run else None,
            params=dict(self._asked[number].labels),
            distributions=dict(self.space.distributions),
            user_attrs=_described(run, lines) if run else {},
            intermediate_values={line["epoch"]: line[score] for line in lines if line.get(score) is not None},
        )
        trial.number = number
        self.by_number = dict(sorted({**self.by_number, number: trial}.items()))
        if trial.state.is_finished():
            with writing(self.folder(number)):
                (self.folder(number) / CHECKPOINT).unlink(missing_ok=True)
            shutil.rmtree(self.folder(number) / EVENTS, ignore_errors=True)

    def _study(self) -> optuna.Study:
        """A study in memory with these trials; Optuna renumbers them if a number is missing."""
        study = optuna.create_study(direction="maximize" if self.bigger else "minimize")
        study.add_trials(self.by_number.values())
        return study

    def _ask(self, number: int) -> dict[str, Any]:
        """The labels of a new trial; the first one has the model's defaults, so that the best is not worse."""
        if self.plan.sampler == "grid":
            return self.space.grid(np.random.default_rng(self._seed))[number]
        study, seed = self._study(), self._seed + number
        tpe = self.plan.sampler == "tpe"
        study.sampler = TPESampler(seed=seed, constant_liar=True) if tpe else RandomSampler(seed)
        start = {} if number else self.space.labels_of(self._defaults)
        return self.space.sample(study, start if self.space.is_valid(self.space.point(start)) else {})

    def _medians(self) -> dict[int, float]:
        """Epoch to the median score of the finished trials; empty if no trial is to be pruned."""
        finished = self.finished()
        if not self.plan.prune or len(finished) < STARTUP_TRIALS:
            return {}
        scores = pd.DataFrame([trial.intermediate_values for trial in finished])
        return {int(epoch): float(np.nanmedian(each)) for epoch, each in scores.items() if epoch >= WARMUP_EPOCHS}


def _described(run: RunDirectory, lines: list[dict[str, Any]]) -> dict[str, Any]:
    """The columns of a run in the table of trials, without its score."""
    record, seconds = run.record, round(sum(line["seconds"] for line in lines), 3)
    measured = {"metrics": record["valid"], "best_epoch": record["timing"].get("best_epoch")}
    failure = {key: record[key] for key in ("error", "traceback")}
    return {"seconds": seconds, **measured, "still_improving": still_improving(record), **failure}
