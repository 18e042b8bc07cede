"""The figures of a benchmark: differences to the baseline, accuracy against time, and learning curves."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from recbole_dgrm.evaluation.metric_names import is_mean_over_users, metric_label, reference_label, smaller_is_better
from recbole_dgrm.reports import calibration, comparable
from recbole_dgrm.reports.figures import (
    COLOURS,
    GIVEN,
    PALE,
    label_points,
    legend,
    log_axis,
    new_figure,
    reach,
    save,
    styled,
    styles,
)
from recbole_dgrm.reports.result_tables import BETTER, WORSE, cell_mode, mark_of, ranked, telling, vector_label
from recbole_dgrm.reports.rows import Cell, Row
from recbole_dgrm.system.texts import in_figure

MOST_ROWS = 27  # in a figure: what colours and dashes tell apart
NORMAL_95 = 1.96
LINE = 0.27  # inches that a row of a forest plot is high
SHAPES = {BETTER: "^", WORSE: "v", "": "o"}


def best_rows(cell: Cell) -> Cell:
    """The cell itself, or only the best of its rows by the first metric if a figure cannot hold them all."""
    if len(cell.rows) <= MOST_ROWS:
        return cell
    kept = {id(row) for row in ranked(cell, cell.metrics[0])[:MOST_ROWS]}
    return replace(cell, rows=[row for row in cell.rows if id(row) in kept])


@dataclass(frozen=True)
class Point:
    """A row of a forest plot: a value, the ends of its 95 % interval (NaN without), and the mark of its test."""

    label: str
    value: float
    low: float
    high: float
    mark: str = ""
    quiet: bool = False

    @property
    def reach(self) -> float:
        """How far from 0 the axis goes for it."""
        return float(np.nanmax(np.abs([self.value, self.low, self.high])))


@styled
def forest(cell: Cell, path: Path) -> None:
    """A panel per metric: the difference of each row to the baseline with its interval, better to the right.

    Without rows to compare, the values themselves stand there, and the line is at the value of the bias row.
    """
    compared = cell.baseline is not None and len(cell.rows) > 1
    found = {metric: list(_differences(cell, metric) if compared else _values(cell, metric)) for metric in cell.metrics}
    found = {metric: points for metric, points in found.items() if points}
    heights = [len(points) + 2.6 for points in found.values()]
    figure = new_figure(LINE * sum(heights))
    grid = figure.subplots(len(found), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, (metric, points) in zip(grid, found.items(), strict=True):
        _forest_panel(axes, points, compared, smaller_is_better(metric))
        towards = "less is better →" if smaller_is_better(metric) else "better →"
        if compared and cell.baseline:
            of, what = in_figure(cell.baseline.label), vector_label(metric)[:-2]
            axes.set_xlabel(f"{what} − that of {of}   ({towards})")
        else:
            axes.set_xlabel(f"{metric_label(metric)[:-2]}   ({towards})")
            for row in [row for row in cell.reference if row.label == "bias" and metric in row.scores]:
                axes.axvline(row.scores[metric].mean, color="black", linewidth=1, linestyle=":")
    save(figure, path)


def forest_words(cell: Cell) -> tuple[str, str]:
    """The title of the forest plot of a cell, and how to read it."""
    if cell.baseline is None or len(cell.rows) < 2:
        return "Metrics", (
            "Whiskers: 95 % interval over users where the metric is a mean over users, else the standard deviation "
            "over seeds. Dotted: user + item means, or popularity."
        )
    return f"Differences to {cell.baseline.label}", (
        "Right of the line is better, also where less is better. Whiskers: 95 % interval over users, as in the table "
        f"of differences; a point without has no value per user. Filled, {BETTER} better and {WORSE} worse: "
        "significant after Holm's correction; hollow: not, or not tested. An arrow is beyond the axis."
    )


def _differences(cell: Cell, metric: str) -> Iterator[Point]:
    """The rows but the baseline, the best first, then the bias row; with the numbers of the table of differences."""
    baseline = cell.baseline
    for row in ranked(cell, telling(cell)):
        if row is not baseline and (point := _difference(cell, row, metric, in_figure(row.label))):
            yield point
    for row in cell.reference:
        if row.label == "bias" and (
            point := _difference(cell, row, metric, reference_label("bias", cell_mode(cell)), quiet=True)
        ):
            yield point


def _difference(cell: Cell, row: Row, metric: str, label: str, quiet: bool = False) -> Point | None:
    """A row against the baseline; from the means alone, without interval, where there is no value per user."""
    theirs, score = (cell.baseline or row).scores.get(metric), row.scores.get(metric)
    if score is None or theirs is None:
        return None
    if test := score.comparison:
        point = Point(label, test.difference, test.low, test.high, mark_of(metric, score), quiet)
    elif vector_label(metric) == metric_label(metric):
        point = Point(label, score.mean - theirs.mean, math.nan, math.nan, "", quiet)
    else:  # another measure than the one that is tested
        return None
    return point if math.isfinite(point.value) else None


def _values(cell: Cell, metric: str) -> Iterator[Point]:
    """The rows with their means, the best first; the interval is over users, or the deviation over seeds."""
    for row in ranked(cell, telling(cell)):
        if score := row.scores.get(metric):
            half = NORMAL_95 * score.user_error if is_mean_over_users(metric) else score.std
            yield Point(in_figure(row.label), score.mean, score.mean - half, score.mean + half)


def _forest_panel(axes: Axes, points: list[Point], compared: bool, turned: bool) -> None:
    """The rows of a panel from top to bottom, their numbers at the right; ``turned`` has less at the right."""
    limit = reach([point.reach for point in points]) if compared else math.inf
    for place, point in enumerate(points):
        colour = "#5f5f66" if point.quiet else COLOURS[0]
        beyond = abs(point.value) > limit
        shape = ("<" if (point.value < 0) != turned else ">") if beyond else "D" if point.quiet else SHAPES[point.mark]
        if math.isfinite(point.low):
            axes.plot(np.clip([point.low, point.high], -limit, limit), [place, place], color=colour, linewidth=1.6)
        filled = colour if point.mark or beyond else "white"
        at = float(np.clip(point.value, -limit, limit))
        axes.plot(at, place, shape, color=colour, markerfacecolor=filled, markersize=6, zorder=3)
        text = f"{point.value:+.4f} {point.mark}".rstrip() if compared else f"{point.value:.4f}"
        text = text.replace("-", "−")
        axes.annotate(text, (1.02, place), xycoords=("axes fraction", "data"), va="center", annotation_clip=False)
    axes.set_yticks(range(len(points)), [fill(point.label, 24) for point in points])
    for name in axes.get_yticklabels():
        name.set_fontsize(8 if "\n" in name.get_text() else 10)  # two lines have room between their neighbours
    axes.set_ylim(len(points) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(3))  # four of -0.012 touch
    axes.ticklabel_format(axis="x", style="plain", useOffset=False)  # a power of ten would stand in the axis's name
    axes.spines["left"].set_visible(False)
    if compared:
        axes.axvline(0, color="black", linewidth=1)
        axes.margins(x=0.06)
    if turned:
        axes.invert_xaxis()


@styled
def accuracy_against_time(cell: Cell, metric: str, path: Path) -> None:
    """The metric over seconds of training: a point per model, small ones per seed, and the line of the best for a time.

    Models that another one beats in both are paler. Up is better, also where less is.
    """
    figure = new_figure(4.4)
    axes = figure.add_subplot()
    rows = [row for row in cell.rows if metric in row.scores and np.isfinite(row.learning_seconds()).all()]
    seconds = [np.maximum(row.learning_seconds(), 1e-3) for row in rows]
    middles = [float(np.exp(np.log(each).mean())) for each in seconds]
    means = [row.scores[metric].mean for row in rows]
    best = frontier(middles, means, smaller_is_better(metric))
    for number, row in enumerate(rows):
        colour = COLOURS[0] if number in best else PALE
        axes.plot(seconds[number], row.scores[metric].values, "o", color=colour, markersize=2.5, alpha=0.6)
        axes.plot(middles[number], means[number], "o", color=colour, markersize=6, zorder=3)
    axes.margins(0.12)
    log_axis(axes)
    if smaller_is_better(metric):
        axes.invert_yaxis()
    for row in cell.reference:
        if row.label == "bias" and metric in row.scores:
            height = row.scores[metric].mean
            axes.axhline(height, color="black", linewidth=1, linestyle=":")
            place: dict[str, Any] = {
                "fontsize": 9,
                "xycoords": ("axes fraction", "data"),
                "textcoords": "offset points",
            }
            axes.annotate(reference_label("bias", cell_mode(cell)), (1, height), (0, 3), ha="right", **place)
    corners = np.repeat([middles[number] for number in best], 2)[1:], np.repeat([means[number] for number in best], 2)
    last = axes.get_xlim()[1]
    axes.plot([*corners[0], last], corners[1], color=COLOURS[0], linewidth=1.2, zorder=1)
    axes.set_xlim(right=last)
    better = "less is better ↑" if smaller_is_better(metric) else "better ↑"
    axes.set(xlabel="seconds of training (log)   (← faster)", ylabel=f"{metric_label(metric)[:-2]}   ({better})")
    names = [
        (fill(in_figure(row.label), 22), "black" if number in best else "#5f5f66") for number, row in enumerate(rows)
    ]
    first = [*best, *(number for number in range(len(rows)) if number not in best)]
    label_points(figure, axes, [(middles[number], means[number], *names[number]) for number in first], len(best))
    save(figure, path)


def frontier(seconds: list[float], values: list[float], smaller: bool) -> list[int]:
    """Which points no other beats in both, in the order of seconds: the faster, the better, not worse in the other."""
    order = sorted(range(len(values)), key=lambda number: (seconds[number], values[number] * (1 if smaller else -1)))
    best: list[int] = []
    for number in order:
        if not best or (values[number] < values[best[-1]] if smaller else values[number] > values[best[-1]]):
            best.append(number)
    return best


@styled
def learning_curves(cell: Cell, path: Path) -> None:
    """The validation metric over epochs and over seconds: means over seeds, up to the last epoch of all seeds."""
    rows = [row for row in cell.rows if not row.judged]
    metric = comparable.selected_by(rows[0].runs[0].record)
    figure = new_figure(5.6, names=len(rows))
    panels = figure.subplots(2, 1, sharey=True)
    for row, (colour, dash) in zip(rows, styles(), strict=False):
        curves = [_curve(run.epochs(), metric) for run in row.runs]
        length = min(len(values) for _, _, values in curves)
        if not length:
            continue
        epochs, seconds, values = (
            np.mean([part[:length] for part in parts], axis=0) for parts in zip(*curves, strict=True)
        )
        for axes, x in zip(panels, (epochs, seconds), strict=True):
            label = in_figure(row.label) if axes is panels[0] else None
            look = {"linestyle": dash} if length > 1 else {"linestyle": "", "marker": "o"}
            axes.plot(x, values, color=colour, linewidth=1.4, label=label, **look)
    for axes, name in zip(panels, ("epoch", "seconds of training"), strict=True):
        log_axis(axes)
        axes.set(xlabel=f"{name} (log)", ylabel=f"validation {metric_label(metric)}")
    legend(figure)
    save(figure, path)


def _curve(lines: list[dict], metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Epochs from 1, cumulative seconds and values of the validated epochs."""
    lines = [line for line in lines if line["stage"] == "select"]
    seconds = np.cumsum([line["seconds"] for line in lines])
    validated = np.array([index for index, line in enumerate(lines) if line.get(f"valid_{metric}") is not None], int)
    epochs = np.array([lines[index]["epoch"] + 1 for index in validated])
    return epochs, seconds[validated], np.array([lines[index][f"valid_{metric}"] for index in validated])


@styled
def reliability(rows: Mapping[str, calibration.Found], means: calibration.Found, path: Path) -> None:
    """The share of ratings that central intervals cover over the share that they promise; right on the diagonal."""
    figure = new_figure(4.4, names=len(rows) + 2)
    axes = figure.add_subplot()
    axes.plot((0, 1), (0, 1), color="black", linewidth=1, linestyle=":", label="as promised")
    axes.plot(means["nominal"], means["observed"], color=GIVEN, linewidth=3, label=calibration.MEANS.removeprefix("a "))
    for (label, found), (colour, dash) in zip(rows.items(), styles(), strict=False):
        points, name = (found["nominal"], found["observed"]), in_figure(label)
        axes.plot(*points, color=colour, linestyle=dash, marker="o", markersize=3, label=name)
    axes.set(xlabel="promised share of the ratings", ylabel="covered share of the ratings", xlim=(0, 1), ylim=(0, 1))
    axes.set_aspect("equal")
    legend(figure)
    save(figure, path)
