"""The statistics of many runs, from their records: means, deviations, skill, paired tests, published numbers.

A *cell* has the runs that can be compared: one data set, one protocol, the same definition of metrics.
"""

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_dgrm.errors import DataError
from recbole_dgrm.evaluation.metric_names import BIAS, is_mean_over_users, is_worse
from recbole_dgrm.evaluation.resolution import averaged
from recbole_dgrm.identity import WHERE
from recbole_dgrm.records import PLAN, PREDICTIONS_ONLY, RunDirectory, read_json, read_runs, short_name
from recbole_dgrm.reports import comparable
from recbole_dgrm.reports.rows import Cell, ModelRow, Score
from recbole_dgrm.reports.significance import Comparison, compare, holm

Vectors = dict[int, pd.DataFrame]
REFERENCE = ("random", "bias", "oracle")
PROCEDURE = ("refit", "valid_metric")  # keys of every model, which are shown where rows of a cell differ


@dataclass
class Summary:
    """All results of a report.

    Attributes:
        plan: the plan of a benchmark (see ``plan.py``), or empty for any other folder.
        unfinished: runs without a result, each with status and error in its record.
    """

    cells: list[Cell]
    unfinished: list[RunDirectory]
    plan: dict[str, Any]


def summarise(folder: Path, baseline: str | None = None) -> Summary:
    """The statistics of all runs below ``folder``.

    Args:
        baseline: label of the row that the others are tested against; by default that of the benchmark's plan.

    Raises:
        DataError: there is no finished run, the baseline has none, or runs of one cell and seed have different splits
            or reference rows.
    """
    runs = read_runs(folder)
    plan = read_plan(folder)
    finished = [run for run in runs if run.finished]
    if not finished:
        raise DataError(f"no run in {folder} is finished; the error of the first: {runs[0].record['error']}")
    for run in finished:
        run.need("data fingerprint", *(["timing train_s"] if run.record["model"] != PREDICTIONS_ONLY else []))
    cells = _cells(finished, plan, baseline)
    if baseline and not any(cell.baseline for cell in cells):
        labels = sorted({row.label for cell in cells for row in cell.rows})
        raise DataError(f"baseline={baseline!r} has no finished run; there are {labels}")
    return Summary(cells, [run for run in runs if not run.finished], plan)


def read_plan(folder: Path) -> dict[str, Any]:
    """The plan of the benchmark in ``folder``; empty if there is none."""
    path = folder / PLAN
    remedy = "the benchmark command writes it again; or move it away"
    return read_json(path, "the plan of a benchmark", remedy) if path.is_file() else {}


def planned_labels(plan: dict[str, Any]) -> list[str]:
    """The labels of the models in a plan, in its order."""
    models = plan.get("models", [])
    rows = [{"model": entry} if isinstance(entry, str) else entry for entry in models]
    return [row.get("label", short_name(row["model"])) for row in rows]


def _vectors(row: ModelRow) -> Vectors:
    """For each seed the metrics of each user, indexed by user; of a run without values per user there is none."""
    read = {run.record["seed"]: run.per_user() for run in row.runs}
    return {seed: pd.DataFrame(each).set_index("user") for seed, each in read.items() if each}


def _tested(metric: str, ours: Vectors, theirs: Vectors, prefix: str = "") -> Comparison | None:
    """The test of two rows on their common seeds; None if there are none with values of the metric per user."""
    seeds = [seed for seed in ours if seed in theirs and prefix + metric in ours[seed] and metric in theirs[seed]]
    return compare([(ours[seed][prefix + metric], theirs[seed][metric]) for seed in seeds]) if seeds else None


def _corrected(family: list[Comparison]) -> list[Comparison]:
    """The tests with p-values that are corrected for their number."""
    adjusted = holm(np.array([test.p for test in family]))
    return [replace(test, holm=float(p)) for test, p in zip(family, adjusted, strict=True)]


def _cells(runs: list[RunDirectory], plan: dict[str, Any], baseline: str | None) -> list[Cell]:
    """The cells, one per data set, protocol and definition, in the order of the plan."""
    groups: dict[tuple[str, str], dict[str, list[RunDirectory]]] = {}
    for run in runs:
        group = groups.setdefault((run.record["dataset"], run.record["protocol"]), {})
        group.setdefault(json.dumps(comparable.definition_of(run.record), sort_keys=True), []).append(run)
    protocols, cells = plan.get("protocols", []), []
    for _, group in sorted(groups.items(), key=lambda item: (item[0][0], _position(protocols, item[0][1]))):
        ordered = sorted(group.values(), key=len, reverse=True)
        definitions = [comparable.definition_of(members[0].record) for members in ordered]
        for members, definition in zip(ordered, definitions, strict=True):
            cell = _cell(members, plan, baseline)
            cell.definition = definition
            whole = definition | dict([comparable.WHOLE])  # a part of a data set is always named as one
            cell.distinction = comparable.differences(definition, [whole, *definitions])
            if members is ordered[0]:  # published numbers are of one definition
                _publish(cell, plan)
            cells.append(cell)
    return cells


