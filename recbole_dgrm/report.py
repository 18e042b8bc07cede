"""A report of any folder of runs: what to say about a summary, as Markdown, HTML, LaTeX, CSV and figures."""

import csv
import hashlib
import logging
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from recbole_dgrm import comparable, plots
from recbole_dgrm.document import Document, Figure, Heading, Table, Value, to_html, to_latex, to_markdown
from recbole_dgrm.files import write_text
from recbole_dgrm.headline import cell_mode, faults, headline
from recbole_dgrm.labels import BELOW, STILL, metric_label, reference_label, smaller_is_better
from recbole_dgrm.rows import Cell, Row, Score
from recbole_dgrm.summary import Summary, summarise
from recbole_dgrm.texts import in_spreadsheet

LOG = logging.getLogger(__name__)
BETTER, WORSE, IMPOSSIBLE, NOT_THERE = "▲", "▼", "‡", "–"
NAMED = 3  # keys in a name
FIGURED = 10  # cells that have figures, which take longer than everything else
COLUMNS = [
    "dataset", "protocol", "model", "metric", "seeds", "mean", "std", "skill", "user_standard_error", "baseline",
    "users", "difference", "low", "high", "p_wilcoxon", "p_t", "holm_wilcoxon", "holm_t", "published",
    "parameters", "best_epoch", "build_s", "train_s", "evaluate_s", "peak_rss_mib", "definition",
]  # fmt: skip


def write_report(folder: Path, output_dir: Path, baseline: str | None = None) -> Path:
    """Write ``report.{md,html,tex,csv}`` and ``figures/`` about the runs below ``folder``; runs nothing.

    Args:
        baseline: see :func:`recbole_dgrm.summary.summarise`.

    Returns:
        Path of ``report.html``.

    Raises:
        recbole_dgrm.errors.DataError: there is nothing to report, or runs that cannot be compared.
    """
    summary = summarise(folder, baseline)
    output_dir.mkdir(parents=True, exist_ok=True)
    document = build(summary, folder.resolve().name)
    document.blocks = list(_drawn(document, summary, output_dir))
    forms = {"md": to_markdown(document), "html": to_html(document, output_dir), "tex": to_latex(document),
             "csv": to_csv(summary)}  # fmt: skip
    for kind, text in forms.items():
        write_text(output_dir / f"report.{kind}", text)
    for fault in (fault for cell in summary.cells for fault in faults(cell)):
        LOG.warning("%s", fault)
    return output_dir / "report.html"


def build(summary: Summary, name: str) -> Document:
    """The document; its figures are drawn elsewhere."""
    document = Document(f"Benchmark {name}")
    add = document.blocks.extend
    several = len(summary.cells) > 1
    add(fault for cell in summary.cells for fault in faults(cell))
    add(f"{cell.name}: {headline(cell)}" if several else headline(cell) for cell in summary.cells)
    for number, cell in enumerate(summary.cells, 1):
        add([Heading(cell.name), _introduction(cell), result_table(cell)])
        if published := _published_metrics(cell):
            add([_published_table(cell, summary.plan, published)])
        add([figure for figure, _ in _figures(cell)] if number <= FIGURED else [
            f"Figures are drawn for the first {FIGURED} tables only; a report of a part of the folder has them."
        ])  # fmt: skip
        add([_test_table(cell)] if cell.baseline and len(cell.rows) > 1 else [])
        add([_cost_table(cell)])
    if summary.unfinished:
        add([Heading("Runs without a result"), _unfinished_table(summary)])
    add([Heading("How to read this"), *_explanations(summary)])
    return document


