"""The table of one finished run, for the terminal, notebooks and ``print``."""

import html
import io
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recbole_dgrm.evaluation.metric_names import BELOW, STILL, metric_label, reference_label
from recbole_dgrm.evaluation.resolution import LIMIT, too_noisy
from recbole_dgrm.records import short_name
from recbole_dgrm.reports import calibration, comparable
from recbole_dgrm.reports.rows import TIMES
from recbole_dgrm.system.texts import printable

SHORTEST = 0.05  # seconds; shorter times are not shown
PARTS = {"test": "test", "valid": "validation"}
RESOLUTION = (
    "resolution: range of the metric / standard error over users of a difference between two models\n"
    "(range: oracle - random; for RMSE and MAE 3 x (random - bias)); "
    f"below {LIMIT:.0f} there are too few test ratings to compare models by the metric"
)


def run_table(record: dict[str, Any], part: str = "test") -> Table:
    """The table of a finished record: reference rows, metrics, skill and the resolution of each metric."""
    keys, below = list(record[part]), comparable.below_bias(record, part)
    place = f"{record['dataset']}, protocol {record['protocol']}, seed {record['seed']}"
    title = Text(printable(f"{short_name(record['model'])} on the {PARTS[part]} part of {place}"))
    table = Table(title=title, title_justify="left", show_edge=False)  # else it would be wider than 80 columns
    table.add_column("")
    for key in keys:
        table.add_column(metric_label(key), justify="right")
    for name, row in record["reference"].items():
        table.add_row(Text(printable(name)), *(number(row.get(key)) for key in keys), style="dim")
    table.add_section()
    marked = [number(record[part][key]) + BELOW * (key in below) for key in keys]
    table.add_row(Text(printable(short_name(record["model"]))), *marked, style="bold")
    table.add_row("skill", *(number(record["skill"].get(key)) for key in keys))
    if resolutions := comparable.resolutions(record, part):
        table.add_row("resolution", *(f"{resolutions[key]['ratio']:.0f}" if key in resolutions else "" for key in keys))
    if below:
        table.caption, table.caption_justify = f"{BELOW} worse than the row bias", "left"
    return table


def explanation(record: dict[str, Any], part: str = "test") -> str:
    """The lines below the table: the meaning of its rows, the selected epoch, and warnings."""
    mode = comparable.tested_by(record["config"])
    oracle = reference_label("oracle", mode).removeprefix("oracle: ")
    data, timing, model = record["data"], record["timing"], short_name(record["model"])
    epoch = f"epoch {timing['best_epoch']}"
    if comparable.still_improving(record):
        epoch += f", the last that was allowed: {STILL}, so more epochs (--epochs) may do better"
    lines = [
        f"random: expectation of a random order · bias: {reference_label('bias', mode)} · oracle: {oracle}",
        "skill: (model - random) / (oracle - random), 1 cannot be beaten",
    ]
    if resolutions := comparable.resolutions(record, part):
        lines += [RESOLUTION, *filter(None, [too_noisy(resolutions, list(record[part]))])]
    selected = f" by {metric_label(record['selected_by'].lower())[:-2]}" if record.get("selected_by") else ""
    lines.append(
        f"{data['n_train']:,} ratings to train, {data['n_valid']:,} to validate, {data['n_test']:,} to test · "
        f"best of validation{selected}: {epoch}"
    )
    times = [f"{name} {timing[key]:.1f}" for key, name in TIMES.items() if timing.get(key, 0.0) >= SHORTEST]
    lines.append(" · ".join([f"seconds: training {timing['train_s']:.1f}", *times]))
    if part == "test" and (coverage := calibration.line(record)):
        lines.append(coverage)
    if warning := comparable.worse_than_bias(record, part):
        lines.append(f"WARNING: {model} {warning}")
    if impossible := comparable.above_oracle(record):
        request = "better than the oracle, which is impossible; please report it, and do not use these numbers"
        lines.append(f"ERROR of recbole_dgrm: {', '.join(impossible)} {request}")
    return "\n".join(lines)


def as_text(record: dict[str, Any]) -> str:
    """The table and its explanation, as wide as the terminal."""
    return in_text(run_table(record)) + explanation(record)


def as_html(record: dict[str, Any]) -> str:
    """The table and its explanation as HTML, for a notebook."""
    return f"{in_html(run_table(record))}<pre>{html.escape(explanation(record))}</pre>"


def in_text(table: Table) -> str:
    """A table as wide as the terminal."""
    console = Console(file=io.StringIO(), markup=False, emoji=False)
    with console.capture() as text:
        console.print(table)
    return text.get()


def in_html(table: Table) -> str:
    """A table as HTML."""
    return table._repr_mimebundle_((), ())["text/html"]


def number(value: float | None) -> str:
    """A metric with four digits; empty for None."""
    return "" if value is None else f"{value:.4f}"
