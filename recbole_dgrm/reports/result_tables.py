"""The tables of a report about a cell: results, differences to the baseline, published numbers and cost."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from recbole_dgrm.evaluation.metric_names import BELOW, STILL, metric_label, reference_label, smaller_is_better
from recbole_dgrm.evaluation.resolution import LIMIT, is_precise, too_noisy
from recbole_dgrm.reports import comparable
from recbole_dgrm.reports.document import MISSING, Table, Value
from recbole_dgrm.reports.rows import TIMES, Cell, ModelRow, Score
from recbole_dgrm.reports.significance import FEW
from recbole_dgrm.reports.statistics import Summary
from recbole_dgrm.system.texts import listed

BETTER, WORSE, IMPOSSIBLE = "▲", "▼", "‡"
NAMED = 3  # settings in the name of a row, at most
SECONDS = {key: f"{name} s" for key, name in TIMES.items() if key != "build_s"}  # which is a part of training s
COST_FORMS = {
    "parameters": ",.0f",
    "training s": ".1f",
    "peak memory MiB": ".0f",
    **dict.fromkeys(SECONDS.values(), ".2f"),
}


def result_table(cell: Cell) -> Table:
    """A row per model and a column per metric: mean and deviation over seeds, marks of the tests; references on top."""
    names, lines = [], []
    for row in cell.reference:
        names.append(reference_label(row.label, cell.mode) + settings_suffix(row.trained))
        lines.append([*(_score_value(cell, row, metric) for metric in cell.metrics), ""])
    if cell.resolution:
        names.append("resolution")
        ratios = [cell.resolution.get(metric, {}).get("ratio") for metric in cell.metrics]
        lines.append([*(Value.of(ratio, ".0f") for ratio in ratios), ""])
    n_quiet = len(lines)
    for row in cell.rows:
        some = "" if row.seeds == cell.seeds else f" ({len(row.seeds)} of {len(cell.seeds)} seeds)"
        names.append(row.label + settings_suffix(row.trained) + some)
        main = row.scores.get(cell.metrics[0])
        lines.append(
            [*(_score_value(cell, row, metric) for metric in cell.metrics), Value.of(main and main.skill, ".3f")]
        )
    columns = [*map(metric_label, cell.metrics), f"skill, {metric_label(cell.metrics[0])[:-2]}"]
    frame = pd.DataFrame(lines, names, columns, dtype=object)
    table = Table.of_frame(f"Results, {cell.name}", frame, quiet=n_quiet, mark=_mark(cell))
    return replace(table, note=_result_note(cell, table))


def _mark(cell: Cell, prefix: str = "") -> str:
    """By which name pages include a table of a whole data set; parts of one have none."""
    key, whole = comparable.WHOLE
    return f"{prefix}{cell.dataset}-{cell.protocol}" if cell.definition[key] == whole else ""


def _result_note(cell: Cell, table: Table) -> str:
    seeds = cell.seeds
    over = f"Mean ± standard deviation over {seeds_line(seeds)}" if len(seeds) > 1 else f"From {seeds_line(seeds)} only"
    parts = [f"{over}. {emphasised(seeds)}"]
    if any(value.text == MISSING for row in table.rows for value in row):
        parts.append(f"{MISSING}: not computed, because the model does not predict ratings.")
    if cell.compared and cell.baseline:
        marks = f"{BETTER} better and {WORSE} worse than {cell.baseline.label}"
        parts.append(f"{marks}: {tested(cell.baseline.seeds)}")
        parts += [
            f"Not marked in {metric_label(metric)[:-2]}, because the tests per user on the common seeds contradict "
            f"these means: {listed(labels)}."
            for metric in cell.metrics
            if (labels := [row.label for row in cell.rows if metric in row.scores and row.scores[metric].contradicted])
        ]
    if unclear := too_noisy(cell.resolution, cell.metrics):
        parts.append(f"{unclear}: below a resolution of {LIMIT:.0f} no row is emphasised.")
    scores = [score for row in cell.rows for score in row.scores.values()]
    if any(score.below for score in scores):
        bias = reference_label("bias", cell.mode)
        parts.append(f"{BELOW} worse than {bias} on the same seeds.")
    if any(score.impossible for score in scores):
        parts.append(f"{IMPOSSIBLE} better than the oracle by more than rounding: an error of recbole_dgrm, no result.")
    return " ".join(parts)


def emphasised(seeds: list[int]) -> str:
    """What bold and underlined numbers of a table with these seeds mean."""
    if len(seeds) == FEW:
        return "No row is emphasised, because two seeds cannot show how much another training changes."
    return "Bold: significantly better than all other rows; underlined: best, or not significantly worse than the best."


def tested(seeds: list[int]) -> str:
    """What a mark of significance means for a baseline with these seeds."""
    test = "p below .05 after Holm's correction in a test over users"
    if len(seeds) == 1:
        return f"{test}, which compares these two trainings and not the methods, because there is only one seed."
    if len(seeds) == FEW:
        return "nothing is marked, because two seeds cannot show how much another training changes; use three or more."
    return f"{test} and seeds, which holds for other users and trainings on this data set."


def settings_suffix(settings: dict[str, Any]) -> str:
    """Settings as the end of a row's name: `` (refit=False, epochs=60, 2 more)``; empty without settings."""
    words = _settings(settings)
    more = [f"{len(words) - NAMED} more"] * (len(words) > NAMED)
    return f" ({', '.join(words[:NAMED] + more)})" if words else ""


