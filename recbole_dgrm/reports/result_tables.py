"""What a report says about a cell: a headline, and tables of results, differences, published numbers and cost."""

import math
from dataclasses import replace
from typing import Any

import numpy as np

from recbole_dgrm.evaluation.metric_names import BELOW, STILL, metric_label, reference_label, smaller_is_better
from recbole_dgrm.evaluation.resolution import LIMIT, blunt, can_tell
from recbole_dgrm.reports import comparable
from recbole_dgrm.reports.document import Table, Value
from recbole_dgrm.reports.rows import Cell, Row, Score
from recbole_dgrm.reports.significance import Comparison
from recbole_dgrm.reports.statistics import Summary
from recbole_dgrm.system.texts import listed

BETTER, WORSE, IMPOSSIBLE, NOT_THERE = "▲", "▼", "‡", "–"
NAMED = 3  # keys that a name tells at most


def headline(cell: Cell) -> str:
    """Which model is best by the first metric that can tell, by how much, if significantly, and what is not known."""
    metric = telling(cell)
    rows = [row for row in ranked(cell, metric) if metric in row.scores and not row.scores[metric].impossible]
    name = metric_label(metric)[:-2]
    if not rows:
        return f"No model has a valid {name}."
    best, *others = rows
    result = f"{name} {best.scores[metric].mean:.3f}"
    if not others:
        said = [f"{best.label} has {result}, and no other model stands beside it"]
    elif others[0].scores[metric].mean == best.scores[metric].mean:
        said = [f"{best.label} and {others[0].label} share the best {result}"]
    else:
        other = others[0] if best is cell.baseline or cell.baseline not in others else cell.baseline
        said = [
            f"{best.label} has the best {result}, {_ahead(best, other, metric, cell)}",
            _tested(best, other, metric),
        ]
    if best.scores[metric].below:
        said.append(f"{'even that' if others else 'it'} is worse than {reference_label('bias', cell_mode(cell))}")
    if len(best.seeds) == 1:
        said.append("it is from one seed, so how much another split or training would change is not known")
    if unclear := blunt(cell.resolution, cell.metrics):
        said.append(unclear)
    return "; ".join(said) + "."


def telling(cell: Cell) -> str:
    """The first metric of a cell that can tell models apart, or the first of all."""
    return next((metric for metric in cell.metrics if can_tell(cell.resolution, metric)), cell.metrics[0])


def ranked(cell: Cell, metric: str) -> list[Row]:
    """The rows, the best by the metric first; those without it last."""
    sign = 1 if smaller_is_better(metric) else -1
    return sorted(cell.rows, key=lambda row: sign * row.scores[metric].mean if metric in row.scores else math.inf)


def _ahead(best: Row, other: Row, metric: str, cell: Cell) -> str:
    mine, theirs = best.scores[metric].mean, other.scores[metric].mean
    apart = abs(mine - theirs)
    share = f" ({apart / abs(theirs):.1%})" if theirs else ""
    role = "the baseline " if other is cell.baseline else ""
    side = "below" if smaller_is_better(metric) else "above"
    return f"{f'{apart:.3f}{share}' if apart >= 5e-4 else f'{apart:.1e}'} {side} {role}{other.label}"


def _tested(best: Row, other: Row, metric: str) -> str:
    """What the test that marks the table says about the difference of two rows."""
    test = best.scores[metric].comparison
    ahead = smaller_is_better(metric)  # the difference of a better row is below 0
    if test is None:  # the best may be the baseline, that the other is tested against
        test, ahead = other.scores[metric].comparison, not ahead
    if test is None:
        needs = "a baseline (--baseline=LABEL), a common seed and vectors by user"
        return f"whether that is more than chance is not tested: it needs {needs}"
    words = f"over {test.users:,} users (paired t-test and Wilcoxon test, Holm's correction)"
    if not test.significant:
        return f"the difference is not significant {words}"
    if (test.difference < 0) != ahead:
        return f"yet by user and on the common seeds it is significantly worse {words}"
    return f"the difference is significant {words}"


