"""From the records of many runs to statistics: means, deviations, skill, paired tests, published numbers.

Reads records only. A *cell* is a data set under a protocol: the runs that may be compared.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from recbole_dgrm import record_forms
from recbole_dgrm.comparison import Comparison, compare, holm
from recbole_dgrm.errors import DataError
from recbole_dgrm.labels import is_mean_over_users, smaller_is_better
from recbole_dgrm.records import PLAN, WHERE, SavedRun, read_json, read_runs

REFERENCE = ("random", "bias", "oracle")


@dataclass
class Score:
    """A metric of a row over its seeds.

    Attributes:
        std: with n - 1; NaN for one seed.
        user_error: standard error over users of the seed-averaged vector; NaN where a metric has none, or
            where it is no mean over users.
        place: 1 the best model of the cell, 2 the second, else 0.
    """

    values: NDArray
    skill: float = np.nan
    user_error: float = np.nan
    place: int = 0
    comparison: Comparison | None = None
    published: float = np.nan

    @property
    def mean(self) -> float:
        """Over seeds."""
        return float(self.values.mean())

    @property
    def std(self) -> float:
        """Over seeds."""
        return float(self.values.std(ddof=1)) if len(self.values) > 1 else np.nan


@dataclass
class Row:
    """One line of a table: a model with one configuration, or a reference (without runs)."""

    label: str
    scores: dict[str, Score]
    runs: list[SavedRun] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The label without what tells configurations apart."""
        return self.runs[0].record["label"] if self.runs else self.label

    @property
    def seeds(self) -> list[int]:
        """In order."""
        return [run.record["seed"] for run in self.runs]

    def learning_seconds(self) -> list[float]:
        """Of each seed: building the model and training it."""
        timings = [run.record["timing"] for run in self.runs]
        return [timing.get("build_s", 0.0) + timing["train_s"] for timing in timings]

    def timing(self, key: str) -> float:
        """Mean over seeds of an entry of ``timing``."""
        return float(np.mean([run.record["timing"].get(key, np.nan) for run in self.runs]))


@dataclass
class Cell:
    """A data set under a protocol."""

    dataset: str
    protocol: str
    metrics: list[str]
    rows: list[Row]
    reference: list[Row]
    baseline: Row | None

    @property
    def name(self) -> str:
        """As in headings and file names."""
        return f"{self.dataset}, {self.protocol}"

    @property
    def seeds(self) -> list[int]:
        """Of all rows."""
        return sorted({seed for row in self.rows for seed in row.seeds})


@dataclass
class Summary:
    """Everything a report says.

    Attributes:
        plan: of a benchmark (see ``plan.py``), or empty for any other folder.
        unfinished: runs without a result, each with status and error in its record.
    """

    cells: list[Cell]
    unfinished: list[SavedRun]
    plan: dict[str, Any]


def summarise(folder: Path, baseline: str | None = None) -> Summary:
    """The statistics of all runs below ``folder``.

    Args:
        baseline: label that the others are tested against; that of the benchmark's plan by default.

    Raises:
        DataError: there is no finished run, the baseline is not among them, or runs of one cell and seed
            saw different splits.
    """
    runs = read_runs(folder)
    plan = read_plan(folder)
    finished = [run for run in runs if run.finished]
    if not finished:
        raise DataError(f"no run in {folder} is finished; the first: {runs[0].record['error']}")
    for run in finished:
        run.need("data fingerprint", "timing train_s")
    check_splits(finished)
    cells = [_cell(key, group, plan, baseline) for key, group in _grouped(finished, plan).items()]
    wanted = baseline or plan.get("baseline")
    if baseline and not any(cell.baseline for cell in cells):
        raise DataError(f"baseline={baseline!r} has no finished run; there are "
                        f"{sorted({row.label for cell in cells for row in cell.rows})}")  # fmt: skip
    for cell in cells:
        if wanted and cell.baseline:
            _compare(cell)
        _mark_best(cell)
    return Summary(cells, [run for run in runs if not run.finished], plan)


