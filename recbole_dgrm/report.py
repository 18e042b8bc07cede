"""A report of any folder of runs: what to say about a summary, as Markdown, HTML, LaTeX, CSV and figures."""

import csv
import math
import re
from collections.abc import Iterable
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from recbole_dgrm import plots
from recbole_dgrm.document import Document, Figure, Heading, Table, Value, to_html, to_latex, to_markdown
from recbole_dgrm.files import write_text
from recbole_dgrm.labels import metric_label, smaller_is_better
from recbole_dgrm.summary import Cell, Row, Score, Summary, summarise

BETTER, WORSE, NOT_THERE = "▲", "▼", "–"
REFERENCE_LABELS = {
    False: {"random": "random order", "bias": "user + item means", "oracle": "oracle: the true ratings"},
    True: {"random": "random order", "bias": "item popularity", "oracle": "oracle: the test items first"},
}
COLUMNS = [
    "dataset", "protocol", "model", "metric", "seeds", "mean", "std", "skill", "user_standard_error", "baseline",
    "users", "difference", "low", "high", "p_wilcoxon", "p_t", "holm_wilcoxon", "holm_t", "published",
    "parameters", "best_epoch", "build_s", "train_s", "evaluate_s", "peak_rss_mib",
]  # fmt: skip
NEEDED = ("config eval_args mode", "config valid_metric",
          *(f"data n_{what}" for what in ("users", "items", "train", "valid", "test")))  # fmt: skip


def write_report(folder: Path, output_dir: Path, baseline: str | None = None) -> Path:
    """Write ``report.{md,html,tex,csv}`` and ``figures/`` about the runs below ``folder``; runs nothing.

    Args:
        baseline: see ``recbole_dgrm.summary.summarise``.

    Returns:
        Path of ``report.html``.

    Raises:
        recbole_dgrm.errors.DataError: there is nothing to report, or runs that cannot be compared.
    """
    summary = summarise(folder, baseline)
    for run in (run for cell in summary.cells for row in cell.rows for run in row.runs):
        run.need(*NEEDED)
    output_dir.mkdir(parents=True, exist_ok=True)
    document = build(summary, folder.resolve().name)
    for cell in summary.cells:
        _draw(cell, output_dir)
    forms = {"md": to_markdown(document), "html": to_html(document, output_dir), "tex": to_latex(document),
             "csv": to_csv(summary)}  # fmt: skip
    for kind, text in forms.items():
        write_text(output_dir / f"report.{kind}", text)
    return output_dir / "report.html"


def build(summary: Summary, name: str) -> Document:
    """The document; its figures are drawn elsewhere."""
    document = Document(f"Benchmark {name}")
    add = document.blocks.extend
    for cell in summary.cells:
        add([Heading(cell.name), _introduction(cell), result_table(cell)])
        if published := _published_metrics(cell):
            add([_published_table(cell, summary.plan, published)])
        add(_figures(cell))
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
        name = row.label if row.seeds == seeds else f"{row.label} ({len(row.seeds)} of {len(seeds)} seeds)"
        skill = row.scores[main].skill if main in row.scores else math.nan
        rows.append([Value(name), *(_score_value(row, metric) for metric in cell.metrics), _number(skill, "{:.3f}")])
    labels = REFERENCE_LABELS[_is_ranking(cell)]
    quiet = [[Value(labels[row.label]), *(_score_value(row, metric) for metric in cell.metrics), Value("")]
             for row in cell.reference]  # fmt: skip
    what = f"Mean ± standard deviation over {_seeds(seeds)}" if len(seeds) > 1 else f"From {_seeds(seeds)} alone"
    note = f"{what}. Best in bold, second underlined."
    if any(value.text == NOT_THERE for row in rows for value in row):
        note += f" {NOT_THERE}: not computed, because the scores are no ratings."
    if cell.baseline and len(rows) > 1:
        note += (f" {BETTER} better and {WORSE} worse than {cell.baseline.label}: paired t-test and Wilcoxon test over "
                 "users both below .05 after Holm's correction.")  # fmt: skip
    return Table(f"Results, {cell.name}", columns, rows, quiet, note)