def ends_below(cell: Cell) -> list[str]:
    """Sentences about the models that end below user + item means, or popularity; see ``comparable.judged_by``."""
    named: dict[str, list[str]] = {}
    for row in cell.rows:
        metric = comparable.judged_by(row.runs[0].record)
        score = row.scores.get(metric)
        if score and score.below and can_tell(cell.resolution, metric):
            named.setdefault(metric, []).append(row.label)
    bias = reference_label("bias", cell_mode(cell))
    return [f"Worse than {bias} in {metric_label(key)[:-2]}: {listed(rows)}." for key, rows in named.items()]


def faults(cell: Cell) -> list[str]:
    """Sentences about results that cannot be: better than the oracle, or not the mean of their own vectors."""
    runs = [run for row in cell.rows for run in row.runs]
    contradictions = [
        f"ERROR in {run.path}: record.json has {metric} {run.record['test'][metric]:.4f}, but the mean of the users in "
        f"per_user.npz is {mean:.4f}, so the two files are of different runs; make this run again, and do not use its "
        "numbers."
        for run in runs
        for metric, mean in comparable.contradicted(run).items()
    ]
    return contradictions + [
        f"ERROR of recbole_dgrm: {run.record['label']}, seed {run.record['seed']}, has {metric} "
        f"{run.record['test'][metric]:.4f}, above the oracle's {run.record['reference']['oracle'][metric]:.4f}, which "
        f"cannot be; please report it with {run.path / 'record.json'}, and do not use these numbers."
        for run in runs
        for metric in comparable.above_oracle(run.record)
    ]


def cell_mode(cell: Cell) -> str:
    """How the models of the cell are tested; see ``recbole_dgrm.reports.comparable.tested_by``."""
    return comparable.tested_by(cell.rows[0].runs[0].record["config"])


def result_table(cell: Cell) -> Table:
    """A row per model and a column per metric: mean and deviation over seeds, marks of the tests; references on top."""
    seeds = cell.seeds
    main = cell.metrics[0]
    columns = ["", *(metric_label(metric) for metric in cell.metrics), f"skill, {metric_label(main)[:-2]}"]
    rows: list[list[Value]] = []
    for row in cell.rows:
        name = _name(row) if row.seeds == seeds else f"{_name(row)} ({len(row.seeds)} of {len(seeds)} seeds)"
        skill = row.scores[main].skill if main in row.scores else math.nan
        rows.append([Value(name), *(_score_value(row, metric) for metric in cell.metrics), _number(skill, "{:.3f}")])
    quiet = []
    for row in cell.reference:
        label = Value(reference_label(row.label, cell_mode(cell)) + told(row.trained))
        quiet.append([label, *(_score_value(row, metric) for metric in cell.metrics), Value("")])
    if cell.resolution:
        ratios = [cell.resolution.get(metric, {}).get("ratio") for metric in cell.metrics]
        quiet.append([Value("resolution"), *(_number(ratio, "{:.0f}") for ratio in ratios), Value("")])
    return Table(f"Results, {cell.name}", columns, rows, quiet, _result_note(cell, rows))


def _result_note(cell: Cell, rows: list[list[Value]]) -> str:
    seeds = cell.seeds
    what = (
        f"Mean ± standard deviation over {seeds_line(seeds)}" if len(seeds) > 1 else f"From {seeds_line(seeds)} alone"
    )
    said = [f"{what}. Best in bold, second underlined."]
    if any(value.text == NOT_THERE for row in rows for value in row):
        said.append(f"{NOT_THERE}: not computed, because the scores are no ratings.")
    if cell.baseline and len(rows) > 1:
        marks = f"{BETTER} better and {WORSE} worse than {cell.baseline.label}"
        said.append(f"{marks}: paired t-test and Wilcoxon test over users both below .05 after Holm's correction.")
        said += [
            f"No mark in {metric_label(metric)[:-2]}, because by user and on the common seeds the tests say the "
            f"contrary of these means: {listed(labels)}."
            for metric in cell.metrics
            if (labels := [row.label for row in cell.rows if metric in row.scores and row.scores[metric].contradicted])
        ]
    if unclear := blunt(cell.resolution, cell.metrics):
        said.append(f"{unclear}: below a resolution of {LIMIT:.0f} no row is marked as best.")
    scores = [score for row in cell.rows for score in row.scores.values()]
    if any(score.below for score in scores):
        bias = reference_label("bias", cell_mode(cell))
        said.append(f"{BELOW} worse than {bias} on the same seeds; such a row is never underlined as second.")
    if any(score.impossible for score in scores):
        said.append(f"{IMPOSSIBLE} above the oracle by more than rounding: an error of recbole_dgrm, no result.")
    return " ".join(said)


