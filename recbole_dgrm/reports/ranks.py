"""Models over many data sets: mean ranks, and which of them no test tells apart (a critical-difference diagram).

Demsar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 2006, with the pairwise tests that
Benavoli, Corani and Mangili, "Should We Really Use Post-Hoc Tests Based on Mean-Ranks?", JMLR 2016, put in the place of
Nemenyi's: whether two models differ does not depend on which others stand beside them.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import friedmanchisquare, rankdata, wilcoxon

from recbole_dgrm.evaluation.metric_names import metric_label, smaller_is_better
from recbole_dgrm.evaluation.resolution import can_tell
from recbole_dgrm.reports.document import Figure, Heading
from recbole_dgrm.reports.figures import COLOURS, new_figure, save, styled
from recbole_dgrm.reports.rows import Cell
from recbole_dgrm.reports.significance import DECIMALS, SIGNIFICANT, holm
from recbole_dgrm.system.texts import in_figure, in_file_name

FEWEST = 5  # data sets that a rank is a mean of
LINE = 0.3  # inches that a model is high


CAPTION = (
    "Mean rank over data sets, 1 is the best. Bars join models of whom no two are found to differ: Wilcoxon's signed "
    "rank test over data sets, corrected by Holm for all pairs. A data set counts once, with its mean over splits, "
    "because splits of one set are not independent."
)


@dataclass(frozen=True)
class Ranks:
    """How models rank over data sets, the best first.

    Attributes:
        values: the means over splits by data set and model, ``(D, M)``.
        left_out: models that some of the data sets lack.
    """

    protocol: str
    metric: str
    datasets: list[str]
    models: list[str]
    values: NDArray
    left_out: list[str]

    @property
    def mean(self) -> NDArray:
        """The mean rank of each model, 1 is the best; those that are equal share their ranks, ``(M,)``."""
        sign = 1 if smaller_is_better(self.metric) else -1
        return rankdata(sign * self.values.round(DECIMALS), axis=1).mean(axis=0)

    def friedman(self) -> float:
        """P-value of Friedman's test that all models rank alike."""
        return float(friedmanchisquare(*self.values.T.round(DECIMALS)).pvalue)

    def different(self) -> NDArray:
        """Which pairs differ by Wilcoxon's test over data sets after Holm's correction for all pairs, ``(M, M)``."""
        pairs = list(combinations(range(len(self.models)), 2))
        columns = self.values.T
        gaps = [(columns[one] - columns[other]).round(DECIMALS) for one, other in pairs]
        p = holm(np.array([wilcoxon(gap).pvalue if gap.any() else 1.0 for gap in gaps]))
        found = np.zeros((len(self.models),) * 2, dtype=bool)
        for (one, other), value in zip(pairs, p, strict=True):
            found[one, other] = found[other, one] = value < SIGNIFICANT
        return found

    def cliques(self) -> list[tuple[int, int]]:
        """The first and last of each longest row of neighbours in rank of whom no two are found to differ."""
        different, found = self.different(), list[tuple[int, int]]()
        for first in range(len(self.models)):
            last = first
            while last + 1 < len(self.models) and not different[first : last + 1, last + 1].any():
                last += 1
            if last > first and (not found or last > found[-1][1]):
                found.append((first, last))
        return found

    def can_differ(self) -> bool:
        """Whether there are data sets enough for the test of a single pair to pass Holm's correction."""
        pairs = len(self.models) * (len(self.models) - 1) / 2
        return 2.0 ** (1 - len(self.datasets)) * pairs < SIGNIFICANT


def over_datasets(cells: list[Cell]) -> Iterator[Ranks]:
    """The ranks under each protocol with ``FEWEST`` data sets and two models that all of them have."""
    protocols: dict[str, dict[str, Cell]] = {}
    for cell in cells:  # the usual definition of a data set stands first
        protocols.setdefault(cell.protocol, {}).setdefault(cell.dataset, cell)
    for protocol, by_dataset in protocols.items():
        if len(by_dataset) >= FEWEST and (ranks := _ranks(protocol, by_dataset)):
            yield ranks


