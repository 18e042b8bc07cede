"""The table of one finished run, as the terminal, a notebook and ``print`` show it."""

import html
import io
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recbole_dgrm.evaluation.metric_names import BELOW, STILL, metric_label, reference_label
from recbole_dgrm.evaluation.resolution import LIMIT, blunt
from recbole_dgrm.records import short_name
from recbole_dgrm.reports import calibration, comparable
from recbole_dgrm.system.texts import printable

PARTS = {"test": "test", "valid": "validation"}


def run_table(record: dict[str, Any], part: str = "test") -> Table:
    """The metrics of a finished record beside its reference rows, and skill and resolution below."""
    keys, below = list(record[part]), comparable.below_bias(record, part)
    place = f"{record['dataset']}, protocol {record['protocol']}, seed {record['seed']}"
    title = Text(printable(f"{short_name(record['model'])} on the {PARTS[part]} part of {place}"))
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for key in keys:
        table.add_column(metric_label(key), justify="right")
    for name, row in record["reference"].items():
        table.add_row(Text(printable(name)), *(number(row.get(key)) for key in keys), style="dim")
    table.add_section()
    marked = [number(record[part][key]) + BELOW * (key in below) for key in keys]
    table.add_row(Text(printable(short_name(record["model"]))), *marked, style="bold")
    table.add_row("skill", *(number(record["skill"].get(key)) for key in keys))
    if found := comparable.resolutions(record, part):
        table.add_row("resolves", *(f"{found[key]['ratio']:.0f}" if key in found else "" for key in keys))
    if below:
        table.caption, table.caption_justify = f"{BELOW} worse than the row bias", "left"
    return table


def explanation(record: dict[str, Any], part: str = "test") -> str:
    """A few lines that say how to read the table, and what it cannot tell."""
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
        f"best of validation{_selection(record)}: {epoch} · {timing['train_s']:.0f} s of training",
    ]
    if found := comparable.resolutions(record, part):
        told = f"resolves: (oracle - random) in standard errors over users; from {LIMIT:.0f} on a metric can tell"
        lines[2:2] = [told, *filter(None, [blunt(found, list(record[part]))])]
    if part == "test" and (sure := calibration.line(record)):
        lines.append(sure)
    if said := comparable.ends_below(record, part):
        lines.append(f"WARNING: {short_name(record['model'])} {said}")
    if impossible := comparable.above_oracle(record):
        said = "above the oracle, which cannot be; please report it, and do not use these numbers"
        lines.append(f"ERROR of recbole_dgrm: {', '.join(impossible)} {said}")
    return "\n".join(lines)


def _selection(record: dict[str, Any]) -> str:
    """By which metric validation chose, where the record says so."""
    return f" by {metric_label(record['selected_by'].lower())[:-2]}" if record.get("selected_by") else ""


def as_text(record: dict[str, Any]) -> str:
    """The table and how to read it, as wide as the terminal."""
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
    """A metric with four digits, or nothing where there is none."""
    return "" if value is None else f"{value:.4f}"
