"""The figures of a search: its course, its scores over each key, and how much each key matters."""

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from optuna.distributions import CategoricalDistribution
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from recbole_dgrm.evaluation.metric_names import metric_label
from recbole_dgrm.reports import figures
from recbole_dgrm.tuning.study import Study

LONGEST = 24  # letters of a value below an axis


@figures.styled
def history(study: Study, path: Path) -> None:
    """The score of each finished trial and the best so far."""
    figure = figures.new_figure(3.0, 1)
    axes, done = figure.subplots(), finished(study)
    numbers, scores = [trial.number for trial in done], np.array([trial.value for trial in done], float)
    best = (np.maximum if study.bigger else np.minimum).accumulate(scores)
    axes.plot(numbers, scores, "o", color=figures.COLOURS[0], markersize=4, label="trial")
    axes.step(numbers, best, where="post", color=figures.COLOURS[1], label="best so far")
    axes.set(xlabel="trial", ylabel=_score(study))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figures.legend(figure)
    figures.save(figure, path)


@figures.styled
def slices(study: Study, keys: list[str], path: Path) -> None:
    """A panel per key: the scores of the finished trials over its values, later trials darker."""
    figure = figures.new_figure(3.0)
    panels, done = figure.subplots(1, len(keys), sharey=True, squeeze=False)[0], finished(study)
    for axes, key in zip(panels, keys, strict=True):
        values = _places(axes, study.space.distributions[key], [trial.params[key] for trial in done])
        order = [trial.number for trial in done]
        axes.scatter(values, [trial.value for trial in done], c=order, cmap="Blues", edgecolors="grey", linewidths=0.5)
        axes.set_xlabel(key, parse_math=False)
    panels[0].set_ylabel(_score(study))
    figures.save(figure, path)


@figures.styled
def importance(study: Study, path: Path) -> None:
    """A bar per key: its share in the variation of the score."""
    shares = get_param_importances(study.optuna, evaluator=FanovaImportanceEvaluator(seed=study.seed))
    figure = figures.new_figure(0.9 + 0.28 * len(shares))
    axes = figure.subplots()
    axes.barh(range(len(shares)), list(shares.values()), color=figures.COLOURS[0])
    axes.set_yticks(range(len(shares)), list(shares), parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("share in the variation of the score (fANOVA)")
    figures.save(figure, path)


def finished(study: Study) -> list[FrozenTrial]:
    """The trials that have a score, in the order of their numbers."""
    return [trial for trial in study.counted().values() if trial.state == TrialState.COMPLETE]


def tells_importance(study: Study) -> bool:
    """Whether there are several keys, and finished trials whose scores differ."""
    return len(study.space.distributions) > 1 and len({trial.value for trial in finished(study)}) > 1


def _places(axes: Axes, distribution: Any, labels: list[Any]) -> list[Any]:
    """Where the labels lie on the horizontal axis: numbers on a scale of their own, choices side by side."""
    if not isinstance(distribution, CategoricalDistribution):
        if distribution.log:
            axes.set_xscale("log")
        return labels
    names = [str(choice)[:LONGEST] for choice in distribution.choices]
    axes.set_xticks(range(len(names)), names, parse_math=False, rotation=30 if len(names) > 2 else 0)
    axes.set_xlim(-0.5, len(names) - 0.5)
    return [distribution.choices.index(label) for label in labels]


def _score(study: Study) -> str:
    return f"validation {metric_label(study.metric)}"
