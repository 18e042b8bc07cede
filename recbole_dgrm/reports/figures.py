"""What all figures share: their look, their size, and how they are written as PNG and SVG."""

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import cycle, product
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.path import Path as Line
from matplotlib.text import Annotation
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from matplotlib.transforms import Bbox, BboxBase
from numpy.typing import ArrayLike

from recbole_dgrm.errors import OutputError, explained
from recbole_dgrm.reports import document
from recbole_dgrm.system.files import make_folder, write_whole

LOG = logging.getLogger(__name__)

OKABE_ITO = "#0072b2 #d55e00 #009e73 #cc79a7 #e69f00 #56b4e9"  # told apart by colour-blind readers, too
COLOURS = (*OKABE_ITO.split(), "#7f7f7f", "#8c564b", "#332288")
PALE, GIVEN = (
    "#9db4c4",
    "#8f8f99",
)  # behind others; of given ratings: seen on white, and on black when a page inverts it
DASHES = ("-", "--", ":")
WIDTH, DPI = 4.8, 150  # inches of every figure: a telephone shows four fifths of it, without scrolling
STEPS, DOT = (7, 18, 30, 44), 7  # printer's points from a point to its text; pixels around a point that stay free
Place = tuple[int, tuple[int, int]]  # how far from a point, and on which side: (right, up)
AS_POINTS = 5  # how many points or lines a text covers rather than another text
SIDES = ((1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1), (1, -1), (-1, -1))
HAIR = 1.01  # from the least to the largest number that are to be told apart
MANY = 1e3  # from the low to the high end of a logarithmic axis, that has no room for 2 and 5
REACH = 6.0  # times what half of the values need, that an axis of differences may be long
LEGEND_LINE, LONG = 0.19, 22  # inches of a line; letters of a name that needs a line of its own
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
    """Within the block, figures have our style on top of matplotlib's own, whatever ``matplotlibrc`` lies there."""
    with rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # letters of names that no installed font has are boxes
        rcdefaults()
        rcParams.update(STYLE)
        yield


styled = _style()  # decorates what draws


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


def styles() -> Iterator[tuple[str, str]]:
    """Pairs of a colour and a dash without end; the first 27 all differ."""
    return cycle((colour, dash) for dash in DASHES for colour in COLOURS)


def new_figure(height: float, names: int = 0) -> Figure:
    """A figure of this height in inches, and some more for a legend of so many names, that needs no display."""
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
    """Make the horizontal axis logarithmic, with numbers as people write them; powers of ten from ``many`` on.

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
    """How far from 0 an axis of differences goes: so that a few large ones do not hide all others."""
    sizes = np.abs(np.asarray(values, dtype=float))
    return float(min(sizes.max(), REACH * np.median(sizes)))


def label_points(figure: Figure, axes: Axes, points: Sequence[tuple[float, float, str, str]], needed: int) -> None:
    """Write a text beside each point (x, y, text, colour), in turn where it covers least of points and other texts.

    Args:
        needed: how many of the first points have a text in any case; the others only where it covers nothing.
    """
    figure.draw_without_rendering()  # what an inch is in data follows from the layout
    centres = axes.transData.transform([point[:2] for point in points])
    taken = [Bbox.from_bounds(x - DOT, y - DOT, 2 * DOT, 2 * DOT) for x, y in centres]
    taken += [text.get_window_extent() for text in axes.texts] * AS_POINTS
    lines = [line.get_transform().transform_path(line.get_path()) for line in axes.lines]
    for number, (x, y, text, colour) in enumerate(points):
        where: dict[str, Any] = {"xy": (x, y), "textcoords": "offset points"}
        note = axes.annotate(text, xytext=(0, 0), color=colour, fontsize=9, zorder=4, in_layout=False, **where)
        covers = {place: _covers(note, place, taken, lines, axes.bbox) for place in product(STEPS, SIDES)}
        step, side = place = min(covers, key=lambda place: covers[place])
        if covers[place] and number >= needed:
            note.remove()
            continue
        _put(note, step, side)
        taken += [note.get_window_extent()] * AS_POINTS
        if step > STEPS[0]:
            line = {"arrowstyle": "-", "color": PALE, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 3}
            axes.annotate("", xytext=note.get_position(), arrowprops=line, in_layout=False, **where)


def _covers(note: Annotation, place: Place, taken: list[Bbox], lines: list[Line], frame: BboxBase) -> int:
    """How many boxes and lines a text covers there, with the edge of the frame as another text."""
    _put(note, *place)
    box = note.get_window_extent()
    inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1
    crossed = sum(line.intersects_bbox(box, filled=False) for line in lines)
    return sum(box.overlaps(other) for other in taken) + crossed + AS_POINTS * (not inside)


def _put(note: Annotation, step: int, side: tuple[int, int]) -> None:
    """Put a text so many printer's points to a side of its point."""
    right, up = side
    note.set(position=(step * right, step * up))
    note.set(ha=("center", "left", "right")[right], va=("center", "bottom", "top")[up])


def save(figure: Figure, path: Path) -> None:
    """Write the figure as ``<path>.png`` and ``<path>.svg``."""
    make_folder(path.parent)
    if layout := figure.get_layout_engine():  # once; saving would do it twice for each file
        layout.execute(figure)
        figure.set_layout_engine(None)
    for kind, about in [("png", {}), ("svg", {"Date": None})]:
        draw = partial(figure.savefig, format=kind, dpi=DPI, metadata=about, transparent=kind == "svg")
        write_whole(path.with_name(f"{path.name}.{kind}"), draw)