def _cell(runs: list[RunDirectory], plan: dict[str, Any], baseline: str | None) -> Cell:
    comparable.check_splits(runs)
    comparable.check_references(runs)
    rows = make_rows(runs, plan)
    computed = list(dict.fromkeys(metric for run in runs for metric in run.record["test"]))
    metrics = [metric for metric in plan.get("metrics") or [] if metric in computed] or computed
    wanted = baseline or plan.get("baseline")
    named = [row for row in rows if wanted in (row.name, row.label)]  # of several configurations the newest
    newest = max(named, key=lambda row: max(run.age for run in row.runs), default=None)
    resolution = averaged([comparable.resolutions(run.record) for run in runs])
    dataset, protocol = runs[0].record["dataset"], runs[0].record["protocol"]
    cell = Cell(dataset, protocol, metrics, rows, _reference_rows(runs, metrics), newest, resolution)
    vectors = [_vectors(row) for row in rows]
    for row, of_row in zip(rows, vectors, strict=True):
        row.scores = {metric: score for metric in metrics if (score := _score(row, metric, of_row))}
    if newest:
        _compare(cell, newest, vectors)
    _note_training(cell)
    _find_leading(cell, vectors)
    return cell


def _compare(cell: Cell, baseline: ModelRow, vectors: list[Vectors]) -> None:
    """Test all rows against the baseline, on the seeds that both have."""
    theirs = vectors[cell.rows.index(baseline)]
    for metric in cell.metrics:
        pairs = zip(cell.rows, vectors, strict=True)
        rows = [(row, ours) for row, ours in pairs if row is not baseline and metric in row.scores]
        found = [(row.scores[metric], test) for row, ours in rows if (test := _tested(metric, ours, theirs))]
        for (score, _), test in zip(found, _corrected([test for _, test in found]), strict=True):
            score.comparison = test
            if metric in baseline.scores:
                ahead = score.mean - baseline.scores[metric].mean
                score.contradicted = test.significant and bool(test.difference * ahead < 0)
    if len(bias := [row for row in cell.reference if row.label == "bias"]) == 1:  # several have other settings
        for metric, score in bias[0].scores.items():
            score.comparison = _tested(metric, theirs, theirs, BIAS)  # it is no model, so it is not in the family


def _publish(cell: Cell, plan: dict[str, Any]) -> None:
    """Add published numbers to the scores."""
    published = plan.get("published") or {}
    named = cell.protocol in published.get("protocols", [])
    values = published.get("values", {}).get(cell.dataset, {}) if named else {}
    for row in cell.rows:
        for metric, value in values.get(row.name, {}).items():
            if metric in row.scores:
                row.scores[metric].published = value


def _note_training(cell: Cell) -> None:
    """Add a note to rows whose training settings differ from the others in the table."""
    rows = [row for row in cell.rows if not row.external]
    choices = [_choices(row.runs[0]) for row in rows]
    shared = {key for key in PROCEDURE if len({json.dumps(one.get(key)) for one in choices}) > 1}
    first: dict[str, dict[str, Any]] = {}
    for row, own in zip(rows, choices, strict=True):
        other = first.setdefault(row.runs[0].record["model"], own)
        keys = shared | {key for key in own.keys() | other.keys() if own.get(key) != other.get(key)}
        row.trained = {key: own.get(key) for key in sorted(keys) if f"{key}=" not in row.label}


def make_rows(runs: list[RunDirectory], plan: dict[str, Any]) -> list[ModelRow]:
    """A row per label and configuration; of two equal runs the newer one is used."""
    configs: dict[str, dict[str, dict[int, RunDirectory]]] = {}
    for run in sorted(runs, key=lambda run: run.age):
        by_config = configs.setdefault(run.record["label"], {})
        by_config.setdefault(json.dumps(_choices(run), sort_keys=True), {})[run.record["seed"]] = run
    rows = []
    for label, by_config in configs.items():
        groups = [[by_seed[seed] for seed in sorted(by_seed)] for by_seed in by_config.values()]
        choices = [_choices(group[0]) for group in groups]
        rows += [
            ModelRow(label + _distinction(own, choices), {}, group) for group, own in zip(groups, choices, strict=True)
        ]
    order = planned_labels(plan)
    return sorted(rows, key=lambda row: (_position(order, row.name), row.label))


