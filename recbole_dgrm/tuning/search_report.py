"""What a search leaves for people and programs: ``best.yaml``, ``trials.csv``, plots and a page."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import FrozenTrial, TrialState

from recbole_dgrm.evaluation.metric_names import STILL, metric_label
from recbole_dgrm.reports import figures
from recbole_dgrm.reports.document import Document, Figure, Heading, Table, Value, to_html, to_markdown
from recbole_dgrm.system.files import plain, write_text, write_whole
from recbole_dgrm.system.texts import in_spreadsheet
from recbole_dgrm.tuning.space import Interval, Whole
from recbole_dgrm.tuning.study import Study

BEST, TRIALS = "best.yaml", "trials.csv"
SHOWN = 10  # trials in the table
ATTRIBUTES = ("number", "state", "value", "params", "user_attrs", "datetime_start", "duration")


def write_search(study: Study, folder: Path) -> Path | None:
    """Write everything about a search; returns the path of ``best.yaml``, or None where no trial finished."""
    table = study.optuna.trials_dataframe(attrs=ATTRIBUTES).map(in_spreadsheet)
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
        rows.append([Value(f"trial {trial.number}"), score, *values, _epoch(trial)])
    title = f"Best of {_counts(study)}"
    columns = ["", f"validation {metric_label(study.metric)}", *keys, "epoch"]
    note = f"All are in {TRIALS}."
    if any(STILL in row[-1].text for row in rows):
        note += f" {STILL}: the best epoch is the last that was allowed; more epochs (--epochs) may do better."
    return Table(title, columns, rows, note=note)


def _epoch(trial: FrozenTrial) -> Value:
    value = _shown(trial.user_attrs.get("best_epoch"))
    return replace(value, text=f"{value.text}, {STILL}") if trial.user_attrs.get("still_improving") else value


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


def _figures(study: Study, folder: Path) -> list[Figure | str]:
    counted = study.counted()
    done = {index: trial for index, trial in counted.items() if trial.state == TrialState.COMPLETE}
    pruned = {index: list(trial.intermediate_values.values())[-1] for index, trial in counted.items()
              if trial.state == TrialState.PRUNED and trial.intermediate_values}  # fmt: skip
    scores = {index: trial.value for index, trial in done.items()}
    points = {key: [(trial.params[key], trial.value) for trial in done.values() if key in trial.params]
              for key in study.space.dimensions}  # fmt: skip
    scales = {key: "log" if isinstance(dimension, Interval) and dimension.log else "linear"
              for key, dimension in study.space.dimensions.items()
              if isinstance(dimension, Interval | Whole)}  # fmt: skip
    drawn = [
        (Figure("figures/history", "History", "Score of each trial and the best so far."),
         partial(figures.search_history, scores, pruned, study.bigger, study.metric)),
        (Figure("figures/slices", "Slices", "Score of the finished trials over each key."),
         partial(figures.slices, points, study.metric, scales)),
    ]  # fmt: skip
    if shares := _importances(study):
        caption = "Share of each key in the variation of the score over the finished trials, by fANOVA; not a cause."
        drawn.append((Figure("figures/importance", "Importance", caption), partial(figures.importances, shares)))
    return [figures.drawn(figure, draw, folder) for figure, draw in drawn]


def _importances(study: Study) -> dict[str, float]:
    """Nothing where the finished trials do not differ enough to tell."""
    try:
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=study.seed)
        return optuna.importance.get_param_importances(study.optuna, evaluator=evaluator)
    except (ValueError, RuntimeError):
        return {}
