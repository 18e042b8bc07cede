"""The progress of a search on the terminal."""

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from recbole_dgrm.cli.display import duration, text
from recbole_dgrm.evaluation.metric_names import metric_label
from recbole_dgrm.tuning.study import QUEUED, Study


class SearchBoard(Progress):
    """Progress of a search: a line for each trial that ends, and below what is done and the best so far."""

    _told: set[int] | None = None

    def __init__(self, console: Console):
        columns = BarColumn(40), TextColumn("{task.description}", markup=False)
        super().__init__(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._trials = self.add_task("")

    def show(self, study: Study) -> None:
        """Called by the search."""
        trials = study.counted()
        over = {index for index, trial in trials.items() if trial.state not in QUEUED}
        best = study.best()
        best_text = f"best {best.value:.4f}, trial {best.number}" if best else "none finished yet"
        if self._told is None and over:
            self.console.print(f"{len(over)} of {len(trials)} trials are done; {best_text}", highlight=False)
        told = over if self._told is None else self._told
        for place, index in enumerate(sorted(over - told), start=len(told) + 1):
            line = f"[{place}/{len(trials)}] {_trial_line(trials[index], study.metric)} ({best_text})"
            self.console.print(text(line), highlight=False, soft_wrap=True)
        self._told = over
        working = sum(trial.state == TrialState.RUNNING for trial in trials.values())
        words = f"{len(over)} of {len(trials)} trials done, {working} at work · {best_text}"
        self.update(self._trials, total=len(trials), completed=len(over), description=words)


def _trial_line(trial: FrozenTrial, metric: str) -> str:
    seconds = duration(trial.duration.total_seconds()) if trial.duration else ""
    if trial.state == TrialState.COMPLETE:
        return f"trial {trial.number}: {metric_label(metric)} {trial.value:.4f} in {seconds}"
    if trial.state == TrialState.PRUNED:
        return f"trial {trial.number}: pruned after {seconds}"
    return f"trial {trial.number} failed: {trial.user_attrs.get('error', 'its workers died')}"