def result_table(cell: Cell) -> Table:
    """Model x metric: mean and deviation over seeds, marks of the tests, best and second; references on top."""
    seeds = cell.seeds
    main = cell.metrics[0]
    columns = ["", *(metric_label(metric) for metric in cell.metrics), f"skill, {metric_label(main)[:-2]}"]
    rows = []
    for row in cell.rows:
        name = _name(row) if row.seeds == seeds else f"{_name(row)} ({len(row.seeds)} of {len(seeds)} seeds)"
        skill = row.scores[main].skill if main in row.scores else math.nan
        rows.append([Value(name), *(_score_value(row, metric) for metric in cell.metrics), _number(skill, "{:.3f}")])
    quiet = []
    for row in cell.reference:
        name = Value(reference_label(row.label, cell_mode(cell)) + _told(row.trained))
        quiet.append([name, *(_score_value(row, metric) for metric in cell.metrics), Value("")])
    return Table(f"Results, {cell.name}", columns, rows, quiet, _result_note(cell, rows))


def _result_note(cell: Cell, rows: list[list[Value]]) -> str:
    seeds = cell.seeds
    what = f"Mean ± standard deviation over {_seeds(seeds)}" if len(seeds) > 1 else f"From {_seeds(seeds)} alone"
    said = [f"{what}. Best in bold, second underlined."]
    if any(value.text == NOT_THERE for row in rows for value in row):
        said.append(f"{NOT_THERE}: not computed, because the scores are no ratings.")
    if cell.baseline and len(rows) > 1:
        said.append(f"{BETTER} better and {WORSE} worse than {cell.baseline.label}: paired t-test and Wilcoxon test "
                    "over users both below .05 after Holm's correction.")  # fmt: skip
    scores = [score for row in cell.rows for score in row.scores.values()]
    if any(score.below for score in scores):
        said.append(f"{BELOW} worse than {reference_label('bias', cell_mode(cell))} on the same seeds; such a row is "
                    "never underlined as second.")  # fmt: skip
    if any(score.impossible for score in scores):
        said.append(f"{IMPOSSIBLE} above the oracle by more than rounding: an error of recbole_dgrm, no result.")
    return " ".join(said)


def _name(row: Row) -> str:
    return row.label + _told(row.trained)


def _told(keys: dict[str, Any], most: int = NAMED) -> str:
    """`` (key=value, ...)``: the first few, and how many more."""
    words = [f"{key}={comparable.plainly(value)}" for key, value in keys.items()]
    rest = len(words) - most
    words = words[:most] + ([f"{rest} more"] if rest > 0 else [])
    return f" ({', '.join(words)})" if words else ""


def to_csv(summary: Summary) -> str:
    """Everything in long form, a line per data set, protocol, model and metric, unrounded."""
    text = StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for cell in summary.cells:
        for row in [*cell.reference, *cell.rows]:
            for metric, score in row.scores.items():
                model = row.label if row.runs else row.label + _told(row.trained)
                line = {"dataset": cell.dataset, "protocol": cell.protocol, "model": model, "metric": metric}
                values = {**line, **_csv_values(cell, row, score), "definition": comparable.described(cell.definition)}
                writer.writerow({key: in_spreadsheet(value) for key, value in values.items()
                                 if value is not None and value == value})  # fmt: skip
    return text.getvalue()


def _csv_values(cell: Cell, row: Row, score: Score) -> dict[str, Any]:
    values: dict[str, Any] = {
        "seeds": len(score.values), "mean": score.mean, "std": score.std, "skill": score.skill,
        "user_standard_error": score.user_error, "published": score.published,
    }  # fmt: skip
    if score.comparison:
        values |= {"baseline": cell.baseline.label, **vars(score.comparison)}
    if row.runs:
        values["parameters"] = row.runs[0].record["parameters"]
        values |= {key: row.timing(key) for key in ("best_epoch", "build_s", "train_s", "evaluate_s", "peak_rss_mib")}
    return values


def _introduction(cell: Cell) -> str:
    run = cell.rows[0].runs[0].record
    data = run["data"]
    own = cell_mode(cell) == "labeled"
    what = "the user's own test ratings are ranked" if own else "all unseen items are ranked"
    return (
        f"{data['n_users']:,} users, {data['n_items']:,} items; {data['n_train']:,} ratings to train, "
        f"{data['n_valid']:,} to validate, {data['n_test']:,} to test; {what}. "
        f"{len(cell.rows)} models, {_seeds(cell.seeds)}; every model saw the same split (checked by its fingerprint). "
        f"The metrics are defined by {comparable.described(cell.definition)}."
    )