def read_plan(folder: Path) -> dict[str, Any]:
    """What the runs in ``folder`` were made for; empty where they are no benchmark."""
    path = folder / PLAN
    remedy = "the benchmark command writes it again; or move it away"
    return read_json(path, "the plan of a benchmark", remedy, record_forms.PLAN) if path.is_file() else {}


def planned_labels(plan: dict[str, Any]) -> list[str]:
    """The labels of a plan's rows, in its order."""
    models = plan.get("models", [])
    return [entry if isinstance(entry, str) else entry.get("label", entry["model"]) for entry in models]


def check_splits(runs: Iterable[SavedRun]) -> None:
    """Whether all runs of one data set, protocol and seed saw one split.

    Raises:
        DataError: two that did not.
    """
    first: dict[tuple, SavedRun] = {}
    for run in runs:
        other = first.setdefault(tuple(run.record[key] for key in ("dataset", "protocol", "seed")), run)
        seen, expected = (saved.record["data"]["fingerprint"] for saved in (run, other))
        if seen != expected:
            raise DataError(
                f"{run.path} and {other.path} saw different splits ({seen}, {expected}) and cannot be compared; "
                "remove the one with the wrong data and run it again"
            )


def user_means(runs: Iterable[SavedRun], seeds: Iterable[int]) -> pd.DataFrame:
    """Per-user metric vectors averaged over the runs with these seeds, indexed by user."""
    frames = [run.per_user() for run in runs if run.record["seed"] in seeds]
    if not frames or not all(frames):
        return pd.DataFrame()
    tables = [pd.DataFrame(frame).drop(columns="user_id", errors="ignore").set_index("user") for frame in frames]
    return pd.concat(tables, join="inner").groupby(level=0).mean()


def _grouped(runs: list[SavedRun], plan: dict[str, Any]) -> dict[tuple[str, str], list[SavedRun]]:
    groups: dict[tuple[str, str], list[SavedRun]] = {}
    for run in runs:
        groups.setdefault((run.record["dataset"], run.record["protocol"]), []).append(run)
    protocols = plan.get("protocols", [])
    return dict(sorted(groups.items(), key=lambda item: (item[0][0], place(protocols, item[0][1]))))


def _cell(key: tuple[str, str], runs: list[SavedRun], plan: dict[str, Any], baseline: str | None) -> Cell:
    dataset, protocol = key
    rows = _rows(runs, plan)
    computed = list(dict.fromkeys(metric for run in runs for metric in run.record["test"]))
    metrics = [metric for metric in plan.get("metrics") or [] if metric in computed] or computed
    reference = _reference_rows(runs, metrics)
    published = plan.get("published") or {}
    values = published.get("values", {}).get(dataset, {}) if protocol in published.get("protocols", []) else {}
    for row in rows:
        vectors = user_means(row.runs, row.seeds)
        row.scores = {metric: score for metric in metrics if (score := _score(row, metric, vectors))}
        for metric, value in values.get(row.name, {}).items():
            if metric in row.scores:
                row.scores[metric].published = value
    wanted = baseline or plan.get("baseline")
    named = [row for row in rows if wanted in (row.name, row.label)]  # of several configurations the newest
    newest = max(named, key=lambda row: max(run.path.stat().st_mtime for run in row.runs), default=None)
    return Cell(dataset, protocol, metrics, rows, reference, newest)


