"""Shared parts of all figures: style, size, kinds of panels, and writing PNG and SVG files."""

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator
from numpy.typing import ArrayLike

from recbole_dgrm.system.files import make_folder, write_whole
from recbole_dgrm.system.texts import in_figure

OKABE_ITO = "#0072b2 #d55e00 #009e73 #cc79a7 #e69f00 #56b4e9"  # colour-blind readers can distinguish these
COLOURS = (*OKABE_ITO.split(), "#7f7f7f", "#8c564b", "#332288")
GIVEN = "#8f8f99"  # the colour of given ratings and baselines; visible on white, and on black if a page inverts it
DARK, RED = "#5f5f66", "#c00000"
DASHES = ("-", "--", ":")
WIDTH, DPI = 4.8, 150  # width of every figure in inches; readable on a telephone without scrolling
HAIR = 1.01  # ends of a logarithmic axis with a smaller ratio are treated as equal
MANY = 1e3  # a logarithmic axis with a larger ratio of its ends has no labels at 2 and 5
REACH = 6.0  # an axis of differences is at most this many times as long as half of the values need
LEGEND_LINE, LONG = 0.19, 22  # height of a legend line in inches; longer names have their own line
ACROSS = 3  # small panels in a row
PANEL, PANEL_DECADES = 1.3, 30.0  # height of a row of small panels in inches; ``MANY`` for their axes
TITLE, TITLE_LINE = 20, 0.13  # letters of a title line above a small panel, and its height in inches
LABEL = 22  # letters of the label of the vertical axis that fit next to a small panel
DOT_LINE = 0.27  # height of a row of dots in inches
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 10,
    "figure.constrained_layout.h_pad": 0.08,  # inches between panels
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "recbole_dgrm",  # the same figure is the same file
}


@contextmanager
def _style() -> Iterator[None]:
    """Within the block, figures have our style on top of matplotlib's default, independent of ``matplotlibrc``."""
    with rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # letters of names that no installed font has are boxes
        rcdefaults()
        rcParams.update(STYLE)
        yield


styled = _style()  # a decorator of functions that draw figures


def styles() -> Iterator[tuple[str, str]]:
    """An endless series of pairs of a colour and a dash; the first 27 differ."""
    return cycle((colour, dash) for dash in DASHES for colour in COLOURS)