def _score_value(row: Row, metric: str) -> Value:
    score = row.scores.get(metric)
    if score is None:
        return Value(NOT_THERE)
    text = f"{score.mean:.3f}" + (f" ± {score.std:.3f}" if math.isfinite(score.std) else "")
    marks = _mark(metric, score) + BELOW * score.below + IMPOSSIBLE * score.impossible
    return Value(text, score.mean, {1: "best", 2: "second"}.get(score.place, ""), marks)


def _mark(metric: str, score: Score) -> str:
    test = score.comparison
    if test is None or not test.significant:
        return ""
    return BETTER if (test.difference < 0) == smaller_is_better(metric) else WORSE


def _published_metrics(cell: Cell) -> list[str]:
    scores = [(metric, score) for row in cell.rows for metric, score in row.scores.items()]
    return [metric for metric in cell.metrics if any(m == metric and math.isfinite(s.published) for m, s in scores)]


def _published_table(cell: Cell, plan: dict[str, Any], metrics: list[str]) -> Table:
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


def _figures(cell: Cell) -> Iterator[tuple[Figure, Callable[[Path], None]]]:
    """The figures of a cell and what draws them; of very many rows the best are shown."""
    shown = plots.best_rows(cell)
    few = "" if shown is cell else f" The best {len(shown.rows)} of {len(cell.rows)} rows."
    drawings = [
        ("metrics", "Metrics", partial(plots.metric_bars, shown),
         "Bars begin at the value of a random order. Whiskers: 95 % interval over users where the metric is a mean "
         "over users, else the standard deviation over seeds."),
        ("time", "Accuracy against training time", partial(plots.accuracy_against_time, shown, cell.metrics[0]),
         "Small points: seeds; large: their mean. Seconds as measured, on however busy a machine."),
        ("learning", "Learning curves", partial(plots.learning_curves, shown),
         "Means over seeds, up to the epoch in which the first of them stopped."),
    ]  # fmt: skip
    for name, title, draw, caption in drawings:
        yield Figure(f"figures/{_stem(cell)}-{name}", f"{title}, {cell.name}", caption + few), draw


def _drawn(document: Document, summary: Summary, output_dir: Path) -> Iterator[Any]:
    """The blocks of a document, its figures drawn; for one that cannot be drawn a sentence."""
    draw = {figure.file: draws for cell in summary.cells[:FIGURED] for figure, draws in _figures(cell)}
    for block in document.blocks:
        yield plots.drawn(block, draw[block.file], output_dir) if isinstance(block, Figure) else block


def _test_table(cell: Cell) -> Table:
    columns = ["", "metric", "difference", "95 % interval", "p (t)", "p (Wilcoxon)", "Holm (t)", "Holm (Wilcoxon)"]
    rows = []
    for metric in cell.metrics:
        for row in cell.rows:
            if (score := row.scores.get(metric)) and score.comparison:
                rows.append([Value(row.label), Value(_vector_label(metric)), *_test_values(metric, score)])
    users = next((score.comparison.users for row in cell.rows for score in row.scores.values() if score.comparison), 0)
    note = (f"Per user, averaged over the seeds that both have, {users:,} users; two-sided; corrected for the "
            f"{len(cell.rows) - 1} models of one metric.")  # fmt: skip
    return Table(f"Differences to {cell.baseline.label}, {cell.name}", columns, rows, note=note)


def _test_values(metric: str, score: Score) -> list[Value]:
    test = score.comparison
    interval = Value(f"{test.low:+.4f} to {test.high:+.4f}", test.low)
    *ps, last = (Value(_p_text(p), p) for p in (test.p_t, test.p_wilcoxon, test.holm_t, test.holm_wilcoxon))
    return [_number(test.difference, "{:+.4f}"), interval, *ps, replace(last, mark=_mark(metric, score))]