def _rows(runs: list[SavedRun], plan: dict[str, Any]) -> list[Row]:
    """A row per label and configuration; of two equal runs the newer counts."""
    configs: dict[str, dict[str, dict[int, SavedRun]]] = {}
    for run in sorted(runs, key=lambda run: run.path.stat().st_mtime):
        by_config = configs.setdefault(run.record["label"], {})
        by_config.setdefault(json.dumps(_choices(run), sort_keys=True), {})[run.record["seed"]] = run
    rows = []
    for label, by_config in configs.items():
        groups = [list(dict(sorted(by_seed.items())).values()) for by_seed in by_config.values()]
        for group in groups:
            rows.append(Row(label + _distinction(group[0], groups), {}, group))
    labels = planned_labels(plan)
    return sorted(rows, key=lambda row: (place(labels, row.name), row.label))


def _choices(run: SavedRun) -> dict[str, Any]:
    return {key: value for key, value in run.record["config"].items() if key not in (*WHERE, "seed")}


def _distinction(run: SavedRun, groups: list[list[SavedRun]]) -> str:
    """`` (key=value, ...)`` of the keys in which configurations of one label differ."""
    every = [{key: json.dumps(value) for key, value in _choices(group[0]).items()} for group in groups]
    keys = sorted({key for choices in every for key in choices})
    differing = [key for key in keys if len({choices.get(key) for choices in every}) > 1]
    own = _choices(run)
    told = (f"{key}={own[key]}" if key in own else f"{key} not set" for key in differing)
    return f" ({', '.join(told)})" if differing else ""


def _score(row: Row, metric: str, vectors: pd.DataFrame) -> Score | None:
    values = [value for run in row.runs if (value := run.record["test"].get(metric)) is not None]
    if len(values) < len(row.runs):
        return None
    skills = [run.record["skill"].get(metric) for run in row.runs]
    score = Score(np.array(values), np.nan if None in skills else float(np.mean(skills)))
    if metric in vectors and is_mean_over_users(metric):
        score.user_error = float(vectors[metric].sem())
    return score


def _reference_rows(runs: list[SavedRun], metrics: list[str]) -> list[Row]:
    by_seed: dict[int, dict[str, dict[str, float]]] = {}
    for run in runs:  # those of one seed agree; not every run computes every metric
        for name, values in run.record["reference"].items():
            by_seed.setdefault(run.record["seed"], {}).setdefault(name, {}).update(values)
    rows = []
    for name in REFERENCE:
        scores = {}
        for metric in metrics:
            given = [reference.get(name, {}).get(metric) for reference in by_seed.values()]
            values = [value for value in given if value is not None]
            if values:
                scores[metric] = Score(np.array(values))
        rows.append(Row(name, scores))
    return [row for row in rows if row.scores]


def _compare(cell: Cell) -> None:
    others = [row for row in cell.rows if row is not cell.baseline]
    found: dict[str, list[tuple[Row, Comparison]]] = {}
    for row in others:
        seeds = set(row.seeds) & set(cell.baseline.seeds)
        ours, theirs = user_means(row.runs, seeds), user_means(cell.baseline.runs, seeds)
        for metric in row.scores:
            if metric in ours and metric in theirs:
                found.setdefault(metric, []).append((row, compare(ours[metric], theirs[metric])))
    for metric, family in found.items():
        corrected = [holm(np.array([getattr(test, name) for _, test in family])) for name in ("p_wilcoxon", "p_t")]
        for (row, test), p_wilcoxon, p_t in zip(family, *corrected, strict=True):
            values = {**vars(test), "holm_wilcoxon": float(p_wilcoxon), "holm_t": float(p_t)}
            row.scores[metric].comparison = Comparison(**values)


def _mark_best(cell: Cell) -> None:
    for metric in cell.metrics:
        scores = [row.scores[metric] for row in cell.rows if metric in row.scores]
        if len(scores) < 2:
            continue
        means = sorted({score.mean for score in scores}, reverse=not smaller_is_better(metric))
        for score in scores:
            score.place = means.index(score.mean) + 1 if score.mean in means[:2] else 0


def place(order: list[str], name: str) -> int:
    """Of ``name`` in ``order``; behind all others where it is not in it."""
    return order.index(name) if name in order else len(order)
