"""The figures of a diagnosis: distributions by epoch, their distance over training, KS hits, denoising steps.

Each is drawn from the frame that its section writes as CSV.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from recbole_dgrm.evaluation.distribution import Sample
from recbole_dgrm.reports import figures
from recbole_dgrm.reports.figures import COLOURS, GIVEN, RED, Dot, DotPanel
from recbole_dgrm.system.texts import in_figure

COLUMNS, EPOCHS = 3, 6  # panels side by side, and of one model, in a figure of distributions


@figures.styled
def distributions(predictions: pd.DataFrame, given: Sample, path: Path) -> None:
    """Figs. 2-6: a panel per model and chosen epoch with the predictions in front of the given ratings."""
    chosen = {
        model: spread_evenly(list(of_model["epoch"].unique()))
        for model, of_model in predictions.groupby("model", sort=False)
    }
    columns = min(COLUMNS, max(map(len, chosen.values())))
    lines = [
        (model, epochs[first : first + columns])
        for model, epochs in chosen.items()
        for first in range(0, len(epochs), columns)
    ]
    figure = figures.new_figure(1.6 * len(lines) + 0.4)
    grid = figure.subplots(len(lines), columns, squeeze=False, sharex=True)
    bins, groups = given.bins, dict(iter(predictions.groupby(["model", "epoch"])))
    for row, (model, epochs) in zip(grid, lines, strict=True):
        row[0].set_ylabel(in_figure(model))
        for axes, epoch in zip(row, epochs, strict=False):
            sample = groups[model, epoch]
            mean, std = sample[["mean", "std"]].iloc[0]
            axes.bar(bins.levels, given.shares / given.shares.max(), width=0.8 * np.diff(bins.borders), color=GIVEN)
            axes.stairs(sample["count"] / sample["count"].max(), bins.edges, fill=True, color=COLOURS[0], alpha=0.85)
            axes.axvline(np.clip(mean, bins.centres[0], bins.centres[-1]), color=COLOURS[1], linewidth=1)
            axes.set_title(f"epoch {epoch}\n{mean:.2f} ± {std:.2f}", fontsize=9)
            axes.set_yticks([])
        for axes in row[len(epochs) :]:
            axes.set_visible(False)
    for axes in grid[-1]:
        axes.set_xlabel("rating")
    figures.save(figure, path)


def spread_evenly(epochs: list[int], most: int = EPOCHS) -> list[int]:
    """At most so many of the epochs, evenly spaced from the first to the last."""
    chosen = np.unique(np.linspace(0, len(epochs) - 1, min(most, len(epochs))).round().astype(int))
    return [epochs[index] for index in chosen]


def training(curves: pd.DataFrame, measure: str, path: Path) -> None:
    """A panel per model: a measure over epochs, for rated and unrated pairs; a cross marks a collapse."""
    limit = figures.reach(curves[measure]) or np.inf
    models = list(curves["model"].unique())
    with figures.small_panels(path, models, "epoch", measure, legend_names=2) as panels:
        for (model, group), line in curves.groupby(["model", "group"], sort=False):
            colour, dash = (COLOURS[0], "-") if group == "rated" else (COLOURS[1], "--")
            label = f"{group} pairs" if model == models[0] else None
            height = line[measure].clip(upper=limit)
            panels[model].plot(line["epoch"], height, color=colour, linestyle=dash, linewidth=1.4, label=label)
            panels[model].plot(
                line["epoch"][line["collapsed"]], height[line["collapsed"]], "x", color=RED, markersize=5
            )


def distances(found: pd.DataFrame, names: dict[str, str], path: Path) -> None:
    """A panel per distance: a dot per model with its interval over users, the closest on top."""
    panels = []
    for name, title in names.items():
        dots = [
            Dot(in_figure(row.model), row.value, min(row.low, row.value), max(row.high, row.value), f"{row.value:.3f}")
            for row in found[found["distance"] == name].sort_values("value", kind="stable").itertuples()
        ]
        panels.append(DotPanel(dots, f"{title}   (← closer)"))
    figures.dot_panels(panels, path)


@figures.styled
def denoising_steps(swept: pd.DataFrame, path: Path) -> None:
    """Fig. 7: a line per model; a row of panels per metric, and a column per kind of prediction."""
    metrics, kinds = swept.columns[3:], list(swept["prediction"].unique())
    styles = dict(zip(swept["model"].unique(), figures.styles(), strict=False))
    figure = figures.new_figure(0.8 + 1.7 * len(metrics), names=len(styles))
    grid = figure.subplots(len(metrics), len(kinds), sharex=True, squeeze=False)
    for kind, panels in zip(kinds, grid.T, strict=True):
        panels[0].set_title(kind)
        panels[-1].set_xlabel("denoising steps T'")
        panels[-1].set_xticks(sorted(swept["denoising_steps"].unique()))
        for model, line in swept[swept["prediction"] == kind].groupby("model", sort=False):
            colour, dash = styles[model]
            for axes, metric in zip(panels, metrics, strict=True):
                label = in_figure(model) if axes is grid[0, -1] else None  # every model has the last kind
                style = {"color": colour, "linestyle": dash, "marker": "o", "markersize": 3}
                axes.plot(line["denoising_steps"], line[metric], label=label, **style)
    for axes, metric in zip(grid[:, 0], metrics, strict=True):
        axes.set_ylabel(metric)
    figures.legend(figure)
    figures.save(figure, path)


@figures.styled
def lines(frame: pd.DataFrame, xlabel: str, ylabel: str, path: Path, log: bool = False) -> None:
    """A line per name in the first column of a frame: its last column over the one before."""
    name, x, y = (frame.columns[place] for place in (0, -2, -1))
    figure = figures.new_figure(3.2, names=frame[name].nunique())
    axes = figure.add_subplot()
    for (label, line), (colour, dash) in zip(frame.groupby(name, sort=False), figures.styles(), strict=False):
        axes.plot(line[x], line[y], color=colour, linestyle=dash, marker="o", markersize=3, label=in_figure(label))
    if log:
        figures.log_axis(axes)
    else:
        axes.set_xticks(sorted(frame[x].unique()))
    axes.set(xlabel=xlabel, ylabel=ylabel)
    figures.legend(figure)
    figures.save(figure, path)
