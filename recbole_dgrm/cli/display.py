"""Output on the terminal: lists, tables of documents, the plan and the progress of a benchmark."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, Self

import pandas as pd
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from recbole_dgrm.benchmarks.plan import PlannedRun
from recbole_dgrm.benchmarks.progress import State
from recbole_dgrm.evaluation.collapse import of_record
from recbole_dgrm.evaluation.metric_names import STILL, metric_label, reference_label
from recbole_dgrm.evaluation.resolution import can_tell
from recbole_dgrm.records import RunDirectory
from recbole_dgrm.reports import comparable, document
from recbole_dgrm.reports.run_table import number
from recbole_dgrm.system.texts import printable


def text(words: str, style: str = "") -> Text:
    """Words that come from elsewhere, safe to print."""
    return Text(printable(words), style)


def list_table(rows: pd.DataFrame, user: str) -> Table:
    """The recommendation list of one user."""
    table = Table(title=text(f"user {user}"), title_justify="left")
    for column in rows.columns[1:]:
        table.add_column(column, justify="left" if column == "item" else "right")
    for row in rows.itertuples(index=False):
        table.add_row(*(text(number(value) if isinstance(value, float) else str(value)) for value in row[1:]))
    return table


def plan_table(runs: Iterable[PlannedRun], finished: set[PlannedRun]) -> Table:
    """The plan of a benchmark: a line per data set, protocol and model, and how many of its runs are done."""
    table = Table(title="plan", title_justify="left")
    for name in ("data set", "protocol", "model", "seeds"):
        table.add_column(name)
    table.add_column("done", justify="right")
    lines: dict[tuple, list[PlannedRun]] = {}
    for run in runs:
        lines.setdefault(run.line, []).append(run)
    for key, group in lines.items():
        done = sum(run in finished for run in group)
        table.add_row(*map(text, key), ", ".join(str(run.config["seed"]) for run in group), f"{done}/{len(group)}")
    return table


def means_tables(results: pd.DataFrame) -> Iterator[Table]:
    """For each data set and protocol of ``Report.table()`` the mean over seeds of each metric, a line per model."""
    known: dict[tuple, list[set[str]]] = {}  # the definitions of each data set and protocol, key by key
    for dataset, protocol, definition in results[["dataset", "protocol", "definition"]].drop_duplicates().to_numpy():
        known.setdefault((dataset, protocol), []).append(set(str(definition).split(", ")))
    for (dataset, protocol, definition), part in results.groupby(["dataset", "protocol", "definition"], sort=False):
        shared = set.intersection(*known[dataset, protocol])
        apart = [dataset, *(key for key in str(definition).split(", ") if key not in shared)]
        table = Table(title=text(f"{', '.join(apart)}, protocol {protocol}, means over seeds"), title_justify="left")
        table.add_column("")
        for metric in part["metric"].unique():
            table.add_column(metric_label(metric), justify="right")
        for model, line in part.groupby("model", sort=False):
            values = line.set_index("metric")["mean"].reindex(part["metric"].unique())
            table.add_row(text(str(model)), *(number(None if pd.isna(value) else value) for value in values))
        yield table


class Board:
    """Progress of a benchmark: a line for each run that ends; on a terminal also what runs now and the time left."""

    def __init__(self, console: Console, main_metric: str | None = None):
        self._console, self._metric = console, main_metric
        columns = BarColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn()
        self._bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._all = self._bars.add_task("")
        self._running: dict[PlannedRun, TaskID] = {}

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def show(self, state: State) -> None:
        """Show the state; the benchmark calls this."""
        if state.just:
            self._console.print(self._ended(state, *state.just), highlight=False, soft_wrap=True)
        over, left = len(state.runs) - state.count("waiting", "running"), state.left_s
        said = f"{over} of {len(state.runs)} runs done" + ("" if left is None else f", about {duration(left)} left")
        self._bars.update(self._all, total=len(state.runs), completed=over, description=said)
        for run, status in state.runs.items():
            if status == "running" and run not in self._running:
                self._running[run] = self._bars.add_task(printable(_name(run)), total=None)
            elif status != "running" and run in self._running:
                self._bars.remove_task(self._running.pop(run))

    def _ended(self, state: State, run: PlannedRun, saved: RunDirectory, seconds: float) -> Text:
        over = len(state.runs) - state.count("waiting", "running")
        said = text(f"[{over}/{len(state.runs)}] {_name(run)}: ")
        if not saved.finished:
            return said.append(printable(f"{saved.record['status']}: {saved.record['error']}"), style="red")
        said.append(self._result(saved.record, seconds))
        if verdict := of_record(saved.record):
            said.append(printable(f"; collapse: {verdict.line}"), style="dim")
        if saved.record["error"]:
            said.append(printable(f"; {saved.record['error']}"), style="red")
        return said

    def _result(self, record: dict[str, Any], seconds: float) -> str:
        test = record["test"]
        key = self._metric if self._metric and self._metric in test else comparable.selected_by(record)
        said = f"{metric_label(key)} {number(test.get(key)) or 'no number'} in {duration(seconds)}"
        if not can_tell(comparable.resolutions(record), key):
            said += ", which cannot tell models apart here"
        if key in comparable.below_bias(record):
            said += f", worse than {reference_label('bias', comparable.tested_by(record['config']))}"
        return said + (f", {STILL}" if comparable.still_improving(record) else "")


def document_table(table: document.Table, columns: int | None = None) -> Table:
    """A table of a document for the terminal; ``columns`` limits it to the first ones where there is little room."""
    styles = {"best": "bold", "second": "underline"}
    shown = Table(title=text(table.title), title_justify="left", caption=text(table.note), caption_justify="left")
    for index, name in enumerate(table.columns[:columns]):
        shown.add_column(text(name), justify="right" if index else "left", overflow="fold")
    for row in table.all_rows():
        shown.add_row(
            *(text(f"{value.text} {value.mark}".rstrip(), styles.get(value.emphasis, "")) for value in row[:columns])
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


def _name(run: PlannedRun) -> str:
    dataset, protocol, label = run.line
    return f"{label} on {dataset}, {protocol}, seed {run.config['seed']}"
