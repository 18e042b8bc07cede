"""Models against the density of data: how accuracy and collapse change as ratings become fewer.

Density is the share of all user-item pairs that are training ratings. Accuracy is told as the distance to user + item
means on the same data, because what can be reached differs from one data set to the next.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from operator import itemgetter
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from recbole_dgrm.evaluation import collapse
from recbole_dgrm.evaluation.metric_names import metric_label
from recbole_dgrm.evaluation.resolution import can_tell
from recbole_dgrm.reports.document import Figure, Heading, Table, Value
from recbole_dgrm.reports.figures import COLOURS, legend, log_axis, new_figure, reach, save, styled
from recbole_dgrm.reports.rows import Cell
from recbole_dgrm.system.texts import in_figure, in_file_name

FEWEST = 3  # densities that a course is drawn through
ACROSS = 3  # panels side by side
PANEL = 1.3  # inches that a row of panels is high
TITLE, TITLE_LINE = 20, 0.13  # letters of a line above a panel, and the inches that it needs
SHAPES = "osDP*Xphd"  # of data sets; triangles are beyond the axis
ROOM = 30.0  # from the low to the high end of the axis of a small panel, that has no room for 2 and 5 beyond
RANKING = "ratedndcg@5"
KEYS = ["protocol", "dataset", "apart", "density"]


@dataclass(frozen=True)
class Question:
    """What is asked of each run.

    Attributes:
        name: of its files and in ``densities.csv``.
        axis: the axis of its figure, with the unit.
        answer: the value of a record; None where it has none.
        metric: the metric that has to tell models apart on the data; empty where none has to.
        form: of a value in a table; with a sign the values are differences from 0.
    """

    name: str
    title: str
    axis: str
    answer: Callable[[Mapping[str, Any]], float | None]
    metric: str = ""
    form: str = ".1f"

    @property
    def signed(self) -> bool:
        """Whether values are differences from 0."""
        return self.form.startswith("+")


def _gain(record: Mapping[str, Any]) -> float | None:
    ours, means = record["test"].get("rmse"), record["reference"].get("bias", {}).get("rmse")
    return 100 * (1 - ours / means) if ours is not None and means else None


def _skill(record: Mapping[str, Any]) -> float | None:
    rows = [record["test"], *(record["reference"].get(name, {}) for name in ("bias", "random", "oracle"))]
    ours, means, random, oracle = (row.get(RANKING) for row in rows)
    known = None not in (ours, means, random, oracle) and oracle != random
    return 100 * (ours - means) / (oracle - random) if known else None


def _distance(record: Mapping[str, Any]) -> float | None:
    return record["test"].get("ratingkl")


def _share(*keys: str) -> Callable[[Mapping[str, Any]], float | None]:
    """What reads a share, in per cent, of the distribution of predictions in a record."""

    def answer(record: Mapping[str, Any]) -> float | None:
        found = record["diagnosis"].get(collapse.DISTRIBUTION, {})
        for key in keys:
            found = found.get(key) if found else None
        return None if found is None else 100 * found

    return answer


QUESTIONS = (
    Question("rmse", "RMSE below that of user + item means", "% below that of the means", _gain, "rmse", "+.1f"),
    Question(
        "ranking",
        f"Skill in {metric_label(RANKING)[:-2]} above that of user + item means",
        "% of the way from random to oracle",
        _skill,
        RANKING,
        "+.1f",
    ),
    Question(
        "ratingkl", "Distance of predicted from given ratings", metric_label("ratingkl")[:-2], _distance, form=".3f"
    ),
    Question(
        "between_users",
        "Variance of all predictions that is between users",
        "% of the variance",
        _share("between_users"),
    ),
    Question("lists", "Recommendation lists that are distinct", "% of the lists", _share("lists", "distinct")),
    Question("items", "Items that are in any recommendation list", "% of the items", _share("lists", "items")),
)


@dataclass(frozen=True, eq=False)
class Densities:
    """What runs answer under one protocol.

    Attributes:
        answers: a row per cell, model and question, the sparsest cell first; ``collapsed`` is how many of its
            runs have collapsed, ``tells`` whether the data can tell models apart by it.
    """

    protocol: str
    answers: pd.DataFrame

    def of(self, question: Question) -> pd.DataFrame:
        """The answers to one question."""
        return self.answers[self.answers["question"] == question.name]

    def questions(self) -> list[Question]:
        """The questions that some run has an answer to."""
        return [question for question in QUESTIONS if len(self.of(question))]


def over_densities(cells: list[Cell]) -> Iterator[Densities]:
    """The densities under each protocol that has ``FEWEST`` of them, where rated items are ranked."""
    rated = [cell for cell in cells if cell.definition.get("mode") == "labeled"]
    for protocol in dict.fromkeys(cell.protocol for cell in rated):
        several = sorted(((density(cell), cell) for cell in rated if cell.protocol == protocol), key=itemgetter(0))
        if len({share for share, _ in several}) >= FEWEST:
            answers = pd.DataFrame([row for share, cell in several for row in _answers(cell, share)])
            if len(answers):
                yield Densities(protocol, answers)


def density(cell: Cell) -> float:
    """The share of the pairs of a cell that are training ratings, in per cent, in the mean over its runs."""
    data = [run.record["data"] for row in cell.rows for run in row.runs]
    return 100 * float(np.mean([one["n_train"] / (one["n_users"] * one["n_items"]) for one in data]))


def _answers(cell: Cell, share: float) -> Iterator[dict[str, Any]]:
    for row in cell.rows:
        verdicts = [collapse.of_record(run.record) for run in row.runs]
        collapsed = sum(verdict is not None and verdict.status == collapse.COLLAPSED for verdict in verdicts)
        for question in QUESTIONS:
            values = [value for run in row.runs if (value := question.answer(run.record)) is not None]
            if len(values) == len(row.runs):
                yield {
                    **dict(zip(KEYS, (cell.protocol, cell.dataset, cell.apart, share), strict=True)),
                    "model": row.label,
                    "question": question.name,
                    "seeds": len(values),
                    "mean": np.mean(values),
                    "std": np.std(values, ddof=1) if len(values) > 1 else np.nan,
                    "collapsed": collapsed,
                    "tells": can_tell(cell.resolution, question.metric),
                }


def section(found: list[Densities]) -> Iterator[Heading | str | Figure | Table]:
    """The sections about densities: a figure and a table per question; nothing where there are few."""
    for one in found:
        yield Heading(f"Against density, {one.protocol}")
        for question in one.questions():
            yield _figure(one, question)
            yield _table(one, question)


def figures(found: list[Densities]) -> Iterator[tuple[Figure, Callable[[Path], None]]]:
    """The figures of the sections, each with the function that draws it."""
    for one in found:
        for question in one.questions():
            yield _figure(one, question), partial(draw, one, question)


def _figure(one: Densities, question: Question) -> Figure:
    stem = in_file_name(one.protocol)[:80]
    said = [
        *(["Above the line is better than user + item means; an arrow is beyond the axis."] if question.signed else []),
        "Means over seeds and standard deviations, over the share of all pairs that are training ratings; data sets of "
        "which a part was left out are joined.",
        *(["Hollow: the data cannot tell models apart."] if question.metric else []),
        "A red cross: a run has collapsed.",
    ]
    return Figure(f"figures/density-{stem}-{question.name}", f"{question.title}, {one.protocol}", " ".join(said))


def _table(one: Densities, question: Question) -> Table:
    answers = one.of(question)
    places = answers[KEYS].drop_duplicates().itertuples(index=False)
    cells = {(place.dataset, place.apart): place.density for place in places}
    rows = []
    for label, of_model in answers.groupby("model", sort=False):
        found = {(row.dataset, row.apart): row for row in of_model.itertuples()}
        rows.append([Value(str(label)), *(_value(found.get(place), question) for place in cells)])
    names = [f"{name}{f' ({apart})' if apart else ''}, {share:.2g} %" for (name, apart), share in cells.items()]
    note = "Columns: the share of all pairs that are training ratings. ×: how many of the runs have collapsed."
    return Table(f"{question.title}, {question.axis}, {one.protocol}", ["", *names], rows, note=note)


def _value(row: Any, question: Question) -> Value:
    if row is None:
        return Value("–")
    spread = f" ± {row.std:{question.form.lstrip('+')}}" if np.isfinite(row.std) else ""
    mark = f"× {row.collapsed}/{row.seeds}" if row.collapsed else ""
    return Value(f"{row.mean:{question.form}}{spread}".replace("-", "−"), row.mean, mark=mark)


@styled
def draw(one: Densities, question: Question, path: Path) -> None:
    """A panel per model: the answer over density, a point per cell, cells of one data set joined by a line."""
    answers = one.of(question)
    models = list(answers["model"].unique())
    looks = dict(zip(answers["dataset"].unique(), zip(cycle(COLOURS), cycle(SHAPES), strict=False), strict=False))
    n_rows = -(-len(models) // ACROSS)
    titles = [fill(in_figure(label), TITLE) for label in models]
    panel = PANEL + TITLE_LINE * max(title.count("\n") for title in titles)
    figure = new_figure(panel * n_rows + 0.5, names=-(-len(looks) // 2))
    grid = figure.subplots(n_rows, ACROSS, sharex=True, sharey=True, squeeze=False).ravel()
    limit = reach(answers["mean"]) or np.inf if question.signed else np.inf
    for axes, label, title in zip(grid, models, titles, strict=False):
        axes.set_title(title, fontsize=8)
        for dataset, course in answers[answers["model"] == label].groupby("dataset", sort=False):
            colour, shape = looks[dataset]
            _course(axes, course, colour, shape, limit)
        if question.signed:
            axes.axhline(0, color="black", linewidth=1, zorder=1)
    for place, axes in enumerate(grid[: len(models)]):
        log_axis(axes, ROOM)
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.tick_params(labelsize=8)
        if place + ACROSS >= len(models):  # nothing stands below it
            axes.tick_params(labelbottom=True)
            axes.set_xlabel("% of pairs rated (log)", fontsize=8)
    for axes in grid[len(models) :]:
        axes.set_axis_off()
    for dataset, (colour, shape) in looks.items():
        grid[0].plot([], [], shape, color=colour, label=in_figure(dataset))
    figure.supylabel(question.axis, fontsize=9)
    legend(figure)
    save(figure, path)


def _course(axes: Axes, course: pd.DataFrame, colour: str, shape: str, limit: float) -> None:
    """The points of a model on one data set, the sparsest first, with the deviation over seeds where there is one."""
    height = course["mean"].clip(-limit, limit)
    axes.plot(course["density"], height, color=colour, linewidth=1, zorder=2)
    for row, y in zip(course.itertuples(), height, strict=True):
        beyond = "^" if row.mean > limit else "v" if row.mean < -limit else shape
        filled = colour if row.tells else "white"
        axes.plot(row.density, y, beyond, color=colour, markerfacecolor=filled, markersize=5, zorder=3)
        if np.isfinite(row.std):
            ends = np.clip([row.mean - row.std, row.mean + row.std], -limit, limit)
            axes.plot([row.density] * 2, ends, color=colour, linewidth=1.4, zorder=2)
        if row.collapsed:
            axes.plot(row.density, y, "x", color="#c00000", markersize=9, markeredgewidth=1.5, zorder=4)
