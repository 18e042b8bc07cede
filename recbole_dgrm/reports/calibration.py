"""What is said about how well models know how sure they are: a line, a table and sentences."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from recbole_dgrm.reports.document import Table, Value
from recbole_dgrm.reports.rows import Cell
from recbole_dgrm.system.texts import listed

TITLE = "Do they know how sure they are?"
MEANS = "a Gaussian around user + item means"
OFF = 0.05  # of the ratings, that intervals cover more or fewer than they promise
PROMISED = (0.5, 0.9)
NUMBERS = ("crps", "log_score", "rank_correlation")
EXPLAINED = (
    "Every prediction is read as a Gaussian with the model's own standard deviation. Intervals cover as many test "
    "ratings as they promise where deviations are right; CRPS (in ratings) and log score (in nats) also reward good "
    "predictions, and are better where they are lower. The rank correlation of deviations with absolute errors says "
    "whether a model tells easy ratings from hard ones. The Gaussian around means has one deviation, that of its "
    "errors on validation."
)
INFINITE = "∞: some deviations are 0, and a rating that is not the predicted one has density 0 then."
Found = dict[str, Any]


def line(record: dict[str, Any]) -> str | None:
    """The line below the table of a run; None where the model does not say how sure it is."""
    found = record.get("diagnosis", {}).get("calibration")
    if not found:
        return None
    model, means = (
        f"{_percent(covered(found[who], 0.9))}, CRPS {found[who]['crps']:.4f}" for who in ("model", "means")
    )
    return f"its 90 % intervals cover {model} ({MEANS}: {means})"


def covered(found: Found, nominal: float) -> float:
    """The share of ratings within intervals that promise ``nominal``."""
    return dict(zip(found["nominal"], found["observed"], strict=True))[nominal]


def by_row(cell: Cell) -> dict[str, Found]:
    """For each row of a cell whose model says how sure it is, the means over seeds of what was found."""
    runs = {row.label: [run.record["diagnosis"].get("calibration") for run in row.runs] for row in cell.rows}
    return {label: _averaged([each["model"] for each in found if each]) for label, found in runs.items() if any(found)}


def of_means(cell: Cell) -> Found:
    """The same of the Gaussian around user + item means, on all seeds of these rows."""
    records = [run.record for row in cell.rows for run in row.runs if "calibration" in run.record["diagnosis"]]
    found = {record["seed"]: record["diagnosis"]["calibration"]["means"] for record in records}
    return _averaged(list(found.values()))


def _averaged(found: Sequence[Found]) -> Found:
    """Means over seeds; None for a number that a seed does not have."""
    numbers = {key: [each[key] for each in found] for key in NUMBERS}
    means = {key: None if None in values else float(np.mean(values)) for key, values in numbers.items()}
    nominal = sorted(set.intersection(*(set(each["nominal"]) for each in found)))
    observed = [float(np.mean([covered(each, level) for each in found])) for level in nominal]
    return {**means, "nominal": nominal, "observed": observed}


def table(cell: Cell, rows: Mapping[str, Found], means: Found) -> Table:
    """A row per model: coverage of intervals, CRPS, log score and rank correlation; the means' Gaussian on top."""
    columns = ["", "50 % cover", "90 % cover", "CRPS ↓", "log score ↓", "rank correlation ↑"]
    best = min(found["crps"] for found in rows.values())
    lines = [_line(label, found, found["crps"] == best) for label, found in rows.items()]
    note = EXPLAINED
    if any(found["log_score"] is None for found in rows.values()):
        note += f" {INFINITE}"
    return Table(f"Calibration, {cell.name}", columns, lines, [_line(MEANS, means)], note)


def _line(label: str, found: Found, best: bool = False) -> list[Value]:
    shares = [covered(found, nominal) for nominal in PROMISED]
    crps, log_score, correlation = (found[key] for key in NUMBERS)
    return [
        Value(label),
        *(Value(f"{share:.1%}", share) for share in shares),
        Value(f"{crps:.3f}", crps, "best" if best else ""),
        Value("∞", np.inf)
        if log_score is None
        else Value(f"{log_score:.3{'f' if log_score < 1e3 else 'g'}}", log_score),
        Value("–") if correlation is None else Value(f"{correlation:.3f}", correlation),
    ]


def verdict(rows: Mapping[str, Found], means: Found) -> str:
    """Which model knows best how sure it is, which are too sure or not sure enough, and which worse than means."""
    best = min(rows, key=lambda label: rows[label]["crps"])
    usual = f"{MEANS} has {means['crps']:.3f} and {_percent(covered(means, 0.9))}"
    own = f"CRPS {rows[best]['crps']:.3f}, and its 90 % intervals cover {_percent(covered(rows[best], 0.9))}"
    worse = [label for label in rows if rows[label]["crps"] > means["crps"]]
    if best in worse:
        said = [f"No model knows better how sure it is than {MEANS}: {best} comes nearest, with {own}; {usual}."]
    else:
        said = [f"{best} knows best how sure it is, with {own}; {usual}."]
    apart = {label: [covered(found, nominal) - nominal for nominal in PROMISED] for label, found in rows.items()}
    off = {label: max(found, key=abs) for label, found in apart.items()}
    too_sure = [label for label, by in off.items() if by < -OFF]
    unsure = [label for label, by in off.items() if by > OFF]
    for what, labels in (("Too sure", too_sure), ("Not sure enough", unsure)):
        if labels:
            shown = [f"{label} (its 90 % intervals cover {_percent(covered(rows[label], 0.9))})" for label in labels]
            said.append(f"{what}: {listed(shown)}.")
    if worse and best not in worse:
        shown = [f"{label} ({rows[label]['crps']:.3f})" for label in worse]
        said.append(f"Worse than {MEANS} in CRPS: {listed(shown)}.")
    return " ".join(said)


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