def _choices(run: RunDirectory) -> dict[str, Any]:
    """The keys of a run that distinguish rows; ``valid_metric`` is the metric that was used, not ``auto``.

    Predictions of another library have none.
    """
    if run.record["model"] == PREDICTIONS_ONLY:
        return {}
    used = {"valid_metric": name} if (name := run.record["selected_by"]) else {}
    return {key: value for key, value in {**run.record["config"], **used}.items() if key not in (*WHERE, "seed")}


def _distinction(own: dict[str, Any], choices: list[dict[str, Any]]) -> str:
    """A suffix of a label that distinguishes configurations: `` (key=value, ...)``; empty if there is only one."""
    texts = [{key: json.dumps(value) for key, value in one.items()} for one in choices]
    keys = [key for key in sorted(set().union(*texts)) if len({one.get(key) for one in texts}) > 1]
    settings = [f"{key}={own[key]}" if key in own else f"{key} not set" for key in keys]
    return f" ({', '.join(settings)})" if settings else ""


def _score(row: ModelRow, metric: str, vectors: Vectors) -> Score | None:
    values = [value for run in row.runs if (value := run.record["test"].get(metric)) is not None]
    if len(values) < len(row.runs):
        return None
    skills = [run.record["skill"].get(metric) for run in row.runs]
    score = Score(np.array(values), np.nan if None in skills else float(np.mean(skills)))
    if is_mean_over_users(metric) and len(of_seed := [each[metric] for each in vectors.values() if metric in each]):
        score.user_error = float(pd.concat(of_seed).groupby(level=0).mean().sem())
    bias = [run.record["reference"].get("bias", {}).get(metric) for run in row.runs]
    score.below = None not in bias and is_worse(metric, score.mean, float(np.mean(bias)), comparable.VISIBLE)
    score.impossible = any(metric in comparable.above_oracle(run.record) for run in row.runs)
    return score


def _reference_rows(runs: list[RunDirectory], metrics: list[str]) -> list[ModelRow]:
    """A row per reference, or several if it has different values because of the models' settings."""
    values = pd.DataFrame(
        [
            (name, comparable.reference_settings(run, name), metric, run.record["seed"], value)
            for run in runs  # not every run computes every metric
            for name, of_run in run.record["reference"].items()
            for metric, value in of_run.items()
            if metric in metrics and value is not None
        ],
        columns=["name", "settings", "metric", "seed", "value"],
    )
    rows = []
    for name in [name for name in REFERENCE if (values["name"] == name).any()]:
        of_name = values[values["name"] == name]
        low, high = (of_name.groupby(["metric", "seed"])["value"].agg(end) for end in ("min", "max"))
        seeds = of_name.groupby("settings")["seed"].agg(frozenset)
        if np.allclose(low, high, atol=1e-6) and seeds.nunique() == 1:
            of_name = of_name.assign(settings=[()] * len(of_name))
        shared = set.intersection(*map(set, of_name["settings"]))
        for settings, group in of_name.groupby("settings", sort=False):
            scores = {
                metric: Score(group[group["metric"] == metric].groupby("seed", sort=False)["value"].last().to_numpy())
                for metric in metrics
                if metric in set(group["metric"])
            }
            trained = dict(pair for pair in settings if pair not in shared)
            rows.append(ModelRow(name, scores, trained=trained))
    return rows


def _find_leading(cell: Cell, vectors: list[Vectors]) -> None:
    """Find for each metric the rows that cannot be told from the best one, by tests of the best against all others.

    Impossible results are left out, and so are metrics without a value per user for each row.
    """
    number = {id(row): place for place, row in enumerate(cell.rows)}
    for metric in cell.metrics:
        rows = cell.valid(metric)
        found = [_tested(metric, vectors[number[id(row)]], vectors[number[id(rows[0])]]) for row in rows[1:]]
        if rows and None not in found:
            tests = _corrected([test for test in found if test])
            behind = [test.significant and is_worse(metric, test.difference, 0.0) for test in tests]
            level = [row for row, worse in zip(rows[1:], behind, strict=True) if not worse]
            cell.leading[metric] = [rows[0], *level]


def _position(order: list[str], name: str) -> int:
    """The index of ``name`` in ``order``, or the length of ``order`` if it is missing."""
    return order.index(name) if name in order else len(order)
