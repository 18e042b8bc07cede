"""The figures of a diagnosis, some of them the paper's: distributions by epoch, their course, KS hits, T' steps."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from recbole_dgrm.evaluation.distribution import Sample
from recbole_dgrm.reports.figures import COLOURS, GIVEN, legend, log_axis, new_figure, save, styled, styles
from recbole_dgrm.system.texts import in_figure

COLUMNS = 3  # of panels at most
Curve = tuple[Sequence[float], Sequence[float]]


@styled
def ratings(given: Sample, path: Path) -> None:
    """Fig. 2: how often each rating is given."""
    figure = new_figure(2.8)
    axes = figure.add_subplot()
    axes.bar([f"{level:g}" for level in given.bins.levels], given.shares, color=COLOURS[5])
    axes.set(xlabel="rating", ylabel="share", title=f"{given.mean:.2f} ± {given.std:.2f}")
    save(figure, path)


@styled
def panels(histories: Mapping[str, Mapping[int, Sample]], given: Sample, path: Path) -> None:
    """Figs. 3-6: rows of panels per model, a panel per epoch with predictions before the given ratings."""
    columns, lines = min(COLUMNS, max(map(len, histories.values()))), []
    for name, history in histories.items():
        shown = list(history.items())
        lines += [(name, shown[first : first + columns]) for first in range(0, len(shown), columns)]
    figure = new_figure(1.6 * len(lines) + 0.4)
    grid = figure.subplots(len(lines), columns, squeeze=False, sharex=True)
    levels, centres, borders = given.bins.levels, given.bins.centres, given.bins.borders
    for line, (name, some) in zip(grid, lines, strict=True):
        for axes in line:
            axes.set_yticks([])
            axes.set_visible(False)
        for axes, (epoch, sample) in zip(line, some, strict=False):
            axes.set_visible(True)
            axes.bar(levels, given.shares / given.shares.max(), width=0.8 * np.diff(borders), color=GIVEN)
            heights = sample.counts / sample.counts.max()
            axes.stairs(heights, given.bins.edges, fill=True, color=COLOURS[0], alpha=0.85)
            axes.axvline(np.clip(sample.mean, centres[0], centres[-1]), color=COLOURS[1], linewidth=1)
            axes.set_title(f"epoch {epoch}\n{sample.mean:.2f} ± {sample.std:.2f}", fontsize=9)
        line[0].set_ylabel(in_figure(name))
    for axes in grid[-1]:
        axes.set_xlabel("rating")
    save(figure, path)


@styled
def course(
    curves: Mapping[str, Mapping[tuple[str, str], Curve]],
    collapsed: Mapping[tuple[str, str], Sequence[float]],
    given: Mapping[str, float],
    path: Path,
) -> None:
    """A panel per measure over epochs with a line per model and group; a cross marks what is judged collapsed.

    Args:
        curves: for each measure and (model, group) the epochs and values; groups are solid and dashed.
        collapsed: for each (model, group) the epochs that are judged collapsed.
        given: for each measure the value that the ratings themselves have.
    """
    figure = new_figure(2.0 * len(curves), names=max(map(len, curves.values())))
    grid = figure.subplots(len(curves), 1, squeeze=False, sharex=True)[:, 0]
    models = list(dict.fromkeys(model for lines in curves.values() for model, _ in lines))
    groups = list(dict.fromkeys(group for lines in curves.values() for _, group in lines))
    for axes, (measure, lines) in zip(grid, curves.items(), strict=True):
        for (model, group), (epochs, values) in lines.items():
            colour = COLOURS[models.index(model) % len(COLOURS)]
            dash = ("-", "--", ":")[groups.index(group) % 3]
            label = in_figure(f"{model}, {group}") if axes is grid[0] else None
            axes.plot(epochs, values, color=colour, linestyle=dash, linewidth=1.2, label=label)
            crossed = [(x, y) for x, y in zip(epochs, values, strict=True) if x in collapsed.get((model, group), ())]
            if crossed:
                axes.plot(*zip(*crossed, strict=True), "x", color=colour, markersize=5)
        if measure in given:
            axes.axhline(given[measure], color="black", linewidth=1, linestyle="-.")
        axes.set_title(measure)
    grid[-1].set_xlabel("epoch")
    grid[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure)
    save(figure, path)


@styled
def ks_hits(shares: Mapping[str, tuple[Sequence[float], NDArray]], path: Path) -> None:
    """Fig. 8: the share of users whose predicted and given ratings the KS test does not tell apart, over alpha."""
    figure = new_figure(3.2, names=len(shares))
    axes = figure.add_subplot()
    for (name, (alphas, values)), (colour, dash) in zip(shares.items(), styles(), strict=False):
        axes.plot(alphas, values, color=colour, linestyle=dash, marker="o", markersize=3, label=in_figure(name))
    log_axis(axes)
    axes.set(xlabel="significance level α", ylabel="share of users with p ≥ α", ylim=(0, None))
    legend(figure)
    save(figure, path)


@styled
def sweep(lines: Mapping[str, Curve], metric: str, path: Path) -> None:
    """Fig. 7: a validation metric over the number of denoising steps."""
    figure = new_figure(3.2, names=len(lines))
    axes = figure.add_subplot()
    for (name, (steps, values)), (colour, dash) in zip(lines.items(), styles(), strict=False):
        axes.plot(steps, values, color=colour, linestyle=dash, marker="o", markersize=3, label=in_figure(name))
    axes.set(xlabel="denoising steps T'", ylabel=f"validation {metric}")
    axes.set_xticks(sorted({step for steps, _ in lines.values() for step in steps}))
    legend(figure)
    save(figure, path)


@styled
def bars(panels: Mapping[str, Mapping[str, tuple[float, float, float]]], path: Path) -> None:
    """A panel per measure, a bar per model: value with the lower and the upper end of its interval (or the value)."""
    names = list(dict.fromkeys(name for values in panels.values() for name in values))
    figure = new_figure(len(panels) * (0.8 + 0.3 * len(names)))
    for axes, (measure, values) in zip(
        figure.subplots(len(panels), 1, squeeze=False)[:, 0], panels.items(), strict=True
    ):
        for name, (value, low, high) in values.items():
            place = len(names) - 1 - names.index(name)
            axes.barh(place, value, height=0.7, color=COLOURS[5])
            if high > low:  # resampled users may all lie on one side of the value
                error = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
                axes.errorbar(value, place, xerr=error, color="black", linewidth=1, capsize=2)
        axes.set_yticks(range(len(names)), [in_figure(name) for name in names[::-1]])
        axes.set_title(measure)
    save(figure, path)