def new_figure(height: float, names: int = 0) -> Figure:
    """A figure of this height in inches plus that of a legend; it needs no display."""
    figure = Figure(figsize=(WIDTH, height + LEGEND_LINE * names), dpi=DPI, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def legend(figure: Figure) -> None:
    """Add a legend below the axes if anything that is drawn has a label."""
    names = [name for axes in figure.axes for name in axes.get_legend_handles_labels()[1]]
    if names:
        columns = 1 if max(map(len, names)) > LONG else 2
        figure.legend(loc="outside lower center", ncols=min(columns, len(names)), frameon=False)


def log_axis(axes: Axes, many: float = MANY) -> None:
    """Make the horizontal axis logarithmic, with plain numbers as labels; powers of ten from ``many`` on.

    Panels that share the axis are to have their data by then.
    """
    sharing = axes.get_shared_x_axes().get_siblings(axes)
    ends = [end for each in sharing for end in each.dataLim.intervalx if np.isfinite(end)]
    if ends and max(ends) < HAIR * min(ends):  # matplotlib rounds the ends of such an axis to one number, and warns
        axes.set_xlim(min(ends) / 2, max(ends) * 2)
    axes.set_xscale("log")
    low, high = axes.get_xlim()
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < many * low else (1,)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def reach(values: ArrayLike) -> float:
    """The limit of an axis of differences, so that a few large values do not hide the differences between others."""
    sizes = np.abs(np.asarray(values, dtype=float))
    return float(min(sizes.max(), REACH * np.median(sizes)))


@contextmanager
def small_panels(
    path: Path, names: Sequence[str], xlabel: str, ylabel: str, log: bool = False, legend_names: int = 0
) -> Iterator[dict[str, Axes]]:
    """A figure with a small panel for each name, three in a row, which share their axes.

    The caller draws into the panels within the block; the figure is written at its end.

    Args:
        path: of the two files, without the suffix.
        log: whether the horizontal axis is logarithmic.
        legend_names: how many names the legend has.
    """
    with _style():
        n_rows = -(-len(names) // ACROSS)
        titles = [fill(in_figure(name), TITLE) for name in names]
        height = PANEL + TITLE_LINE * max(title.count("\n") for title in titles)
        figure = new_figure(height * n_rows + 0.5, names=-(-legend_names // 2))
        grid = figure.subplots(n_rows, ACROSS, sharex=True, sharey=True, squeeze=False).ravel()
        yield dict(zip(names, grid, strict=False))
        for axes, title in zip(grid, titles, strict=False):
            axes.set_title(title, fontsize=8)
            if log:
                log_axis(axes, PANEL_DECADES)
            else:
                axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.yaxis.set_major_locator(MaxNLocator(4))
            axes.tick_params(labelsize=8)
        for axes in grid[max(0, len(names) - ACROSS) : len(names)]:  # no panel is below these
            axes.tick_params(labelbottom=True)
            axes.set_xlabel(f"{xlabel} (log)" if log else xlabel, fontsize=8)
        for axes in grid[len(names) :]:
            axes.set_axis_off()
        figure.supylabel(fill(ylabel, LABEL * n_rows), fontsize=9)
        legend(figure)
        save(figure, path)


@dataclass(frozen=True)
class Dot:
    """A row of a panel of dots: a value, the ends of its interval (NaN without one), and the text at the right."""

    label: str
    value: float
    low: float
    high: float
    text: str
    shape: str = "o"
    filled: bool = True
    colour: str = COLOURS[0]


@dataclass(frozen=True)
class DotPanel:
    """Dots from top to bottom, with the name of their axis.

    Attributes:
        line: where a vertical line is.
        limit: a dot that is farther from 0 is an arrow at the end of the axis.
        descending: whether smaller values are at the right.
    """

    dots: list[Dot]
    xlabel: str
    line: float | None = None
    limit: float = math.inf
    descending: bool = False


@styled
def dot_panels(panels: Sequence[DotPanel], path: Path) -> None:
    """Draw panels of dots with intervals, one below the other."""
    heights = [len(panel.dots) + 2.6 for panel in panels]
    figure = new_figure(DOT_LINE * sum(heights))
    grid = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, panel in zip(grid, panels, strict=True):
        _draw_dots(axes, panel)
    save(figure, path)


def _draw_dots(axes: Axes, panel: DotPanel) -> None:
    limit = panel.limit
    for row, dot in enumerate(panel.dots):
        beyond = abs(dot.value) > limit
        shape = ("<" if (dot.value < 0) != panel.descending else ">") if beyond else dot.shape
        if math.isfinite(dot.low):
            axes.plot(np.clip([dot.low, dot.high], -limit, limit), [row, row], color=dot.colour, linewidth=1.6)
        face = dot.colour if dot.filled or beyond else "white"
        at = float(np.clip(dot.value, -limit, limit))
        axes.plot(at, row, shape, color=dot.colour, markerfacecolor=face, markersize=6, zorder=3)
        at_right: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "va": "center", "annotation_clip": False}
        axes.annotate(dot.text.replace("-", "−"), (1.02, row), **at_right)
    axes.set_yticks(range(len(panel.dots)), [fill(dot.label, 24) for dot in panel.dots])
    for name in axes.get_yticklabels():
        name.set_fontsize(8 if "\n" in name.get_text() else 10)  # two lines fit between their neighbours
    axes.set_ylim(len(panel.dots) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(3))  # four of -0.012 touch
    axes.ticklabel_format(axis="x", style="plain", useOffset=False)  # a power of ten would cover the axis's name
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.06)
    if panel.line is not None:
        axes.axvline(panel.line, color="black", linewidth=1)
    if panel.descending:
        axes.invert_xaxis()
    axes.set_xlabel(panel.xlabel)


def save(figure: Figure, path: Path) -> None:
    """Write the figure as ``<path>.png`` and ``<path>.svg``."""
    make_folder(path.parent)
    if layout := figure.get_layout_engine():  # once; saving would do it twice for each file
        layout.execute(figure)
        figure.set_layout_engine(None)
    for kind, about in [("png", {}), ("svg", {"Date": None})]:
        draw = partial(figure.savefig, format=kind, dpi=DPI, metadata=about, transparent=kind == "svg")
        write_whole(path.with_name(f"{path.name}.{kind}"), draw)
