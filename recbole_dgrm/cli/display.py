"""What is said on the terminal: the table of a run, the plan and the progress of a benchmark."""

from collections import Counter
from collections.abc import Iterable
from typing import Any, Self

import pandas as pd
from optuna.trial import FrozenTrial, TrialState
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from recbole_dgrm.benchmark.plan import PlannedRun
from recbole_dgrm.benchmark.session import State
from recbole_dgrm.evaluation.collapse import of_record
from recbole_dgrm.evaluation.metric_names import BELOW, STILL, metric_label, reference_label
from recbole_dgrm.records import SavedRun
from recbole_dgrm.reports import comparable, document
from recbole_dgrm.system.texts import printable
from recbole_dgrm.tuning.study import QUEUED, Study

PARTS = {"test": "test", "valid": "validation"}


def _text(text: str, style: str = "") -> Text:
    return Text(printable(text), style)


def result_table(record: dict[str, Any], part: str = "test") -> Table:
    """Metrics of a finished record beside its reference rows, and the skill below."""
    keys, below = list(record[part]), comparable.below_bias(record, part)
    place = f"{record['dataset']}, protocol {record['protocol']}, seed {record['seed']}"
    table = Table(title=_text(f"{record['model']} on the {PARTS[part]} part of {place}"), title_justify="left")
    table.add_column("")
    for key in keys:
        table.add_column(metric_label(key), justify="right")
    for name, row in record["reference"].items():
        table.add_row(_text(name), *(_number(row.get(key)) for key in keys), style="dim")
    table.add_section()
    marked = [_number(record[part][key]) + BELOW * (key in below) for key in keys]
    table.add_row(_text(record["model"]), *marked, style="bold")
    table.add_row("skill", *(_number(record["skill"].get(key)) for key in keys))
    if below:
        table.caption, table.caption_justify = f"{BELOW} worse than the row bias", "left"
    return table


def explanation(record: dict[str, Any]) -> str:
    """A few lines that say how to read the table."""
    mode = comparable.tested_by(record["config"])
    bias = reference_label("bias", mode)
    oracle = reference_label("oracle", mode).removeprefix("oracle: ")
    data, timing = record["data"], record["timing"]
    epoch = f"epoch {timing['best_epoch']}"
    if comparable.still_improving(record):
        epoch += f", the last that was allowed: {STILL}, so more epochs (--epochs) may do better"
    lines = [
        f"random: expectation of a random order · bias: {bias} · oracle: {oracle}",
        "skill: (model - random) / (oracle - random), 1 cannot be beaten",
        f"{data['n_train']:,} ratings to train, {data['n_valid']:,} to validate, {data['n_test']:,} to test · "
        f"best of validation: {epoch} · {timing['train_s']:.0f} s of training",
    ]
    if impossible := comparable.above_oracle(record):
        lines.append(f"ERROR of recbole_dgrm: {', '.join(impossible)} above the oracle, which cannot be; please report "
                     "it, and do not use these numbers")  # fmt: skip
    return "\n".join(lines)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def list_table(rows: pd.DataFrame, user: str) -> Table:
    """The recommendation list of one user."""
    table = Table(title=_text(f"user {user}"), title_justify="left")
    for column in rows.columns[1:]:
        table.add_column(column, justify="left" if column == "item" else "right")
    for row in rows.itertuples(index=False):
        table.add_row(*(_text(_number(value) if isinstance(value, float) else str(value)) for value in row[1:]))
    return table


def plan_table(runs: Iterable[PlannedRun], finished: set[PlannedRun]) -> Table:
    """What a benchmark would do: a line per data set, protocol and model."""
    table = Table(title="plan", title_justify="left")
    for name in ("data set", "protocol", "model", "seeds"):
        table.add_column(name)
    table.add_column("done", justify="right")
    lines: dict[tuple, list[PlannedRun]] = {}
    for run in runs:
        lines.setdefault((*run.cell, run.label), []).append(run)
    for key, group in lines.items():
        done = sum(run in finished for run in group)
        table.add_row(*map(_text, key), ", ".join(str(run.config["seed"]) for run in group), f"{done}/{len(group)}")
    return table


class _Display:
    """Lines that stay, and below them a line that changes where there is a terminal."""

    def __init__(self, console: Console):
        self._console = console
        self._live = Live(console=console, transient=True, refresh_per_second=4) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()


