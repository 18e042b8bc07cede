"""What a report says about a cell: a headline, and tables of results, differences, published numbers and cost."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from recbole_dgrm.evaluation.metric_names import BELOW, STILL, metric_label, reference_label, smaller_is_better
from recbole_dgrm.evaluation.resolution import LIMIT, is_precise, too_noisy
from recbole_dgrm.reports import comparable
from recbole_dgrm.reports.document import MISSING, Table, Value
from recbole_dgrm.reports.rows import Cell, ModelRow, Score
from recbole_dgrm.reports.statistics import Summary
from recbole_dgrm.system.texts import listed

BETTER, WORSE, IMPOSSIBLE = "▲", "▼", "‡"
NAMED = 3  # settings in the name of a row, at most
COST_FORMS = {"parameters": ",.0f", "training s": ".1f", "testing s": ".2f", "peak memory MiB": ".0f"}


def headline(cell: Cell) -> str:
    """Which model is best by the first precise metric, by how much, whether significantly, and what is not known."""
    metric = main_metric(cell)
    rows = [row for row in ranked(cell, metric) if metric in row.scores and not row.scores[metric].impossible]
    name = metric_label(metric)[:-2]
    if not rows:
        return f"No model has a valid {name}."
    best, *others = rows
    result = f"{name} {best.scores[metric].mean:.3f}"
    if not others:
        parts = [f"{best.label} has {result}, and there is no other model to compare it with"]
    elif others[0].scores[metric].mean == best.scores[metric].mean:
        parts = [f"{best.label} and {others[0].label} share the best {result}"]
    else:
        other = others[0] if best is cell.baseline or cell.baseline not in others else cell.baseline
        parts = [f"{best.label} has the best {result}, {_margin(best, other, metric, cell)}"]
        parts.append(_test_result(best, other, metric))
    if best.scores[metric].below:
        parts.append(f"{'even that' if others else 'it'} is worse than {reference_label('bias', cell_mode(cell))}")
    if len(best.seeds) == 1:
        parts.append("it is from one seed, so how much another split or training would change is not known")
    return "; ".join([*parts, *filter(None, [too_noisy(cell.resolution, cell.metrics)])]) + "."


def main_metric(cell: Cell) -> str:
    """The first metric of a cell that is precise enough to compare models, or the first of all."""
    return next((metric for metric in cell.metrics if is_precise(cell.resolution, metric)), cell.metrics[0])


def ranked(cell: Cell, metric: str) -> list[ModelRow]:
    """The rows, the best by the metric first; those without it last."""
    sign = 1 if smaller_is_better(metric) else -1
    return sorted(cell.rows, key=lambda row: sign * row.scores[metric].mean if metric in row.scores else math.inf)


def _margin(best: ModelRow, other: ModelRow, metric: str, cell: Cell) -> str:
    mine, theirs = best.scores[metric].mean, other.scores[metric].mean
    margin = abs(mine - theirs)
    share = f" ({margin / abs(theirs):.1%})" if theirs else ""
    role = "the baseline " if other is cell.baseline else ""
    side = "lower than that of" if smaller_is_better(metric) else "higher than that of"
    return f"{f'{margin:.3f}{share}' if margin >= 5e-4 else f'{margin:.1e}'} {side} {role}{other.label}"


def _test_result(best: ModelRow, other: ModelRow, metric: str) -> str:
    """What the test that marks the table says about the difference of two rows."""
    test = best.scores[metric].comparison
    negative = smaller_is_better(metric)  # the sign of a difference that favours the best row
    if test is None:  # the best may be the baseline, that the other is tested against
        test, negative = other.scores[metric].comparison, not negative
    if test is None:
        needs = "a baseline (--baseline=LABEL), a common seed and values per user"
        return f"whether that is more than chance is not tested: it needs {needs}"
    words = f"over {test.users:,} users (paired t-test and Wilcoxon test, Holm's correction)"
    if not test.significant:
        return f"the difference is not significant {words}"
    if (test.difference < 0) != negative:
        return f"yet by user and on the common seeds it is significantly worse {words}"
    return f"the difference is significant {words}"


def worse_than_bias(cell: Cell) -> list[str]:
    """Sentences about models that are worse than the bias row; see ``comparable.metric_against_bias``."""
    named: dict[str, list[str]] = {}
    for row in cell.rows:
        metric = comparable.metric_against_bias(row.runs[0].record)
        score = row.scores.get(metric)
        if score and score.below and is_precise(cell.resolution, metric):
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
    return comparable.tested_by(cell.records[0]["config"])


def result_table(cell: Cell) -> Table:
    """A row per model and a column per metric: mean and deviation over seeds, marks of the tests; references on top."""
    names, lines = [], []
    for row in cell.reference:
        names.append(reference_label(row.label, cell_mode(cell)) + settings_suffix(row.trained))
        lines.append([*(_score_value(row, metric) for metric in cell.metrics), ""])
    if cell.resolution:
        names.append("resolution")
        ratios = [cell.resolution.get(metric, {}).get("ratio") for metric in cell.metrics]
        lines.append([*(Value.of(ratio, ".0f") for ratio in ratios), ""])
    n_quiet = len(lines)
    for row in cell.rows:
        some = "" if row.seeds == cell.seeds else f" ({len(row.seeds)} of {len(cell.seeds)} seeds)"
        names.append(row.label + settings_suffix(row.trained) + some)
        main = row.scores.get(cell.metrics[0])
        lines.append([*(_score_value(row, metric) for metric in cell.metrics), Value.of(main and main.skill, ".3f")])
    columns = [*map(metric_label, cell.metrics), f"skill, {metric_label(cell.metrics[0])[:-2]}"]
    table = Table.of_frame(f"Results, {cell.name}", pd.DataFrame(lines, names, columns, dtype=object), quiet=n_quiet)
    return replace(table, note=_result_note(cell, table))


def _result_note(cell: Cell, table: Table) -> str:
    seeds = cell.seeds
    over = f"Mean ± standard deviation over {seeds_line(seeds)}" if len(seeds) > 1 else f"From {seeds_line(seeds)} only"
    parts = [f"{over}. Best in bold, second underlined."]
    if any(value.text == MISSING for row in table.rows for value in row):
        parts.append(f"{MISSING}: not computed, because the model does not predict ratings.")
    if cell.compared and cell.baseline:
        marks = f"{BETTER} better and {WORSE} worse than {cell.baseline.label}"
        parts.append(f"{marks}: paired t-test and Wilcoxon test over users both below .05 after Holm's correction.")
        parts += [
            f"Not marked in {metric_label(metric)[:-2]}, because the tests per user on the common seeds contradict "
            f"these means: {listed(labels)}."
            for metric in cell.metrics
            if (labels := [row.label for row in cell.rows if metric in row.scores and row.scores[metric].contradicted])
        ]
    if unclear := too_noisy(cell.resolution, cell.metrics):
        parts.append(f"{unclear}: below a resolution of {LIMIT:.0f} no row is marked as best.")
    scores = [score for row in cell.rows for score in row.scores.values()]
    if any(score.below for score in scores):
        bias = reference_label("bias", cell_mode(cell))
        parts.append(f"{BELOW} worse than {bias} on the same seeds; such a row is never underlined as second.")
    if any(score.impossible for score in scores):
        parts.append(f"{IMPOSSIBLE} better than the oracle by more than rounding: an error of recbole_dgrm, no result.")
    return " ".join(parts)


def settings_suffix(settings: dict[str, Any], most: int = NAMED) -> str:
    """Settings as the end of a row's name: `` (refit=False, precision=float32, 2 more)``; empty where there are none.

    Args:
        most: how many of them are shown.
    """
    words = [f"{key}={comparable.value_text(value)}" for key, value in settings.items()]
    rest = len(words) - most
    words = words[:most] + ([f"{rest} more"] if rest > 0 else [])
    return f" ({', '.join(words)})" if words else ""


def _score_value(row: ModelRow, metric: str) -> Value:
    score = row.scores.get(metric)
    if score is None:
        return Value(MISSING)
    text = f"{score.mean:.3f}" + (f" ± {score.std:.3f}" if math.isfinite(score.std) else "")
    mark = "" if score.contradicted else mark_of(metric, score)
    marks = mark + BELOW * score.below + IMPOSSIBLE * score.impossible
    return Value(text, score.mean, {1: "best", 2: "second"}.get(score.place, ""), marks)


def mark_of(metric: str, score: Score) -> str:
    """The sign of a row that is better or worse than the baseline by both tests; empty for any other."""
    test = score.comparison
    if test is None or not test.significant:
        return ""
    return BETTER if (test.difference < 0) == smaller_is_better(metric) else WORSE


def published_table(cell: Cell, source: str) -> Table | None:
    """The published numbers and our own, for every row and metric that has a published one; None where none has."""
    lines: dict[str, dict[str, float]] = {}
    for metric in cell.metrics:
        named = [(row, score) for row in cell.rows if (score := row.scores.get(metric))]
        if any(math.isfinite(score.published) for _, score in named):
            label = metric_label(metric)[:-2]
            for row, score in named:
                values = score.published, score.mean, score.mean - score.published
                kinds = (f"{label} published", f"{label} here", f"{label} difference")
                lines.setdefault(row.label, {}).update(zip(kinds, values, strict=True))
    published = [row.label for row in cell.rows if any(math.isfinite(score.published) for score in row.scores.values())]
    if not published:
        return None
    frame = pd.DataFrame.from_dict(lines, "index").loc[published]
    forms = {name: "+.3f" if name.endswith("difference") else ".3f" for name in frame}
    return Table.of_frame(f"Published and own results, {cell.name}", frame, forms, f"Published: {source}.")


def difference_table(cell: Cell) -> Table:
    """Each row compared with the baseline user by user: difference, interval, p-values and corrected p-values."""
    lines, names, users = [], list[str](), 0
    for metric in cell.metrics:
        for row in cell.rows:
            if (score := row.scores.get(metric)) and (test := score.comparison):
                p_values = [Value(_p_text(p), p) for p in (test.p_t, test.p_wilcoxon, test.holm_t, test.holm_wilcoxon)]
                p_values[-1] = replace(p_values[-1], mark=mark_of(metric, score))
                interval = Value(f"{test.low:+.4f} to {test.high:+.4f}", test.low)
                lines.append([vector_label(metric), test.difference, interval, *p_values])
                names.append(row.label)
                users = users or test.users
    columns = ["metric", "difference", "95 % interval", "p (t)", "p (Wilcoxon)", "Holm (t)", "Holm (Wilcoxon)"]
    note = (
        f"Differences per user, averaged over the seeds that both have, {users:,} users. The tests are two-sided; "
        f"Holm: p-values corrected for the {len(cell.rows) - 1} models of one metric."
    )
    frame = pd.DataFrame(lines, names, columns, dtype=object)
    title = f"Differences to {cell.baseline and cell.baseline.label}, {cell.name}"
    return Table.of_frame(title, frame, {"difference": "+.4f"}, note)


def vector_label(metric: str) -> str:
    """What a metric is called where users are compared: the errors have another name there."""
    return {"rmse": "squared error ↓", "mae": "absolute error ↓"}.get(metric, metric_label(metric))


def cost_table(cell: Cell) -> Table:
    """Parameters, epochs, seconds and memory of each row, and training settings that differ between rows."""
    lines = {}
    for row in cell.rows:
        timings = float(np.mean(row.learning_seconds())), row.timing("evaluate_s"), row.timing("peak_rss_mib")
        trained = settings_suffix(row.trained, len(row.trained)).strip(" ()")
        lines[row.label] = [row.runs[0].record["parameters"], _epoch(row), *timings, trained]
    columns = ["parameters", "chosen epoch", "training s", "testing s", "peak memory MiB", "trained with"]
    frame = pd.DataFrame.from_dict(lines, "index", dtype=object, columns=columns)
    if not frame["trained with"].any():
        frame = frame.drop(columns="trained with")
    note = "Means over seeds. Memory is of the whole process, about 400 MiB of it for libraries."
    if any(STILL in value.text for value in frame["chosen epoch"]):
        note += f" {STILL}: in at least one seed the best epoch is the last that was allowed, "
        note += "so more epochs (--epochs) may do better."
    return Table.of_frame(f"Cost, {cell.name}", frame, COST_FORMS, note)


def _epoch(row: ModelRow) -> Value:
    record, mean = row.runs[0].record, row.timing("best_epoch")
    if not math.isfinite(mean):
        return Value(MISSING)
    allowed = f" of {record['config']['epochs']}" if "epochs" in record["config"] and comparable.trains(record) else ""
    still = f", {STILL}" if any(comparable.still_improving(run.record) for run in row.runs) else ""
    return Value(f"{mean:.0f}{allowed}{still}", mean)


def unfinished_table(summary: Summary) -> Table:
    """The table of runs without a result, with status and error."""
    keys = {"dataset": "data set", "protocol": "protocol", "seed": "seed", "status": "status", "error": "error"}
    records = [run.record for run in summary.unfinished]
    lines = [["" if record[key] is None else record[key] for key in keys] for record in records]
    frame = pd.DataFrame(lines, [record["label"] for record in records], list(keys.values()), dtype=object)
    note = "The traceback is in record.json and run.log of the run."
    return Table.of_frame("Runs without a result", frame, note=note)


def seeds_line(seeds: list[int]) -> str:
    """The number of seeds and which they are: ``3 seeds (2020-2022)``."""
    in_a_row = len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1
    span = f"{seeds[0]}-{seeds[-1]}" if in_a_row else ", ".join(map(str, seeds))
    return f"seed {span}" if len(seeds) == 1 else f"{len(seeds)} seeds ({span})"


def _p_text(p: float) -> str:
    return "< .0001" if p < 1e-4 else f"{p:.4f}".lstrip("0") if p < 1 else "1"