def _name(row: Row) -> str:
    return row.label + told(row.trained)


def told(keys: dict[str, Any], most: int = NAMED) -> str:
    """Keys and values in brackets, as a name ends with them: the first few, and how many more there are."""
    words = [f"{key}={comparable.plainly(value)}" for key, value in keys.items()]
    rest = len(words) - most
    words = words[:most] + ([f"{rest} more"] if rest > 0 else [])
    return f" ({', '.join(words)})" if words else ""


def _score_value(row: Row, metric: str) -> Value:
    score = row.scores.get(metric)
    if score is None:
        return Value(NOT_THERE)
    text = f"{score.mean:.3f}" + (f" ± {score.std:.3f}" if math.isfinite(score.std) else "")
    mark = "" if score.contradicted else mark_of(metric, score)
    marks = mark + BELOW * score.below + IMPOSSIBLE * score.impossible
    return Value(text, score.mean, {1: "best", 2: "second"}.get(score.place, ""), marks)


def mark_of(metric: str, score: Score) -> str:
    """Whether a row is better or worse than the baseline by both tests; nothing where they do not say so."""
    test = score.comparison
    if test is None or not test.significant:
        return ""
    return BETTER if (test.difference < 0) == smaller_is_better(metric) else WORSE


def published_metrics(cell: Cell) -> list[str]:
    """The metrics for which at least one row has a published number."""
    scores = [(metric, score) for row in cell.rows for metric, score in row.scores.items()]
    return [metric for metric in cell.metrics if any(m == metric and math.isfinite(s.published) for m, s in scores)]


def published_table(cell: Cell, plan: dict[str, Any], metrics: list[str]) -> Table:
    """Published numbers beside ours, for every row that has a published number."""
    kinds = ("published", "ours", "difference")
    columns = [f"{metric_label(metric)[:-2]} {kind}" for metric in metrics for kind in kinds]
    rows = []
    for row in cell.rows:
        scores = [row.scores.get(metric) for metric in metrics]
        if any(score and math.isfinite(score.published) for score in scores):
            rows.append([Value(row.label), *(value for score in scores for value in _beside(score))])
    note = f"Published: {plan['published']['source']}."
    return Table(f"Published beside ours, {cell.name}", ["", *columns], rows, note=note)


def _beside(score: Score | None) -> list[Value]:
    if score is None:
        return [Value(NOT_THERE)] * 3
    difference = _number(score.mean - score.published, "{:+.3f}")
    return [_number(score.published, "{:.3f}"), _number(score.mean, "{:.3f}"), difference]


def difference_table(cell: Cell) -> Table:
    """Each row compared with the baseline user by user: difference, interval, p-values and corrected p-values."""
    columns = ["", "metric", "difference", "95 % interval", "p (t)", "p (Wilcoxon)", "Holm (t)", "Holm (Wilcoxon)"]
    rows = []
    for metric in cell.metrics:
        for row in cell.rows:
            if (score := row.scores.get(metric)) and score.comparison:
                rows.append(
                    [Value(row.label), Value(vector_label(metric)), *_test_values(metric, score, score.comparison)]
                )
    users = next((score.comparison.users for row in cell.rows for score in row.scores.values() if score.comparison), 0)
    seeds = f"Per user, averaged over the seeds that both have, {users:,} users"
    note = f"{seeds}; two-sided; corrected for the {len(cell.rows) - 1} models of one metric."
    return Table(f"Differences to {cell.baseline and cell.baseline.label}, {cell.name}", columns, rows, note=note)


