"""The figures of a search: Optuna's plots, in the style of our other figures."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from warnings import catch_warnings

from matplotlib import RcParams, get_backend, pyplot, rcParams, style
from matplotlib.ticker import MaxNLocator
from optuna.importance import FanovaImportanceEvaluator
from optuna.trial import TrialState
from optuna.visualization import matplotlib as plots

from recbole_dgrm.evaluation.metric_names import metric_label
from recbole_dgrm.reports import figures
from recbole_dgrm.tuning.study import Study

ASKED_FOR = "ggplot"  # the style that Optuna's plots switch on


@figures.styled
def history(study: Study, path: Path) -> None:
    """The score of each finished trial and the best so far."""
    with _pyplot(3.4):
        axes = plots.plot_optimization_history(study.optuna, target_name=_score(study))
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        figures.legend(pyplot.gcf())
        _save(path)


@figures.styled
def slices(study: Study, keys: list[str], path: Path) -> None:
    """A panel per key: the scores of the finished trials over its values."""
    with _pyplot(3.0):
        plots.plot_slice(study.optuna, keys, target_name=_score(study))
        _save(path)


@figures.styled
def importance(study: Study, path: Path) -> None:
    """A bar per key: its share in the variation of the score."""
    with _pyplot(0.9 + 0.28 * len(study.space.distributions)):
        axes = plots.plot_param_importances(study.optuna, FanovaImportanceEvaluator(seed=study.seed))
        axes.set(xlabel="share in the variation of the score (fANOVA)", ylabel="")
        _save(path)


def tells_importance(study: Study) -> bool:
    """Whether there are several keys, and finished trials whose scores differ."""
    scores = {trial.value for trial in study.optuna.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}
    return len(study.space.distributions) > 1 and len(scores) > 1


def _score(study: Study) -> str:
    return f"validation {metric_label(study.metric)}"


@contextmanager
def _pyplot(height: float) -> Iterator[None]:
    """Within the block, pyplot needs no display, and Optuna's plots keep our style and are so many inches high."""
    backend, asked_for = get_backend(), style.library[ASKED_FOR]
    pyplot.switch_backend("agg")
    style.library[ASKED_FOR] = RcParams()
    rcParams.update({"figure.constrained_layout.use": True, "figure.figsize": (figures.WIDTH, height)})
    try:
        with catch_warnings(action="ignore"):  # a key of one value has no axis to speak of
            yield
    finally:
        style.library[ASKED_FOR] = asked_for
        with suppress(ImportError):  # of a backend that was named and never used
            pyplot.switch_backend(backend)


def _save(path: Path) -> None:
    """Write the figure that was just drawn; its title stands in the report, and its legend, if any, is the figure's."""
    figure = pyplot.gcf()
    figure.set_layout_engine("constrained")
    figure.suptitle("")
    for axes in figure.axes:
        axes.set_title("")
        axes.set_title("", loc="left")
        if legend := axes.get_legend():
            legend.remove()
        if axes.get_xscale() == "linear":
            for label in axes.get_xticklabels():
                label.set_parse_math(False)  # a value may have a $
    figures.save(figure, path)
    pyplot.close(figure)
