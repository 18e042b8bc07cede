"""The calibration of models that return standard deviations of predictions: a line and a table for reports."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from recbole_dgrm.reports.document import Table, Value
from recbole_dgrm.reports.rows import Cell

TITLE = "Uncertainty of the predictions"
MEANS = "a Gaussian around user + item means"
PROMISED = (0.5, 0.9)
NUMBERS = ("crps", "log_score", "rank_correlation")
COLUMNS = ("50 % cover", "90 % cover", "CRPS ↓", "log score ↓", "rank correlation ↑")
EXPLAINED = (
    "Every prediction is read as a Gaussian with the standard deviation that the model gives. If these are right, 50 % "
    "intervals cover 50 % of the test ratings; those of an overconfident model cover fewer. CRPS (in rating points) "
    "and log score (in nats) also reward accurate predictions; lower is better. The rank correlation is that of "
    "standard deviations with absolute errors: it is high if a model knows which ratings are hard to predict. The "
    f"baseline is {MEANS}, with one standard deviation for all ratings: that of its errors on validation."
)
INFINITE = "∞: some standard deviations are 0, so every other rating has density 0."
Calibration = dict[str, Any]


def line(record: dict[str, Any]) -> str | None:
    """The line below the table of a run; None if the model has no standard deviations."""
    scores = record.get("diagnosis", {}).get("calibration")
    if not scores:
        return None
    model, means = (
        f"{percent(covered(scores[who], 0.9))}, CRPS {scores[who]['crps']:.4f}" for who in ("model", "means")
    )
    return f"its 90 % intervals cover {model} ({MEANS}: {means})"


def covered(scores: Calibration, nominal: float) -> float:
    """The share of ratings within the intervals of probability ``nominal``."""
    return dict(zip(scores["nominal"], scores["observed"], strict=True))[nominal]


def by_row(cell: Cell) -> dict[str, Calibration]:
    """Label to the calibration, averaged over seeds, for the rows of a cell whose models have standard deviations."""
    runs = {row.label: [run.record["diagnosis"].get("calibration") for run in row.runs] for row in cell.rows}
    return {
        label: _averaged([each["model"] for each in scores if each]) for label, scores in runs.items() if any(scores)
    }


def of_means(cell: Cell) -> Calibration:
    """The calibration of the Gaussian around user + item means, averaged over all seeds of the cell."""
    scores = {record["seed"]: each for record in cell.records if (each := record["diagnosis"].get("calibration"))}
    return _averaged([each["means"] for each in scores.values()])


def _averaged(scores: Sequence[Calibration]) -> Calibration:
    """Means over seeds; None for a number that is missing for a seed."""
    numbers = {key: [each[key] for each in scores] for key in (*NUMBERS, "n")}
    means = {key: None if None in values else float(np.mean(values)) for key, values in numbers.items()}
    nominal = sorted(set.intersection(*(set(each["nominal"]) for each in scores)))
    observed = [float(np.mean([covered(each, level) for each in scores])) for level in nominal]
    return {**means, "nominal": nominal, "observed": observed}


def table(cell: Cell, rows: Mapping[str, Calibration], means: Calibration) -> Table:
    """A row per model: coverage of intervals, CRPS, log score and rank correlation; the baseline on top."""
    best = min(scores["crps"] for scores in rows.values())
    lines = [_values(means), *(_values(scores, scores["crps"] == best) for scores in rows.values())]
    infinite = any(scores["log_score"] is None for scores in rows.values())
    frame = pd.DataFrame(lines, [MEANS, *rows], COLUMNS, dtype=object)
    return Table.of_frame(f"Calibration, {cell.name}", frame, note=INFINITE * infinite, quiet=1)


def _values(scores: Calibration, best: bool = False) -> list[Value]:
    crps, log_score, correlation = (scores[key] for key in NUMBERS)
    infinite, digits = Value("∞", np.inf), ".3f" if log_score is None or log_score < 1e3 else ".3g"
    return [
        *(Value.of(covered(scores, nominal), ".1%") for nominal in PROMISED),
        Value(f"{crps:.3f}", crps, "best" if best else ""),
        infinite if log_score is None else Value.of(log_score, digits),
        Value.of(correlation, ".3f"),
    ]


def percent(share: float) -> str:
    """``90.1 %``."""
    return f"{100 * share:.1f} %"