def _test_values(metric: str, score: Score, test: Comparison) -> list[Value]:
    interval = Value(f"{test.low:+.4f} to {test.high:+.4f}", test.low)
    *ps, last = (Value(_p_text(p), p) for p in (test.p_t, test.p_wilcoxon, test.holm_t, test.holm_wilcoxon))
    return [_number(test.difference, "{:+.4f}"), interval, *ps, replace(last, mark=mark_of(metric, score))]


def vector_label(metric: str) -> str:
    """What a metric is called where users are compared: the errors have another name there."""
    names = {"rmse": "squared error ↓", "mae": "absolute error ↓"}
    return names.get(metric, metric_label(metric))


def cost_table(cell: Cell) -> Table:
    """Parameters, epochs, seconds and memory of each row, and how it was trained where that differs."""
    columns = ["", "parameters", "chosen epoch", "training s", "testing s", "peak memory MiB"]
    apart = any(row.trained for row in cell.rows)
    rows = []
    for row in cell.rows:
        values = [Value(row.label), _number(row.runs[0].record["parameters"], "{:,.0f}"), _epoch(row)]
        values.append(_number(float(np.mean(row.learning_seconds())), "{:.1f}"))
        values += [_number(row.timing("evaluate_s"), "{:.2f}"), _number(row.timing("peak_rss_mib"), "{:.0f}")]
        rows.append(values + [Value(told(row.trained, len(row.trained)).strip(" ()"))] * apart)
    note = "Means over seeds. Memory is of the whole process, some 400 MiB of it libraries."
    if any(STILL in row[2].text for row in rows):
        note += f" {STILL}: in at least one seed the best epoch is the last that was allowed, "
        note += "so more epochs (--epochs) may do better."
    return Table(f"Cost, {cell.name}", columns + ["trained with"] * apart, rows, note=note)


def _epoch(row: Row) -> Value:
    """The chosen epoch, the number of epochs allowed, and whether training was still improving."""
    mean, record = row.timing("best_epoch"), row.runs[0].record
    if not math.isfinite(mean):
        return Value(NOT_THERE)
    allowed = f" of {record['config']['epochs']}" if "epochs" in record["config"] and comparable.trains(record) else ""
    still = f", {STILL}" if any(comparable.still_improving(run.record) for run in row.runs) else ""
    return Value(f"{mean:.0f}{allowed}{still}", mean)


def unfinished_table(summary: Summary) -> Table:
    """How the runs that have no result ended."""
    rows = []
    for record in (run.record for run in summary.unfinished):
        label, data, protocol, status = (Value(record[key]) for key in ("label", "dataset", "protocol", "status"))
        seed = Value(str(record["seed"]), record["seed"])
        rows.append([label, data, protocol, seed, status, Value(record["error"] or "")])
    note = "The traceback is in record.json and run.log of the run."
    return Table("Runs without a result", ["", "data set", "protocol", "seed", "status", "error"], rows, note=note)


def seeds_line(seeds: list[int]) -> str:
    """The number of seeds and which they are: ``3 seeds (2020-2022)``."""
    in_a_row = len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1
    span = f"{seeds[0]}-{seeds[-1]}" if in_a_row else ", ".join(map(str, seeds))
    return f"seed {span}" if len(seeds) == 1 else f"{len(seeds)} seeds ({span})"


def _number(value: float | None, form: str) -> Value:
    return Value(NOT_THERE) if value is None or not math.isfinite(value) else Value(form.format(value), value)


def _p_text(p: float) -> str:
    return "< .0001" if p < 1e-4 else f"{p:.4f}".lstrip("0") if p < 1 else "1"
