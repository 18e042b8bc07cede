"""What a search leaves for people and programs: ``best.yaml``, ``trials.csv``, plots and a page."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import yaml
from optuna.trial import FrozenTrial, TrialState

from recbole_dgrm.evaluation.metric_names import STILL, metric_label
from recbole_dgrm.reports.document import Document, Figure, Heading, Table, Value, write_document
from recbole_dgrm.system.files import plain, write_text, write_whole
from recbole_dgrm.system.texts import in_spreadsheet
from recbole_dgrm.tuning import search_figures
from recbole_dgrm.tuning.study import Study

BEST, TRIALS = "best.yaml", "trials.csv"
SHOWN = 10  # trials in the table
PANELS = 2  # of a figure, side by side
ATTRIBUTES = ("number", "state", "value", "params", "user_attrs")


def write_search(study: Study, folder: Path) -> Path | None:
    """Write everything about a search; returns the path of ``best.yaml``, or None where no trial finished."""
    table = trials_frame(study).map(in_spreadsheet)
    write_whole(folder / TRIALS, lambda path: table.to_csv(path, index=False))
    best = study.best()
    if best is None:
        return None
    text = best_yaml(study, best)
    write_text(folder / BEST, text)
    document = Document(f"Search {study.search.study}", [_introduction(study, best), trials_table(study)])
    document.blocks += _figures(study)
    document.blocks += [Heading("Best"), f"{BEST}: {text.splitlines()[0].removeprefix('# ')}"]
    write_document(document, folder, "report")
    return folder / BEST


def trials_frame(study: Study) -> pd.DataFrame:
    """A row per trial: its state, its score, its keys and what else is known of it."""
    return study.optuna.trials_dataframe(attrs=ATTRIBUTES)


def best_yaml(study: Study, best: FrozenTrial) -> str:
    """Keys of the best trial as a config file."""
    config = study.search.config
    where = f"{config['model']} on {config['dataset']}, protocol {config['protocol']}, seed {study.seed}"
    point = study.space.point(best.params)
    about = f"# {where}: validation {study.metric} {best.value:.4f}, the best of {_counts(study)}.\n"
    return about + yaml.safe_dump(plain(point), sort_keys=False, allow_unicode=True)


def trials_table(study: Study) -> Table:
    """The best finished trials."""
    done = sorted(search_figures.finished(study), key=study.goodness, reverse=True)
    keys = list(study.space.distributions)
    rows = []
    for place, trial in enumerate(done[:SHOWN]):
        value = trial.value or 0.0
        score = Value(f"{value:.4f}", value, "best" if place == 0 else "")
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


def _figures(study: Study) -> list[Figure]:
    caption = "Score of each finished trial and the best so far."
    found = [Figure("figures/history", "History", caption, partial(search_figures.history, study))]
    keys = list(study.space.distributions)
    for number, first in enumerate(range(0, len(keys), PANELS), start=1):
        name = "figures/slices" if number == 1 else f"figures/slices-{number}"
        caption = "Score of the finished trials over each key; later trials are darker."
        draw = partial(search_figures.slices, study, keys[first : first + PANELS])
        found.append(Figure(name, "Slices", caption, draw))
    if search_figures.tells_importance(study):
        caption = "Share of each key in the variation of the score over the finished trials, by fANOVA; not a cause."
        found.append(Figure("figures/importance", "Importance", caption, partial(search_figures.importance, study)))
    return found