class Board(_Display):
    """Progress of a benchmark: a line for each run that ends, and below what runs now, what is done and time left."""

    def __init__(self, console: Console, main_metric: str | None = None):
        super().__init__(console)
        self._metric = main_metric

    def show(self, state: State) -> None:
        """Called by the benchmark."""
        if state.just:
            self._console.print(self._ended(state, *state.just), highlight=False, soft_wrap=True)
        if self._live:
            self._live.update(_overview(state))

    def _ended(self, state: State, run: PlannedRun, saved: SavedRun, seconds: float) -> Text:
        over = len(state.runs) - state.count("waiting", "running")
        text = _text(f"[{over}/{len(state.runs)}] {_name(run)}: ")
        if not saved.finished:
            return text.append(printable(f"{saved.record['status']}: {saved.record['error']}"), style="red")
        text.append(self._result(saved.record, seconds))
        if verdict := of_record(saved.record):
            text.append(printable(f"; collapse: {verdict.line}"), style="dim")
        if saved.record["error"]:
            text.append(printable(f"; {saved.record['error']}"), style="red")
        return text

    def _result(self, record: dict[str, Any], seconds: float) -> str:
        test = record["test"]
        key = self._metric if self._metric in test else record["config"]["valid_metric"].lower()
        said = f"{metric_label(key)} {_number(test.get(key)) or 'no number'} in {duration(seconds)}"
        if key in comparable.below_bias(record):
            said += f", worse than {reference_label('bias', comparable.tested_by(record['config']))}"
        return said + (f", {STILL}" if comparable.still_improving(record) else "")


class SearchBoard(_Display):
    """Progress of a search: a line for each trial that ends, and below what is done and the best so far."""

    _told: set[int] | None = None

    def show(self, study: Study) -> None:
        """Called by the search."""
        trials = study.counted()
        over = {index for index, trial in trials.items() if trial.state not in QUEUED}
        best = study.best()
        best_text = f"best {best.value:.4f}, trial {best.number}" if best else "none finished yet"
        if self._told is None and over:
            self._console.print(f"{len(over)} of {len(trials)} trials are done; {best_text}", highlight=False)
        told = over if self._told is None else self._told
        for place, index in enumerate(sorted(over - told), start=len(told) + 1):
            text = f"[{place}/{len(trials)}] {_trial_line(trials[index], study.metric)} ({best_text})"
            self._console.print(_text(text), highlight=False, soft_wrap=True)
        self._told = over
        if self._live:
            line = Table.grid(padding=(0, 1))
            working = sum(trial.state == TrialState.RUNNING for trial in trials.values())
            words = f"{len(over)} of {len(trials)} trials done, {working} at work · {best_text}"
            line.add_row(ProgressBar(len(trials), len(over), width=40), words)
            self._live.update(line)


def _trial_line(trial: FrozenTrial, metric: str) -> str:
    seconds = duration(trial.duration.total_seconds()) if trial.duration else ""
    if trial.state == TrialState.COMPLETE:
        return f"trial {trial.number}: {metric_label(metric)} {trial.value:.4f} in {seconds}"
    if trial.state == TrialState.PRUNED:
        return f"trial {trial.number}: pruned after {seconds}"
    return f"trial {trial.number} failed: {trial.user_attrs.get('error', 'its workers died')}"


def document_table(table: document.Table, columns: int | None = None) -> Table:
    """A table of a document, for the terminal; the first ``columns`` only where there is little room."""
    styles = {"best": "bold", "second": "underline"}
    shown = Table(title=_text(table.title), title_justify="left", caption=_text(table.note), caption_justify="left")
    for index, name in enumerate(table.columns[:columns]):
        shown.add_column(_text(name), justify="right" if index else "left", overflow="fold")
    for row in table.all_rows():
        shown.add_row(
            *(_text(f"{value.text} {value.mark}".rstrip(), styles.get(value.emphasis, "")) for value in row[:columns])
        )
    return shown


def benchmark_summary(state: State) -> str:
    """One line: how many runs ended how."""
    counts = Counter(state.runs.values())
    return f"{len(state.runs)} runs: " + ", ".join(f"{number} {status}" for status, number in counts.most_common())


def duration(seconds: float) -> str:
    """``75.2`` as ``1:15``, ``4000`` as ``1:06:40``, ``9.7`` as ``9.7 s``."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _overview(state: State) -> Group:
    over = len(state.runs) - state.count("waiting", "running")
    left = "" if state.left_s is None else f" · about {duration(state.left_s)} left"
    line = Table.grid(padding=(0, 1))
    line.add_row(ProgressBar(len(state.runs), over, width=40), f"{over} of {len(state.runs)} runs done{left}")
    running = [_text(f"  {_name(run)}", "dim") for run, status in state.runs.items() if status == "running"]
    return Group(line, *running)


def _name(run: PlannedRun) -> str:
    return f"{run.label} on {run.config['dataset']}, {run.config['protocol']}, seed {run.config['seed']}"
