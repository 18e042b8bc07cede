"""The figures of a benchmark table: differences to the baseline, and coverage of intervals."""

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from recbole_dgrm.evaluation.metric_names import metric_label, reference_label, smaller_is_better
from recbole_dgrm.reports import calibration
from recbole_dgrm.reports.figures import COLOURS, DARK, GIVEN, Dot, DotPanel, dot_panels, reach, small_panels
from recbole_dgrm.reports.result_tables import BETTER, WORSE, mark_of, vector_label
from recbole_dgrm.reports.rows import Cell, ModelRow
from recbole_dgrm.system.texts import in_figure

NORMAL_95 = 1.96
SHAPES = {BETTER: "^", WORSE: "v", "": "o"}
OFF_AXIS = 0.1  # of the ratings; a model whose intervals are wrong by more leaves its panel
DIFFERENCES = (
    "A row to the right of the line is better, also where smaller values are better. Whiskers are the 95 % "
    "intervals of the table of differences; a row without them has no value per user. A filled symbol is a significant "
    f"difference after Holm's correction ({BETTER} better, {WORSE} worse); a hollow one is not significant or not "
    "tested. An arrow is a value beyond the axis."
)


def differences(cell: Cell, path: Path) -> None:
    """A panel per metric: the difference of each row to the baseline with its interval, better to the right."""
    panels = [_difference_panel(cell, metric, cell.baseline) for metric in cell.metrics if cell.baseline]
    dot_panels([panel for panel in panels if panel.dots], path)


def _difference_panel(cell: Cell, metric: str, baseline: ModelRow) -> DotPanel:
    """The rows but the baseline, the best first, then the bias row; with the numbers of the table of differences."""
    rows = [(row, row.label) for row in cell.ranked(cell.main_metric) if row is not baseline]
    bias = [(row, reference_label("bias", cell.mode)) for row in cell.reference if row.label == "bias"]
    dots = [dot for row, label in [*rows, *bias] if (dot := _difference(row, baseline, metric, in_figure(label)))]
    sizes = [np.nanmax(np.abs([dot.value, dot.low, dot.high])) for dot in dots]
    direction = "less is better →" if smaller_is_better(metric) else "better →"
    xlabel = f"{vector_label(metric)[:-2]} − that of {in_figure(baseline.label)}   ({direction})"
    return DotPanel(dots, xlabel, 0.0, reach(sizes) if sizes else math.inf, smaller_is_better(metric))


def _difference(row: ModelRow, baseline: ModelRow, metric: str, label: str) -> Dot | None:
    """The difference of a row to the baseline; without an interval if there are no values per user."""
    theirs, score, mark = baseline.scores.get(metric), row.scores.get(metric), ""
    if score is None or theirs is None:
        return None
    if test := score.comparison:
        values, mark = (test.difference, test.low, test.high), mark_of(metric, score)
    elif vector_label(metric) == metric_label(metric):
        values = score.mean - theirs.mean, math.nan, math.nan
    else:  # the mean is of another quantity than the tested one
        return None
    shape, colour = (SHAPES[mark], COLOURS[0]) if row.runs else ("D", DARK)
    text = f"{values[0]:+.4f} {mark}".rstrip()
    return Dot(label, *values, text, shape, bool(mark), colour) if math.isfinite(values[0]) else None


def coverage(rows: Mapping[str, calibration.Calibration], means: calibration.Calibration, path: Path) -> None:
    """A panel per model: the share of ratings that intervals cover minus the share that they promise.

    The band has 95 % of what chance does to intervals that keep their promise, at each share and for one split.
    """
    found = {label: np.subtract(each["observed"], each["nominal"]) for label, each in rows.items()}
    limit = min(OFF_AXIS, 1.1 * max(np.abs(each).max() for each in [*found.values(), np.array([0.02])]))
    ylabel = "covered minus promised share of the ratings"
    with small_panels(path, list(found), "promised share", ylabel) as panels:
        for label, difference in found.items():
            axes, share = panels[label], np.array(rows[label]["nominal"])
            band = NORMAL_95 * np.sqrt(share * (1 - share) / rows[label]["n"])
            axes.fill_between(share, -band, band, color=GIVEN, alpha=0.35, linewidth=0)
            axes.axhline(0, color="black", linewidth=0.8)
            axes.plot(means["nominal"], np.subtract(means["observed"], means["nominal"]), color=GIVEN, linewidth=1.4)
            axes.plot(share, difference, color=COLOURS[0], linewidth=1.4)
            covered = f"90 % cover {calibration.percent(calibration.covered(rows[label], 0.9))}"
            axes.text(0.02, 0.99, covered, transform=axes.transAxes, fontsize=7, va="top")
            axes.set(xlim=(0, 1), ylim=(-limit, limit))
