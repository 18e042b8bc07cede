"""What a search leaves for people and programs: ``best.yaml``, ``trials.csv``, plots and a page."""

from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from recbole_dgrm import plots
from recbole_dgrm.document import Document, Figure, Heading, Table, Value, to_html, to_markdown
from recbole_dgrm.files import plain, write_text, write_whole
from recbole_dgrm.labels import metric_label
from recbole_dgrm.space import Interval
from recbole_dgrm.study import Study

BEST, TRIALS = "best.yaml", "trials.csv"
SHOWN = 10  # trials in the table
ATTRIBUTES = ("number", "state", "value", "params", "user_attrs", "datetime_start", "duration")


def write_search(study: Study, folder: Path) -> Path | None:
    """Write everything about a search; returns the path of ``best.yaml``, or None where no trial finished."""
    table = study.optuna.trials_dataframe(attrs=ATTRIBUTES)
    write_whole(folder / TRIALS, lambda path: table.to_csv(path, index=False))
    best = study.best()
    if best is None:
        return None
    text = best_yaml(study, best)
    write_text(folder / BEST, text)
    document = Document(f"Search {study.search.study}", [_introduction(study, best), trials_table(study)])
    document.blocks += _figures(study, folder)
    document.blocks += [Heading("Best"), f"{BEST}: {text.splitlines()[0].removeprefix('# ')}"]
    for kind, form in [("md", to_markdown(document)), ("html", to_html(document, folder))]:
        write_text(folder / f"report.{kind}", form)
    return folder / BEST


def best_yaml(study: Study, best: FrozenTrial) -> str:
    """Keys of the best trial as a config file."""
    config = study.search.config
    where = f"{config['model']} on {config['dataset']}, protocol {config['protocol']}, seed {study.seed}"
    point = study.space.point(best.params)
    about = f"# {where}: validation {study.metric} {best.value:.4f}, the best of {_counts(study)}.\n"
    return about + yaml.safe_dump(plain(point), sort_keys=False, allow_unicode=True)


def trials_table(study: Study) -> Table:
    """The best finished trials."""
    done = [trial for trial in study.counted().values() if trial.state == TrialState.COMPLETE]
    done.sort(key=lambda trial: -trial.value if study.bigger else trial.value)
    keys = list(study.space.dimensions)
    rows = []
    for place, trial in enumerate(done[:SHOWN]):
        score = Value(f"{trial.value:.4f}", trial.value, "best" if place == 0 else "")
        values = [_shown(trial.params.get(key)) for key in keys]
        rows.append([Value(f"trial {trial.number}"), score, *values, _shown(trial.user_attrs.get("best_epoch"))])
    title = f"Best of {_counts(study)}"
    columns = ["", f"validation {metric_label(study.metric)}", *keys, "epoch"]
    return Table(title, columns, rows, note=f"All are in {TRIALS}.")


def _shown(value: Any) -> Value:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return Value(f"{value:.4g}" if isinstance(value, float) else str(value), value if number else float("nan"))


def _counts(study: Study) -> str:
    states = [trial.state for trial in study.counted().values()]
    rest = [(states.count(state), state.name.lower()) for state in TrialState if state != TrialState.COMPLETE]
    extra = ", ".join(f"{number} {name}" for number, name in rest if number)
    return f"{states.count(TrialState.COMPLETE)} finished trials" + (f" ({extra})" if extra else "")


def _introduction(study: Study, best: FrozenTrial) -> str:
    search, pruner = study.search, "median pruner" if study.search.prune else "no pruner"
    return (
        f"{search.config['model']} on {search.config['dataset']}, protocol {search.config['protocol']}, seed "
        f"{study.seed}; sampler {search.sampler}, {pruner}. Trials are compared on the validation part; the test part "
        f"was not there. Best: trial {best.number}, {best.value:.4f}."
    )


def _figures(study: Study, folder: Path) -> list[Figure]:
    counted = study.counted()
    done = {index: trial for index, trial in counted.items() if trial.state == TrialState.COMPLETE}
    pruned = {index: list(trial.intermediate_values.values())[-1] for index, trial in counted.items()
              if trial.state == TrialState.PRUNED and trial.intermediate_values}  # fmt: skip
    scores = {index: trial.value for index, trial in done.items()}
    plots.search_history(scores, pruned, study.bigger, study.metric, folder / "figures" / "history")
    figures = [Figure("figures/history", "History", "Score of each trial and the best so far.")]
    points = {key: [(trial.params[key], trial.value) for trial in done.values()] for key in study.space.dimensions}
    log = [
        key for key, dimension in study.space.dimensions.items() if isinstance(dimension, Interval) and dimension.log
    ]
    plots.slices(points, study.metric, log, folder / "figures" / "slices")
    figures.append(Figure("figures/slices", "Slices", "Score of the finished trials over each key."))
    if shares := _importances(study):
        plots.importances(shares, folder / "figures" / "importance")
        caption = "Share of each key in the variation of the score over the finished trials, by fANOVA; not a cause."
        figures.append(Figure("figures/importance", "Importance", caption))
    return figures


def _importances(study: Study) -> dict[str, float]:
    """Nothing where the finished trials do not differ enough to tell."""
    try:
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=study.seed)
        return optuna.importance.get_param_importances(study.optuna, evaluator=evaluator)
    except (ValueError, RuntimeError):
        return {}
