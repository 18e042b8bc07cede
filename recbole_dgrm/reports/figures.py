"""The figures of a benchmark, each as PNG and SVG, and what all figures share."""

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from recbole_dgrm.errors import OutputError, explained
from recbole_dgrm.evaluation.metric_names import metric_label, smaller_is_better
from recbole_dgrm.reports import comparable, document
from recbole_dgrm.reports.rows import Cell
from recbole_dgrm.system.files import write_whole
from recbole_dgrm.system.texts import in_figure

LOG = logging.getLogger(__name__)
MOST_ROWS = 27  # in a figure: what colours and dashes tell apart

OKABE_ITO = "#0072b2 #d55e00 #009e73 #cc79a7 #e69f00 #56b4e9"  # told apart by colour-blind readers, too
COLOURS = (*OKABE_ITO.split(), "#7f7f7f", "#8c564b", "#332288")
DASHES, MARKERS = ("-", "--", ":"), ("o", "s", "^")
NORMAL_95, DPI = 1.96, 150
STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "recbole_dgrm",  # the same figure is the same file
}


@contextmanager
def _style() -> Iterator[None]:
    """Within the block, figures have our style on top of matplotlib's own, whatever ``matplotlibrc`` lies there."""
    with rc_context():
        rcdefaults()
        rcParams.update(STYLE)
        yield


styled = _style()  # decorates what draws


@styled
def metric_bars(cell: Cell, path: Path) -> None:
    """A panel per metric: a bar from the random order's value to the model's, with an interval and the oracle."""
    rows = list(reversed(cell.rows))
    random = next((row.scores for row in cell.reference if row.label == "random"), {})
    styles_of = {"random": ":", "bias": "-.", "oracle": "--"}
    columns = min(len(cell.metrics), 3)
    lines = -(-len(cell.metrics) // columns)
    figure = new_figure(4.0 * columns, lines * (1.0 + 0.26 * len(rows)))
    for index, metric in enumerate(cell.metrics):
        axes = figure.add_subplot(lines, columns, index + 1)
        start = random[metric].mean if metric in random else 0.0
        shown = [(place, row, row.scores[metric]) for place, row in enumerate(rows) if metric in row.scores]
        places, means = [place for place, _, _ in shown], np.array([score.mean for _, _, score in shown])
        errors = [NORMAL_95 * score.user_error if np.isfinite(score.user_error) else score.std for _, _, score in shown]
        colours = [COLOURS[0] if row is cell.baseline else COLOURS[5] for _, row, _ in shown]
        axes.barh(places, means - start, left=start, height=0.7, color=colours)
        if np.isfinite(errors).any():
            axes.errorbar(means, places, xerr=errors, fmt="none", ecolor="black", elinewidth=1, capsize=2)
        for name, style in styles_of.items():
            for row in [row for row in cell.reference if row.label == name and metric in row.scores][:1]:
                axes.axvline(row.scores[metric].mean, color="black", linewidth=1, linestyle=style, label=name)
        names = [in_figure(row.label) for row in rows]
        axes.set_yticks(range(len(rows)), names if index % columns == 0 else [""] * len(rows))
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
            middle = np.exp(np.log(seconds).mean()).round(6)  # a hair's breadth of seconds is no axis
            axes.plot(middle, row.scores[metric].mean, marker, color=colour, label=in_figure(row.label))
    for row in cell.reference:
        if row.label != "oracle" and metric in row.scores:
            height = row.scores[metric].mean
            axes.axhline(height, color="black", linewidth=1, linestyle=":")
            axes.annotate(
                row.label, (0, height), (4, 3), xycoords=("axes fraction", "data"), textcoords="offset points"
            )
    axes.set_xscale("log")
    axes.set(xlabel="training seconds", ylabel=metric_label(metric))
    legend(figure, loc="outside right upper")
    save(figure, path)


@styled
def learning_curves(cell: Cell, path: Path) -> None:
    """The validation metric over epochs and over seconds: means over seeds, up to the last epoch of all seeds."""
    rows = [row for row in cell.rows if not row.judged]
    metric = comparable.selected_by(rows[0].runs[0].record)
    figure = new_figure(10.0, 4.2)
    panels = figure.subplots(1, 2, sharey=True)
    for row, (colour, dash) in zip(cell.rows, styles(), strict=False):  # colours as in other figures
        if row.judged:
            continue
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
            axes.plot(x, values, color=colour, linewidth=1.2, label=label, **look)
    for axes, name in zip(panels, ("epoch", "training seconds"), strict=True):
        axes.set_xscale("log")
        axes.set_xlabel(name)
    panels[0].set_ylabel(f"validation {metric_label(metric)}")
    legend(figure, loc="outside right upper")
    save(figure, path)


def best_rows(cell: Cell) -> Cell:
    """The cell itself, or only the best of its rows by the first metric if a figure cannot hold them all."""
    if len(cell.rows) <= MOST_ROWS:
        return cell
    metric = cell.metrics[0]
    ranked = [row for row in cell.rows if metric in row.scores]
    ranked.sort(key=lambda row: row.scores[metric].mean, reverse=not smaller_is_better(metric))
    kept = {id(row) for row in ranked[:MOST_ROWS]}
    return replace(cell, rows=[row for row in cell.rows if id(row) in kept])


def drawn(figure: document.Figure, draw: Callable[[Path], object], folder: Path) -> document.Figure | str:
    """Draw a figure and return what the document shows: the figure, or a sentence that says why it is missing."""
    try:
        with explained():
            draw(folder / figure.file)
    except OutputError:
        raise  # of the disk, and said with its remedy
    except Exception as error:  # a picture is worth no report
        LOG.warning("the figure %s cannot be drawn (%s: %s)", figure.title, type(error).__name__, error)
        return (
            f"The figure {figure.title} cannot be drawn ({type(error).__name__}: {error}); the tables have its numbers."
        )
    return figure


def _curve(lines: list[dict], metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Epochs from 1, cumulative seconds and values of the validated epochs."""
    lines = [line for line in lines if line["stage"] == "select"]
    seconds = np.cumsum([line["seconds"] for line in lines])
    validated = np.array([index for index, line in enumerate(lines) if line.get(f"valid_{metric}") is not None], int)
    epochs = np.array([lines[index]["epoch"] + 1 for index in validated])
    return epochs, seconds[validated], np.array([lines[index][f"valid_{metric}"] for index in validated])


def styles() -> Iterator[tuple[str, str]]:
    """Pairs of a colour and a dash without end; the first 27 all differ."""
    return cycle((colour, dash) for dash in DASHES for colour in COLOURS)


def new_figure(width: float, height: float) -> Figure:
    """A figure of this size in inches that needs no display."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def legend(figure: Figure, **where: Any) -> None:
    """Add a legend outside of the axes if anything that is drawn has a label."""
    if any(axes.get_legend_handles_labels()[0] for axes in figure.axes):
        figure.legend(**where, frameon=False)


def save(figure: Figure, path: Path) -> None:
    """Write the figure as ``<path>.png`` and ``<path>.svg``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():  # letters of names that no installed font has are boxes
        warnings.filterwarnings("ignore", "Glyph .* missing")
        if layout := figure.get_layout_engine():  # once; saving would do it twice for each file
            layout.execute(figure)
            figure.set_layout_engine(None)
        for kind, about in [("png", {}), ("svg", {"Date": None})]:
            draw = partial(figure.savefig, format=kind, dpi=DPI, metadata=about, transparent=kind == "svg")
            write_whole(path.with_name(f"{path.name}.{kind}"), draw)