def _ranks(protocol: str, cells: dict[str, Cell]) -> Ranks | None:
    several = list(cells.values())
    shared = [metric for metric in several[0].metrics if all(metric in cell.metrics for cell in several)]
    telling = [metric for metric in shared if all(can_tell(cell.resolution, metric) for cell in several)]
    if not shared:
        return None
    metric = (telling or shared)[0]
    found = [{row.label: row.scores[metric].mean for row in cell.rows if metric in row.scores} for cell in several]
    every = list(dict.fromkeys(label for scores in found for label in scores))
    models = [label for label in every if all(label in scores for scores in found)]
    if len(models) < 2:
        return None
    values = np.array([[scores[label] for label in models] for scores in found])
    left_out = [label for label in every if label not in models]
    order = np.argsort(Ranks(protocol, metric, list(cells), models, values, left_out).mean, kind="stable")
    return Ranks(protocol, metric, list(cells), [models[place] for place in order], values[:, order], left_out)


def section(cells: list[Cell]) -> Iterator[Heading | str | Figure]:
    """The section about all data sets; nothing where there are few."""
    found = list(over_datasets(cells))
    if found:
        yield Heading("Over all data sets")
    for ranks in found:
        yield sentence(ranks)
        yield _figure(ranks)


def figures(cells: list[Cell]) -> Iterator[tuple[Figure, Callable[[Path], None]]]:
    """The figures of the section, each with the function that draws it."""
    return ((_figure(ranks), partial(diagram, ranks)) for ranks in over_datasets(cells))


def _figure(ranks: Ranks) -> Figure:
    stem = in_file_name(ranks.protocol)[:80]
    return Figure(f"figures/ranks-{stem}", f"Mean ranks, {ranks.protocol}", CAPTION)


def sentence(ranks: Ranks) -> str:
    """Who ranks best and from whom it is told apart, and what that rests on."""
    name, mean, different = metric_label(ranks.metric)[:-2], ranks.mean, ranks.different()
    said = [
        f"{ranks.protocol}, {name} over {len(ranks.datasets)} data sets ({', '.join(ranks.datasets)}): "
        f"{ranks.models[0]} has the best mean rank, {mean[0]:.2f} of {len(ranks.models)}"
    ]
    beaten = [label for label, differs in zip(ranks.models, different[0], strict=True) if differs]
    if len(ranks.models) > 2:
        said.append(f"that all rank alike has p = {ranks.friedman():.2g} (Friedman)")
    if beaten:
        said.append(f"it differs from {', '.join(beaten)} (Wilcoxon over data sets, Holm's correction for all pairs)")
    elif ranks.can_differ():
        said.append("it differs from none (Wilcoxon over data sets, Holm's correction for all pairs)")
    else:
        said.append(
            f"{len(ranks.datasets)} data sets are too few for Wilcoxon's test to tell any two of "
            f"{len(ranks.models)} models apart after Holm's correction, whatever the numbers"
        )
    if ranks.left_out:
        said.append(f"not on all data sets, and left out: {', '.join(ranks.left_out)}")
    return "; ".join(said) + "."


@styled
def diagram(ranks: Ranks, path: Path) -> None:
    """A row per model with its mean rank, and a bar at the right for each group that no test tells apart."""
    models, mean, cliques = ranks.models, ranks.mean, ranks.cliques()
    figure = new_figure(LINE * len(models) + 0.8)
    axes = figure.add_subplot()
    axes.hlines(range(len(models)), 1, mean, color="#c4c4cc", linewidth=1)
    axes.plot(mean, range(len(models)), "o", color=COLOURS[0], markersize=6)
    for place, value in enumerate(mean):
        axes.annotate(f"{value:.2f}", (value, place), (7, 0), textcoords="offset points", va="center")
    for number, (first, last) in enumerate(cliques):
        x = 1.04 + 0.035 * number
        bar = axes.plot([x, x], [first - 0.2, last + 0.2], color=COLOURS[1], linewidth=3.5, solid_capstyle="butt")
        bar[0].set(transform=axes.get_yaxis_transform(), clip_on=False)
    axes.set_yticks(range(len(models)), [in_figure(label) for label in models])
    axes.set(xlim=(1, len(models) + 0.15 * len(models)), ylim=(len(models) - 0.5, -0.5))
    axes.set_xticks(range(1, len(models) + 1))
    axes.set_xlabel(f"mean rank by {metric_label(ranks.metric)[:-2]}   (← better)")
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    save(figure, path)
