"""Figures of summaries and searches, each as PNG and SVG, and what all figures share."""

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from recbole_dgrm.files import write_whole
from recbole_dgrm.labels import metric_label
from recbole_dgrm.summary import Cell

COLOURS = (  # of Okabe and Ito, and three more
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#8c564b", "#332288",
)  # fmt: skip
DASHES, MARKERS = ("-", "--", ":"), ("o", "s", "^")
NORMAL_95 = 1.96
STYLE: dict[Any, Any] = {
    "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
    "svg.hashsalt": "recbole_dgrm",  # the same figure is the same file
}  # fmt: skip


@contextmanager
def _style() -> Iterator[None]:
    """Inside, figures have our style and else matplotlib's own, whatever ``matplotlibrc`` lies in the directory."""
    with rc_context():
        rcdefaults()
        rcParams.update(STYLE)
        yield


styled = _style()  # decorates what draws


@styled
def metric_bars(cell: Cell, path: Path) -> None:
    """A panel per metric: a bar from the random order's value to the model's, with an interval and the oracle."""
    rows = list(reversed(cell.rows))
    references = {row.label: row.scores for row in cell.reference}
    columns = min(len(cell.metrics), 3)
    lines = -(-len(cell.metrics) // columns)
    figure = new_figure(4.0 * columns, lines * (1.0 + 0.26 * len(rows)))
    for index, metric in enumerate(cell.metrics):
        axes = figure.add_subplot(lines, columns, index + 1)
        start = references["random"][metric].mean if metric in references.get("random", {}) else 0.0
        for place, row in enumerate(rows):
            if score := row.scores.get(metric):
                error = NORMAL_95 * score.user_error if np.isfinite(score.user_error) else score.std
                colour = COLOURS[0] if row is cell.baseline else COLOURS[5]
                axes.barh(place, score.mean - start, left=start, height=0.7, color=colour)
                if np.isfinite(error):
                    axes.errorbar(score.mean, place, xerr=error, color="black", linewidth=1, capsize=2)
        for name, style in [("random", ":"), ("bias", "-."), ("oracle", "--")]:
            if metric in references.get(name, {}):
                axes.axvline(references[name][metric].mean, color="black", linewidth=1, linestyle=style, label=name)
        axes.set_yticks(range(len(rows)), [row.label for row in rows] if index % columns == 0 else [""] * len(rows))
        axes.set_title(metric_label(metric), fontsize=10)
        if index == 0:
            figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    save(figure, path)


@styled
def accuracy_against_time(cell: Cell, metric: str, path: Path) -> None:
    """The metric over seconds of training, one point per seed and model."""
    figure = new_figure(7.5, 4.2)
    axes = figure.add_subplot()
    for index, (row, (colour, _)) in enumerate(zip(cell.rows, styles(), strict=False)):
        if metric in row.scores:
            seconds = np.maximum(row.learning_seconds(), 1e-3)
            marker = MARKERS[index // len(COLOURS) % len(MARKERS)]
            axes.plot(seconds, row.scores[metric].values, marker, color=colour, markersize=3, alpha=0.5)
            middle = np.exp(np.log(seconds).mean())
            axes.plot(middle, row.scores[metric].mean, marker, color=colour, label=row.label)
    for row in cell.reference:
        if row.label != "oracle" and metric in row.scores:
            height = row.scores[metric].mean
            axes.axhline(height, color="black", linewidth=1, linestyle=":")
            axes.annotate(
                row.label, (0, height), (4, 3), xycoords=("axes fraction", "data"), textcoords="offset points"
            )
    axes.set_xscale("log")
    axes.set(xlabel="training seconds", ylabel=metric_label(metric))
    figure.legend(loc="outside right upper", frameon=False)
    save(figure, path)


@styled
def learning_curves(cell: Cell, path: Path) -> None:
    """The validation metric over epochs and over seconds: means over seeds, as far as all seeds have come."""
    metric = cell.rows[0].runs[0].record["config"]["valid_metric"].lower()
    figure = new_figure(10.0, 4.2)
    panels = figure.subplots(1, 2, sharey=True)
    for row, (colour, dash) in zip(cell.rows, styles(), strict=False):
        curves = [_curve(run.epochs(), metric) for run in row.runs]
        length = min(len(values) for _, _, values in curves)
        if not length:
            continue
        epochs, seconds, values = (
            np.mean([part[:length] for part in parts], axis=0) for parts in zip(*curves, strict=True)
        )
        for axes, x in zip(panels, (epochs, seconds), strict=True):
            label = row.label if axes is panels[0] else None
            axes.plot(x, values, color=colour, linestyle=dash if length > 1 else "", marker=None if length > 1 else "o",
                      linewidth=1.2, label=label)  # fmt: skip
    for axes, name in zip(panels, ("epoch", "training seconds"), strict=True):
        axes.set_xscale("log")
        axes.set_xlabel(name)
    panels[0].set_ylabel(f"validation {metric_label(metric)}")
    figure.legend(loc="outside right upper", frameon=False)
    save(figure, path)


@styled
def search_history(
    scores: Mapping[int, float], pruned: Mapping[int, float], bigger: bool, metric: str, path: Path
) -> None:
    """Validation score over trials and the best so far; ``pruned`` ones with the last score they had."""
    figure = new_figure(6.4, 3.6)
    axes = figure.add_subplot()
    numbers = sorted(scores)
    values = np.array([scores[number] for number in numbers])
    axes.plot(numbers, values, "o", color=COLOURS[0], markersize=4, label="finished")
    if pruned:
        axes.plot(list(pruned), list(pruned.values()), "x", color=COLOURS[6], markersize=4, label="pruned")
    best = np.maximum.accumulate(values) if bigger else np.minimum.accumulate(values)
    axes.step(numbers, best, where="post", color=COLOURS[1], label="best so far")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="trial", ylabel=f"validation {metric_label(metric)}")
    figure.legend(loc="outside upper right", ncols=3, frameon=False)
    save(figure, path)


@styled
def importances(shares: Mapping[str, float], path: Path) -> None:
    """A bar per hyper-parameter: its share in the variation of the score."""
    figure = new_figure(6.4, 0.8 + 0.28 * len(shares))
    axes = figure.add_subplot()
    names = list(shares)[::-1]
    axes.barh(names, [shares[name] for name in names], color=COLOURS[5])
    axes.set_xlabel("share in the variation of the score (fANOVA)")
    save(figure, path)


@styled
def slices(points: Mapping[str, list[tuple[object, float]]], metric: str, log: Collection[str], path: Path) -> None:
    """A panel per hyper-parameter: score over its value."""
    columns = min(len(points), 3)
    lines = -(-len(points) // columns)
    figure = new_figure(3.4 * columns, 2.6 * lines)
    for index, (key, pairs) in enumerate(points.items()):
        axes = figure.add_subplot(lines, columns, index + 1)
        values, scores = map(list, zip(*pairs, strict=True))
        numbers = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in values)
        if not numbers or len(set(values)) <= 8:
            names = sorted(set(values), key=lambda value: (str(type(value)), value) if numbers else str(value))
            axes.set_xticks(range(len(names)), [str(name) for name in names], fontsize=7)
            values = [names.index(value) for value in values]
        elif key in log:
            axes.set_xscale("log")
        axes.plot(values, scores, "o", color=COLOURS[0], markersize=3, alpha=0.6)
        axes.set_xlabel(key)
        if index % columns == 0:
            axes.set_ylabel(f"validation {metric_label(metric)}")
    save(figure, path)


def _curve(lines: list[dict], metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Epochs from 1, cumulative seconds and values of the validated epochs."""
    lines = [line for line in lines if line["stage"] == "select"]
    seconds = np.cumsum([line["seconds"] for line in lines])
    validated = [index for index, line in enumerate(lines) if line.get(f"valid_{metric}") is not None]
    epochs = np.array([lines[index]["epoch"] + 1 for index in validated])
    return epochs, seconds[validated] if validated else seconds[:0], np.array(
        [lines[index][f"valid_{metric}"] for index in validated]
    )  # fmt: skip


def styles() -> Iterator[tuple[str, str]]:
    """Colour and dash, endlessly; no pair twice for 27 rows."""
    return cycle((colour, dash) for dash in DASHES for colour in COLOURS)


def new_figure(width: float, height: float) -> Figure:
    """A figure of so many inches that needs no display."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path) -> None:
    """``<path>.png`` and ``<path>.svg``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for kind, about in [("png", {}), ("svg", {"Date": None})]:
        draw = partial(figure.savefig, format=kind, dpi=150, metadata=about, transparent=kind == "svg")
        write_whole(path.with_name(f"{path.name}.{kind}"), draw)
