"""Models against the density of data: how accuracy and collapse change as ratings become fewer.

Density is the share of all user-item pairs that are training ratings. Accuracy is the distance to user + item means on
the same data, because what can be reached differs from one data set to the next.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from recbole_dgrm.evaluation import collapse
from recbole_dgrm.evaluation.metric_names import metric_label
from recbole_dgrm.evaluation.resolution import is_precise
from recbole_dgrm.reports.document import Figure, Heading, Table, Value
from recbole_dgrm.reports.figures import COLOURS, RED, reach, small_panels
from recbole_dgrm.reports.rows import Cell
from recbole_dgrm.system.texts import in_figure, in_file_name

FEWEST = 3  # densities that a figure needs
SHAPES = "osDP*Xphd"  # of data sets; triangles are beyond the axis
RANKING = "ratedndcg@5"
KEYS = ["protocol", "dataset", "distinction", "density"]
EXPLAINED = (
    "A panel per model. Each point is the mean over seeds, with the standard deviation, against the share of all "
    "user-item pairs that are training ratings; a line joins a data set with parts of itself, from which ratings were "
    "left out. A red cross: a run has collapsed. A triangle: the value is beyond the axis. Hollow: the metric is too "
    "noisy on these data to compare models."
)


@dataclass(frozen=True)
class Question:
    """A quantity that ``answers_of`` computes for each run.

    Attributes:
        name: of its files and in ``densities.csv``.
        unit: of the vertical axis of its figure.
        metric: the metric that has to be precise enough on the data; empty where none has to.
        form: of a value in a table; with a sign the values are differences from 0.
        bounded: whether values have an upper end; the axis of others is cut where a few are far from all others.
    """

    name: str
    title: str
    unit: str
    metric: str = ""
    form: str = ".1f"
    bounded: bool = True

    @property
    def signed(self) -> bool:
        """Whether values are differences from 0."""
        return self.form.startswith("+")


SKILL = f"Skill in {metric_label(RANKING)[:-2]} above that of user + item means"
QUESTIONS = (
    Question("rmse", "RMSE below that of user + item means", "% below that of the means", "rmse", "+.1f", False),
    Question("ranking", SKILL, "% of the way from random to oracle", RANKING, "+.1f", False),
    Question("ratingkl", "Distance of predicted from given ratings", "RatingKL", form=".3f", bounded=False),
    Question("between_users", "Variance of all predictions that is between users", "% of the variance"),
    Question("lists", "Recommendation lists that are distinct", "% of the lists"),
    Question("items", "Items that are in any recommendation list", "% of the items"),
)


def answers_of(record: Mapping[str, Any]) -> dict[str, float]:
    """The value of each question for a run; not finite if the record lacks what it needs."""
    scores = pd.DataFrame({"model": record["test"], **record["reference"]}, ["rmse", RANKING, "ratingkl"], dtype=float)
    scores = scores.reindex(columns=["model", "bias", "random", "oracle"])
    rmse, ranking = scores.loc["rmse"], scores.loc[RANKING]
    distribution = record["diagnosis"].get(collapse.DISTRIBUTION, {})
    lists = distribution.get("lists", {})
    shares = distribution.get("between_users"), lists.get("distinct"), lists.get("items")
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            "rmse": 100 * (1 - rmse["model"] / rmse["bias"]),
            "ranking": 100 * (ranking["model"] - ranking["bias"]) / (ranking["oracle"] - ranking["random"]),
            "ratingkl": scores.loc["ratingkl", "model"],
            **dict(zip(("between_users", "lists", "items"), 100 * np.array(shares, dtype=float), strict=True)),
        }


def density_answers(cells: list[Cell]) -> pd.DataFrame:
    """The quantities of runs under each protocol that ranks rated items and has at least ``FEWEST`` densities.

    Returns:
        A row per cell, model and question, the sparsest cell first; ``collapsed`` is how many of its runs have
        collapsed, ``precise`` whether the metric is precise enough on the data. Empty where there are few densities.
    """
    rated = [cell for cell in cells if cell.definition.get("mode") == "labeled"]
    answers = []
    for protocol in dict.fromkeys(cell.protocol for cell in rated):
        several = sorted(((density(cell), cell) for cell in rated if cell.protocol == protocol), key=itemgetter(0))
        if len({share for share, _ in several}) >= FEWEST:
            answers += [row for share, cell in several for row in _answers(cell, share)]
    return pd.DataFrame(answers)


def density(cell: Cell) -> float:
    """The share of the pairs of a cell that are training ratings, in per cent, averaged over its runs."""
    data = [record["data"] for record in cell.records]
    return 100 * float(np.mean([one["n_train"] / (one["n_users"] * one["n_items"]) for one in data]))


def _answers(cell: Cell, share: float) -> Iterator[dict[str, Any]]:
    for row in cell.rows:
        verdicts = [collapse.of_record(run.record) for run in row.runs]
        collapsed = sum(verdict is not None and verdict.status == collapse.COLLAPSED for verdict in verdicts)
        answers = pd.DataFrame([answers_of(run.record) for run in row.runs])
        for question in QUESTIONS:
            values = answers[question.name].to_numpy()
            if np.isfinite(values).all():
                yield {
                    **dict(zip(KEYS, (cell.protocol, cell.dataset, cell.distinction, share), strict=True)),
                    "model": row.label,
                    "question": question.name,
                    "seeds": len(values),
                    "mean": np.mean(values),
                    "std": np.std(values, ddof=1) if len(values) > 1 else np.nan,
                    "collapsed": collapsed,
                    "precise": is_precise(cell.resolution, question.metric),
                }


def density_section(answers: pd.DataFrame) -> Iterator[Heading | str | Figure | Table]:
    """The part of a report about the answers: for each protocol a figure and a table per question."""
    for protocol, of_protocol in answers.groupby("protocol", sort=False) if len(answers) else ():
        yield Heading(f"Against density, {protocol}")
        yield EXPLAINED
        asked = [(each, part) for each in QUESTIONS if len(part := of_protocol[of_protocol["question"] == each.name])]
        for question, part in asked:
            file = f"figures/density-{in_file_name(str(protocol))[:80]}-{question.name}"
            caption = f"{question.title}.{' A point above the line is better than the means.' * question.signed}"
            yield Figure(file, f"{question.title}, {protocol}", caption, partial(draw, part, question))
        for question, part in asked:
            yield _table(part, question, str(protocol))


def _table(answers: pd.DataFrame, question: Question, protocol: str) -> Table:
    data = answers["dataset"] + answers["distinction"].map(lambda words: f" ({words})" if words else "")
    columns = data + answers["density"].map(", {:.2g} %".format)
    values = [_value(row, question) for row in answers.itertuples()]
    wide = answers.assign(column=columns, value=values).pivot(index="model", columns="column", values="value")
    wide = wide.loc[answers["model"].unique(), columns.unique()].rename_axis(None)
    note = "Columns: the share of all pairs that are training ratings. ×: how many of the runs have collapsed."
    title = f"{question.title}, {question.unit}, {protocol}"
    return Table.of_frame(title, wide, note=note, mark=f"density-{protocol}-{question.name}")


def _value(row: Any, question: Question) -> Value:
    spread = f" ± {row.std:{question.form.lstrip('+')}}" if np.isfinite(row.std) else ""
    mark = f"× {row.collapsed}/{row.seeds}" if row.collapsed else ""
    return Value(f"{row.mean:{question.form}}{spread}".replace("-", "−"), row.mean, mark=mark)


def draw(answers: pd.DataFrame, question: Question, path: Path) -> None:
    """A panel per model: the answer over density, a point per cell, cells of one data set joined by a line."""
    models = list(answers["model"].unique())
    looks = dict(zip(answers["dataset"].unique(), zip(cycle(COLOURS), cycle(SHAPES), strict=False), strict=False))
    limit = np.inf if question.bounded else reach(answers["mean"]) or np.inf
    with small_panels(path, models, "% of pairs rated", question.unit, log=True, legend_names=len(looks)) as panels:
        for (label, dataset), points in answers.groupby(["model", "dataset"], sort=False):
            _draw_points(panels[label], points, looks[dataset], limit)
        for axes in panels.values():
            if question.signed:
                axes.axhline(0, color="black", linewidth=1, zorder=1)
        for dataset, (colour, shape) in looks.items():
            panels[models[0]].plot([], [], shape, color=colour, label=in_figure(dataset))


def _draw_points(axes: Axes, points: pd.DataFrame, look: tuple[str, str], limit: float) -> None:
    """Draw the points of a model on one data set, the sparsest first, with deviations over seeds if there are any."""
    colour, shape = look
    height = points["mean"].clip(-limit, limit)
    axes.plot(points["density"], height, color=colour, linewidth=1, zorder=2)
    for row, y in zip(points.itertuples(), height, strict=True):
        beyond = "^" if row.mean > limit else "v" if row.mean < -limit else shape
        face = colour if row.precise else "white"
        axes.plot(row.density, y, beyond, color=colour, markerfacecolor=face, markersize=5, zorder=3)
        if np.isfinite(row.std):
            ends = np.clip([row.mean - row.std, row.mean + row.std], -limit, limit)
            axes.plot([row.density] * 2, ends, color=colour, linewidth=1.4, zorder=2)
        if row.collapsed:
            axes.plot(row.density, y, "x", color=RED, markersize=9, markeredgewidth=1.5, zorder=4)
