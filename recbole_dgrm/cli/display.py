"""Output on the terminal: tables, and the progress of a benchmark or a search."""

from collections.abc import Iterable
from datetime import timedelta
from typing import TYPE_CHECKING

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from recbole_dgrm.benchmarks.plan import PlannedRun
from recbole_dgrm.benchmarks.progress import State
from recbole_dgrm.evaluation.collapse import of_record
from recbole_dgrm.evaluation.metric_names import metric_label
from recbole_dgrm.records import RunDirectory
from recbole_dgrm.reports import comparable
from recbole_dgrm.reports.run_table import number
from recbole_dgrm.system.texts import printable

if TYPE_CHECKING:  # optuna loads slowly
    from optuna.trial import FrozenTrial

    from recbole_dgrm.tuning.study import Search


def text(words: str, style: str = "") -> Text:
    """A text from outside, made safe to print."""
    return Text(printable(words), style)


def frame_table(frame: pd.DataFrame, title: str) -> Table:
    """A DataFrame as a table for the terminal: numbers with four digits, empty cells for NaN."""
    table = Table(title=text(title), title_justify="left")
    for name in frame:
        table.add_column(text(str(name)), justify="right" if pd.api.types.is_numeric_dtype(frame[name]) else "left")
    for row in frame.itertuples(index=False):
        cells = [number(None if pd.isna(cell) else cell) if isinstance(cell, float) else str(cell) for cell in row]
        table.add_row(*map(text, cells))
    return table


def plan_table(runs: Iterable[PlannedRun], finished: set[PlannedRun]) -> Table:
    """The plan of a benchmark: a line per data set, protocol and model, with the number of finished runs."""
    names = ["data set", "protocol", "model"]
    frame = pd.DataFrame([(*run.line, str(run.config["seed"]), run in finished) for run in runs])
    lines = frame.set_axis([*names, "seeds", "done"], axis=1).groupby(names, sort=False)
    done = {"seeds": ", ".join, "done": lambda done: f"{done.sum()}/{len(done)}"}
    return frame_table(lines.agg(done).reset_index(), "plan")


class Board(Progress):
    """The progress of a benchmark or a search: a line for each run or trial that ends, and a bar on a terminal."""

    def __init__(self, console: Console):
        columns = BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
        super().__init__(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._bar = self.add_task("")
        self._shown: set[int] | None = None  # the trials that had ended before the last call

    def show(self, state: State) -> None:
        """Show the state of a benchmark; called by it."""
        ended, left = len(state.runs) - state.count("waiting", "running"), state.left_s
        if state.just:
            self._print(_run_line(f"[{ended}/{len(state.runs)}]", *state.just))
        words = f"{ended} of {len(state.runs)} runs done" + ("" if left is None else f", about {duration(left)} left")
        running = [_name(run) for run, status in state.runs.items() if status == "running"]
        self._advance(ended, len(state.runs), " · ".join([words, *running]))

    def show_search(self, search: "Search") -> None:
        """Show the state of a search; called by it."""
        trials, total, best = search.by_number, search.plan.trials, next(iter(search.finished()), None)
        ended = {number for number, trial in trials.items() if trial.state.is_finished()}
        words = f"best {best.value:.4f}, trial {best.number}" if best else "none finished yet"
        for each in sorted(ended - (ended if self._shown is None else self._shown)):
            self._print(text(f"[{len(ended)}/{total}] {_trial_line(trials[each], search.metric)} ({words})"))
        self._shown = ended
        self._advance(len(ended), total, f"{len(ended)} of {total} trials done · {words}")

    def _print(self, line: Text) -> None:
        self.console.print(line, highlight=False, soft_wrap=True)

    def _advance(self, done: int, total: int, words: str) -> None:
        self.update(self._bar, total=total, completed=done, description=printable(words))


def _name(run: PlannedRun) -> str:
    dataset, protocol, label = run.line
    return f"{label} on {dataset}, {protocol}, seed {run.config['seed']}"


def _run_line(place: str, run: PlannedRun, saved: RunDirectory, seconds: float) -> Text:
    """A line about a run that has ended."""
    record, line = saved.record, text(f"{place} {_name(run)}: ")
    if not saved.finished:
        return line.append(printable(f"{record['status']}: {record['error']}"), style="red")
    metric = comparable.selected_by(record)
    value = number(record["test"].get(metric)) or "no number"
    line.append(f"{metric_label(metric)} {value} in {duration(seconds)}")
    verdict = of_record(record)
    notes = comparable.worse_than_bias(record), verdict and f"collapse: {verdict.line}", record["error"]
    return line.append("".join(f"; {printable(note)}" for note in notes if note))


def _trial_line(trial: "FrozenTrial", metric: str) -> str:
    seconds = duration(trial.user_attrs["seconds"])
    if trial.state.name == "COMPLETE":
        return f"trial {trial.number}: {metric_label(metric)} {trial.value:.4f} in {seconds}"
    if trial.state.name == "PRUNED":
        return f"trial {trial.number}: ended early after {seconds}, below the median of the others"
    return f"trial {trial.number} failed: {trial.user_attrs['error']}"


def duration(seconds: float) -> str:
    """Seconds as text: ``9.7 s`` for 9.7, ``0:01:15`` for 75.2."""
    return f"{seconds:.1f} s" if seconds < 60 else str(timedelta(seconds=round(seconds)))
