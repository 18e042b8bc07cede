"""The progress of a search on the terminal."""

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from recbole_dgrm.cli.display import duration, text
from recbole_dgrm.evaluation.metric_names import metric_label
from recbole_dgrm.tuning.study import Search


class SearchBoard(Progress):
    """Progress of a search: a line for each trial that ends, and below what is done and the best so far."""

    _shown: set[int] | None = None

    def __init__(self, console: Console):
        columns = BarColumn(40), TextColumn("{task.description}", markup=False)
        super().__init__(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._trials = self.add_task("")

    def show(self, search: Search) -> None:
        """Called by the search."""
        trials, all_trials = search.by_number, search.plan.trials
        over = {number for number, trial in trials.items() if trial.state.is_finished()}
        best = next(iter(search.finished()), None)
        best_text = f"best {best.value:.4f}, trial {best.number}" if best else "none finished yet"
        if self._shown is None and over:
            self.console.print(f"{len(over)} of {all_trials} trials are done; {best_text}", highlight=False)
        shown = over if self._shown is None else self._shown
        for place, number in enumerate(sorted(over - shown), start=len(shown) + 1):
            line = f"[{place}/{all_trials}] {_trial_line(trials[number], search.metric)} ({best_text})"
            self.console.print(text(line), highlight=False, soft_wrap=True)
        self._shown = over
        words = f"{len(over)} of {all_trials} trials done, {len(trials) - len(over)} at work · {best_text}"
        self.update(self._trials, total=all_trials, completed=len(over), description=words)


def _trial_line(trial: FrozenTrial, metric: str) -> str:
    seconds = duration(trial.user_attrs["seconds"])
    if trial.state == TrialState.COMPLETE:
        return f"trial {trial.number}: {metric_label(metric)} {trial.value:.4f} in {seconds}"
    if trial.state == TrialState.PRUNED:
        return f"trial {trial.number}: ended early after {seconds}, below the median of the others"
    return f"trial {trial.number} failed: {trial.user_attrs['error']}"