def to_csv(summary: Summary) -> str:
    """Everything in long form, a line per data set, protocol, model and metric, unrounded."""
    text = StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for cell in summary.cells:
        for row in [*cell.reference, *cell.rows]:
            for metric, score in row.scores.items():
                line = {"dataset": cell.dataset, "protocol": cell.protocol, "model": row.label, "metric": metric}
                writer.writerow({key: value for key, value in {**line, **_csv_values(cell, row, score)}.items()
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
    what = "the user's own test ratings are ranked" if not _is_ranking(cell) else "all unseen items are ranked"
    return (
        f"{data['n_users']:,} users, {data['n_items']:,} items; {data['n_train']:,} ratings to train, "
        f"{data['n_valid']:,} to validate, {data['n_test']:,} to test; {what}. "
        f"{len(cell.rows)} models, {_seeds(cell.seeds)}; every model saw the same split (checked by its fingerprint)."
    )


def _score_value(row: Row, metric: str) -> Value:
    score = row.scores.get(metric)
    if score is None:
        return Value(NOT_THERE)
    text = f"{score.mean:.3f}" + (f" ± {score.std:.3f}" if math.isfinite(score.std) else "")
    return Value(text, score.mean, {1: "best", 2: "second"}.get(score.place, ""), _mark(metric, score))


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
        scores = [row.scores[metric] for metric in metrics if metric in row.scores]
        if len(scores) == len(metrics) and all(math.isfinite(score.published) for score in scores):
            rows.append([Value(row.label), *(value for score in scores for value in _beside(score))])
    note = f"Published: {plan['published']['source']}."
    return Table(f"Published beside ours, {cell.name}", ["", *columns], rows, note=note)


def _beside(score: Score) -> list[Value]:
    difference = _number(score.mean - score.published, "{:+.3f}")
    return [_number(score.published, "{:.3f}"), _number(score.mean, "{:.3f}"), difference]


def _figures(cell: Cell) -> Iterable[Figure]:
    stem = _stem(cell)
    yield Figure(f"figures/{stem}-metrics", f"Metrics, {cell.name}", (
        "Bars begin at the value of a random order. Whiskers: 95 % interval over users where the metric is a mean over "
        "users, else the standard deviation over seeds."))  # fmt: skip
    yield Figure(f"figures/{stem}-time", f"Accuracy against training time, {cell.name}",
                 "Small points: seeds; large: their mean. Seconds as measured, on however busy a machine.")  # fmt: skip
    yield Figure(f"figures/{stem}-learning", f"Learning curves, {cell.name}",
                 "Means over seeds, up to the epoch in which the first of them stopped.")  # fmt: skip


def _draw(cell: Cell, output_dir: Path) -> None:
    metrics, time, learning = (output_dir / figure.file for figure in _figures(cell))
    plots.metric_bars(cell, metrics)
    plots.accuracy_against_time(cell, cell.metrics[0], time)
    plots.learning_curves(cell, learning)


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
    rows = [
        [Value(row.label), _number(row.runs[0].record["parameters"], "{:,.0f}"),
         _number(row.timing("best_epoch"), "{:.0f}"), _number(float(np.mean(row.learning_seconds())), "{:.1f}"),
         _number(row.timing("evaluate_s"), "{:.2f}"), _number(row.timing("peak_rss_mib"), "{:.0f}")]
        for row in cell.rows
    ]  # fmt: skip
    note = "Means over seeds. Memory is of the whole process, some 400 MiB of it libraries."
    return Table(f"Cost, {cell.name}", columns, rows, note=note)


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


def _is_ranking(cell: Cell) -> bool:
    return cell.rows[0].runs[0].record["config"]["eval_args"]["mode"] == "full"


def _stem(cell: Cell) -> str:
    return re.sub(r"[^\w.-]+", "-", f"{cell.dataset}-{cell.protocol}")


def _seeds(seeds: list[int]) -> str:
    span = f"{seeds[0]}-{seeds[-1]}" if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1 else (
        ", ".join(map(str, seeds)))  # fmt: skip
    return f"seed {span}" if len(seeds) == 1 else f"{len(seeds)} seeds ({span})"


def _number(value: float | None, form: str) -> Value:
    return Value(NOT_THERE) if value is None or not math.isfinite(value) else Value(form.format(value), value)


def _p_text(p: float) -> str:
    return "< .0001" if p < 1e-4 else f"{p:.4f}".lstrip("0") if p < 1 else "1"