def _vector_label(metric: str) -> str:
    names = {"rmse": "squared error ↓", "mae": "absolute error ↓"}
    return names.get(metric, metric_label(metric))


def _cost_table(cell: Cell) -> Table:
    columns = ["", "parameters", "chosen epoch", "training s", "testing s", "peak memory MiB"]
    apart = any(row.trained for row in cell.rows)
    rows = [
        [Value(row.label), _number(row.runs[0].record["parameters"], "{:,.0f}"), _epoch(row),
         _number(float(np.mean(row.learning_seconds())), "{:.1f}"),
         _number(row.timing("evaluate_s"), "{:.2f}"), _number(row.timing("peak_rss_mib"), "{:.0f}"),
         *([Value(_told(row.trained, len(row.trained)).strip(" ()"))] if apart else [])]
        for row in cell.rows
    ]  # fmt: skip
    note = "Means over seeds. Memory is of the whole process, some 400 MiB of it libraries."
    if any(STILL in row[2].text for row in rows):
        note += (f" {STILL}: in at least one seed the best epoch is the last that was allowed, so more epochs "
                 "(--epochs) may do better.")  # fmt: skip
    return Table(f"Cost, {cell.name}", columns + ["trained with"] * apart, rows, note=note)


def _epoch(row: Row) -> Value:
    """The chosen epoch, of how many, and whether training was still improving."""
    mean, record = row.timing("best_epoch"), row.runs[0].record
    if not math.isfinite(mean):
        return Value(NOT_THERE)
    allowed = f" of {record['config']['epochs']}" if "epochs" in record["config"] and comparable.trains(record) else ""
    still = f", {STILL}" if any(comparable.still_improving(run.record) for run in row.runs) else ""
    return Value(f"{mean:.0f}{allowed}{still}", mean)


def _unfinished_table(summary: Summary) -> Table:
    records = [run.record for run in summary.unfinished]
    rows = [[Value(record["label"]), Value(record["dataset"]), Value(record["protocol"]),
             Value(str(record["seed"]), record["seed"]), Value(record["status"]), Value(record["error"] or "")]
            for record in records]  # fmt: skip
    note = "The traceback is in record.json and run.log of the run."
    return Table("Runs without a result", ["", "data set", "protocol", "seed", "status", "error"], rows, note=note)


def _explanations(summary: Summary) -> list[str]:
    runs = [run.record for cell in summary.cells for row in cell.rows for run in row.runs]
    keys = ("recbole_dgrm", "recbole", "torch", "numpy", "python", "device", "threads")
    machines = sorted({", ".join(f"{key} {run['environment'].get(key)}" for key in keys) for run in runs})
    return [
        "Every model selects on validation and is tested once. A random order has its exact expectation, the oracle "
        "ranks by the truth; skill is (model − random) / (oracle − random): 0 is a random order, 1 cannot be beaten.",
        "A seed is another split, initialisation and noise; where a split is given, the seed varies training only. The "
        "tests compare users, for the splits at hand; the deviation over seeds says how splits and training vary.",
        "Made with: " + "; ".join(machines) + ".",
    ]


def _stem(cell: Cell) -> str:
    """Of its figures' files; no two cells share one."""
    plain = f"{cell.dataset}-{cell.protocol}"
    stem = re.sub(r"[^\w.-]+", "-", plain)
    if stem == plain and not cell.apart:
        return stem
    return f"{stem[:80]}-{hashlib.sha256(cell.name.encode()).hexdigest()[:8]}"


def _seeds(seeds: list[int]) -> str:
    span = f"{seeds[0]}-{seeds[-1]}" if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1 else (
        ", ".join(map(str, seeds)))  # fmt: skip
    return f"seed {span}" if len(seeds) == 1 else f"{len(seeds)} seeds ({span})"


def _number(value: float | None, form: str) -> Value:
    return Value(NOT_THERE) if value is None or not math.isfinite(value) else Value(form.format(value), value)


def _p_text(p: float) -> str:
    return "< .0001" if p < 1e-4 else f"{p:.4f}".lstrip("0") if p < 1 else "1"