def _settings(settings: dict[str, Any]) -> list[str]:
    return [f"{key}={comparable.value_text(value)}" for key, value in settings.items()]


def _score_value(cell: Cell, row: ModelRow, metric: str) -> Value:
    score = row.scores.get(metric)
    if score is None:
        return Value(MISSING)
    text = f"{score.mean:.3f}" + (f" ± {score.std:.3f}" if math.isfinite(score.std) else "")
    mark = "" if score.contradicted else mark_of(metric, score)
    marks = mark + BELOW * score.below + IMPOSSIBLE * score.impossible
    leading = cell.leading.get(metric, [])
    first = (
        row in leading
        and len(cell.valid(metric)) > 1
        and len(cell.seeds) != FEW
        and is_precise(cell.resolution, metric)
    )
    return Value(text, score.mean, ("best" if len(leading) == 1 else "level") if first else "", marks)


def mark_of(metric: str, score: Score) -> str:
    """The sign of a row that is significantly better or worse than the baseline; empty for any other."""
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
    title, note = f"Published and own results, {cell.name}", f"Published: {source}."
    return Table.of_frame(title, frame, forms, note, mark=_mark(cell, "published-"))


def difference_table(cell: Cell, title: str) -> Table:
    """Each row compared with the baseline user by user: difference, interval, p-values and corrected p-values."""
    lines, names, users = [], list[str](), 0
    for metric in cell.metrics:
        for row in cell.rows:
            if (score := row.scores.get(metric)) and (test := score.comparison):
                p_values = [
                    Value(_p_text(test.p), test.p),
                    Value(_p_text(test.holm), test.holm, mark=mark_of(metric, score)),
                ]
                interval = Value(f"{test.low:+.4f} to {test.high:+.4f}", test.low)
                lines.append([vector_label(metric), test.difference, interval, test.seed_std, *p_values])
                names.append(row.label)
                users = users or test.users
    columns = ["metric", "difference", "95 % interval", "deviation over seeds", "p", "p (Holm)"]
    note = (
        f"Differences of the same {users:,} users on the seeds that both have. The test is two-sided and treats users "
        "and seeds as samples; the deviation over seeds is the part that users do not explain. p (Holm) is corrected "
        f"for the {len(cell.rows) - 1} models of one metric."
    )
    frame = pd.DataFrame(lines, names, columns, dtype=object)
    return Table.of_frame(title, frame, {"difference": "+.4f", "deviation over seeds": ".4f"}, note)


def vector_label(metric: str) -> str:
    """What a metric is called where users are compared: the errors have another name there."""
    return {"rmse": "squared error ↓", "mae": "absolute error ↓"}.get(metric, metric_label(metric))


def cost_table(cell: Cell) -> Table:
    """Parameters, epochs, seconds and memory of each row, and training settings that differ between rows."""
    lines = {}
    for row in cell.rows:
        timings = float(np.mean(row.learning_seconds())), *map(row.timing, (*SECONDS, "peak_rss_mib"))
        lines[row.label] = [row.runs[0].record["parameters"], _epoch(row), *timings, ", ".join(_settings(row.trained))]
    columns = ["parameters", "chosen epoch", "training s", *SECONDS.values(), "peak memory MiB", "trained with"]
    frame = pd.DataFrame.from_dict(lines, "index", dtype=object, columns=columns)
    old = [name for name in SECONDS.values() if frame[name].isna().all()]  # records of 0.2.0 have only the test
    frame = frame.drop(columns=old if frame["trained with"].any() else [*old, "trained with"])
    note = (
        "Means over seeds. Training has the model's constructor and all epochs, without validations; reading has the "
        "split. Memory is of the whole process, about 400 MiB of it for libraries."
    )
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
    columns = {"dataset": "data set", "protocol": "protocol", "seed": "seed", "status": "status", "error": "error"}
    frame = pd.DataFrame([run.record for run in summary.unfinished], dtype=object).set_index("label")
    frame = frame[list(columns)].fillna("").rename(columns=columns).rename_axis(None)
    note = "The traceback is in record.json and run.log of the run."
    return Table.of_frame("Runs without a result", frame, note=note)


def seeds_line(seeds: list[int]) -> str:
    """The number of seeds and which they are: ``3 seeds (2020-2022)``."""
    in_a_row = len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1
    span = f"{seeds[0]}-{seeds[-1]}" if in_a_row else ", ".join(map(str, seeds))
    return f"seed {span}" if len(seeds) == 1 else f"{len(seeds)} seeds ({span})"


def _p_text(p: float) -> str:
    return "< .0001" if p < 1e-4 else f"{p:.4f}".lstrip("0") if p < 1 else "1"
