"""The report of any folder of runs: its statistics as Markdown, HTML, LaTeX, CSV and figures."""

import csv
import hashlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from recbole_dgrm.evaluation.metric_names import metric_label
from recbole_dgrm.evaluation.resolution import LIMIT
from recbole_dgrm.records import JUDGED
from recbole_dgrm.reports import benchmark_figures, calibration, comparable, densities, figures, groups, ranks
from recbole_dgrm.reports.document import Document, Figure, Heading, Table, to_html, to_latex, to_markdown
from recbole_dgrm.reports.result_tables import (
    cell_mode,
    cost_table,
    difference_table,
    ends_below,
    faults,
    headline,
    published_metrics,
    published_table,
    result_table,
    seeds_line,
    telling,
    told,
    unfinished_table,
)
from recbole_dgrm.reports.rows import Cell, Row
from recbole_dgrm.reports.shown import Shown
from recbole_dgrm.reports.statistics import Summary, summarise
from recbole_dgrm.system.files import make_folder, write_text
from recbole_dgrm.system.texts import in_file_name, in_spreadsheet

LOG = logging.getLogger(__name__)
FIGURED = 10  # the first cells have figures, which take longer than everything else
COLUMNS = """
    dataset protocol model metric seeds mean std skill user_standard_error
    baseline users difference low high p_wilcoxon p_t holm_wilcoxon holm_t published
    parameters best_epoch build_s train_s evaluate_s peak_rss_mib resolution definition commit
"""
SIZES = ("users", "items", "train", "valid", "test")
DENSITIES = "densities.csv"
NEEDED = ("config eval_args mode", "config valid_metric", *(f"data n_{what}" for what in SIZES))


@dataclass(frozen=True, repr=False)
class Report(Shown):
    """A report that is written; shown as its results.

    Attributes:
        path: its page, ``report.html``; Markdown, LaTeX, CSV and figures lie beside it.
    """

    path: Path

    def table(self) -> pd.DataFrame:
        """A row per data set, protocol, model and metric, unrounded."""
        return pd.read_csv(self.path.with_suffix(".csv"), keep_default_na=False, na_values=[""])

    def shown(self) -> pd.DataFrame:
        """A row per model and a column per metric: means, and deviations where there are several seeds."""
        table = self.table()
        spread = table["std"].map(lambda std: "" if pd.isna(std) else f" ± {std:.3f}")
        table["text"] = table["mean"].map("{:.3f}".format) + spread
        table["metric"] = table["metric"].map(metric_label)
        keys = ["dataset", "protocol", "definition", "model"]
        table["definition"] = table["definition"].fillna("")
        wide = table.pivot_table("text", keys, "metric", aggfunc="first", sort=False).fillna("")
        return wide.droplevel("definition").rename_axis(columns=None)

    def to_latex(self) -> str:
        """The tables in LaTeX."""
        return self.path.with_suffix(".tex").read_text(encoding="utf-8")


def report(folder: Path | str, baseline: str | None = None, output_dir: Path | str | None = None) -> Report:
    """Write tables and figures of the runs below a folder.

    Args:
        baseline: label that the others are tested against; by default that of the plan.
        output_dir: where the report is written; the folder itself by default.

    Raises:
        DataError: there is nothing to report, or the runs cannot be compared.
    """
    return Report(write_report(Path(folder), Path(output_dir or folder), baseline))


def write_report(folder: Path, output_dir: Path, baseline: str | None = None) -> Path:
    """Write ``report.{md,html,tex,csv}`` and ``figures/`` about the runs below ``folder``, without running anything.

    Args:
        baseline: see ``recbole_dgrm.reports.statistics.summarise``.

    Returns:
        Path of ``report.html``.

    Raises:
        recbole_dgrm.errors.DataError: there is nothing to report, or runs that cannot be compared.
    """
    summary = summarise(folder, baseline)
    for run in (run for cell in summary.cells for row in cell.rows for run in row.runs):
        run.need(*NEEDED)
    make_folder(output_dir)
    courses = list(densities.over_densities(summary.cells))
    document = benchmark_document(summary, folder.resolve().name, courses)
    document.blocks = list(_drawn(document, summary, courses, output_dir))
    forms = {"md": to_markdown(document), "html": to_html(document, output_dir)}
    forms |= {"tex": to_latex(document), "csv": to_csv(summary)}
    for kind, text in forms.items():
        write_text(output_dir / f"report.{kind}", text)
    if courses:
        answers = pd.concat([course.answers for course in courses])
        write_text(output_dir / DENSITIES, answers.to_csv(index=False))
    for fault in (fault for cell in summary.cells for fault in faults(cell)):
        LOG.warning("%s", fault)
    return output_dir / "report.html"


def benchmark_document(summary: Summary, name: str, courses: list[densities.Densities]) -> Document:
    """The document about a summary and what its runs answer over densities; its figures are not drawn yet."""
    document = Document(f"Benchmark {name}")
    add = document.blocks.extend
    several = len(summary.cells) > 1
    add(fault for cell in summary.cells for fault in faults(cell))
    add(f"{cell.name}: {headline(cell)}" if several else headline(cell) for cell in summary.cells)
    add(f"{cell.name}: {said}" if several else said for cell in summary.cells for said in ends_below(cell))
    add(ranks.section(summary.cells))
    add(densities.section(courses))
    for number, cell in enumerate(summary.cells, 1):
        add([Heading(cell.name), _introduction(cell), result_table(cell)])
        if published := published_metrics(cell):
            add([published_table(cell, summary.plan, published)])
        without = f"Figures are drawn for the first {FIGURED} tables only; a report of a part of the folder has them."
        add([figure for figure, _ in _figures(cell)] if number <= FIGURED else [without])
        add([difference_table(cell)] if cell.baseline and len(cell.rows) > 1 else [])
        add(groups.tables(cell))
        add([cost_table(cell)])
        wrong = [(row.label, run.record) for row in cell.rows for run in row.runs if run.record["error"]]
        add(f"{label}, seed {record['seed']}: {record['error']}." for label, record in wrong)
    add(_uncertainty(summary))
    if summary.unfinished:
        add([Heading("Runs without a result"), unfinished_table(summary)])
    add([Heading("How to read this"), *_explanations(summary)])
    return document


def to_csv(summary: Summary) -> str:
    """All results, unrounded, in a line per data set, protocol, model and metric."""
    text = StringIO()
    writer = csv.DictWriter(text, COLUMNS.split(), restval="", lineterminator="\n")
    writer.writeheader()
    for cell in summary.cells:
        for row in [*cell.reference, *cell.rows]:
            for metric in row.scores:
                model = row.label if row.runs else row.label + told(row.trained)
                line = {"dataset": cell.dataset, "protocol": cell.protocol, "model": model, "metric": metric}
                values = {**line, **_csv_values(cell, row, metric), "definition": comparable.described(cell.definition)}
                known = {key: value for key, value in values.items() if value is not None and value == value}
                writer.writerow({key: in_spreadsheet(value) for key, value in known.items()})
    return text.getvalue()


def _csv_values(cell: Cell, row: Row, metric: str) -> dict[str, Any]:
    score = row.scores[metric]
    values: dict[str, Any] = {key: getattr(score, key) for key in ("mean", "std", "skill", "published")}
    values |= {"seeds": len(score.values), "user_standard_error": score.user_error}
    values["resolution"] = cell.resolution.get(metric, {}).get("ratio")
    if score.comparison and cell.baseline:
        values |= {"baseline": cell.baseline.label, **vars(score.comparison)}
    if row.runs:
        values["parameters"] = row.runs[0].record["parameters"]
        values["commit"] = " ".join(sorted({run.record["environment"].get("commit", "") for run in row.runs}))
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
        f"{len(cell.rows)} models, {seeds_line(cell.seeds)}; every model saw the same split (checked by its "
        f"fingerprint). The metrics are defined by {comparable.described(cell.definition)}."
    )


def _figures(cell: Cell) -> Iterator[tuple[Figure, Callable[[Path], None]]]:
    """The figures of a cell, each with the function that draws it; they show the best rows if there are very many."""
    shown = benchmark_figures.best_rows(cell)
    few = "" if shown is cell else f" The best {len(shown.rows)} of {len(cell.rows)} rows."

    def figure(name: str, title: str, caption: str) -> Figure:
        return Figure(f"figures/{_stem(cell)}-{name}", f"{title}, {cell.name}", caption + few)

    title, caption = benchmark_figures.forest_words(shown)
    yield figure("metrics", title, caption), partial(benchmark_figures.forest, shown)
    caption = (
        "The line: what is best for a time; models that another beats in both are paler. Small points: seeds; large: "
        "their mean. A pale point whose name has no room has none. Seconds as measured, on however busy a machine."
    )
    if np.isfinite([second for row in shown.rows for second in row.learning_seconds()]).any():
        draw = partial(benchmark_figures.accuracy_against_time, shown, telling(cell))
        yield figure("time", "Accuracy against training time", caption), draw
    if not all(row.judged for row in shown.rows):
        caption = "Means over seeds, up to the epoch in which the first of them stopped."
        yield figure("learning", "Learning curves", caption), partial(benchmark_figures.learning_curves, shown)


def _uncertainty(summary: Summary) -> Iterator[Heading | str | Table | Figure]:
    """The section about models that say how sure they are; nothing where there are none."""
    sure = {number: rows for number, cell in enumerate(summary.cells) if (rows := calibration.by_row(cell))}
    if sure:
        yield Heading(calibration.TITLE)
    for number, rows in sure.items():
        cell = summary.cells[number]
        means = calibration.of_means(cell)
        said = calibration.verdict(rows, means)
        yield f"{cell.name}: {said}" if len(summary.cells) > 1 else said
        yield calibration.table(cell, rows, means)
        yield from (figure for figure, _ in _reliability(cell) if number < FIGURED)


def _reliability(cell: Cell) -> Iterator[tuple[Figure, Callable[[Path], None]]]:
    """The reliability figure of a cell, with the function that draws it; none where no model says how sure it is."""
    rows = calibration.by_row(benchmark_figures.best_rows(cell))
    if rows:
        caption = "Means over seeds. Below the diagonal a model is too sure, above it not sure enough."
        figure = Figure(f"figures/{_stem(cell)}-reliability", f"Reliability, {cell.name}", caption)
        yield figure, partial(benchmark_figures.reliability, rows, calibration.of_means(cell))


def _drawn(document: Document, summary: Summary, courses: list[densities.Densities], output_dir: Path) -> Iterator[Any]:
    """The blocks of the document after its figures are drawn; a sentence replaces one that cannot be drawn."""
    shown = [pair for cell in summary.cells[:FIGURED] for pair in (*_figures(cell), *_reliability(cell))]
    draw: dict[str, Callable[[Path], None]] = {figure.file: draws for figure, draws in shown}
    several = (*ranks.figures(summary.cells), *densities.figures(courses))
    draw |= {figure.file: draws for figure, draws in several}
    for block in document.blocks:
        yield figures.drawn(block, draw[block.file], output_dir) if isinstance(block, Figure) else block


def _explanations(summary: Summary) -> list[str]:
    runs = [run.record for cell in summary.cells for row in cell.rows for run in row.runs]
    judged = list(dict.fromkeys(run["label"] for run in runs if run["model"] == JUDGED))
    trained_elsewhere = (
        f"Of {', '.join(judged)} only the predictions for the test part were given: what they have learnt from, and "
        "how they were selected, is vouched for by whoever made them."
    )
    return [
        "Every model selects on validation and is tested once. A random order has its exact expectation, the oracle "
        "ranks by the truth; skill is (model − random) / (oracle − random): 0 is a random order, 1 cannot be beaten.",
        "The resolution of a metric is (oracle − random) against the standard error over users of a comparison, that "
        f"of bias with random; from {LIMIT:.0f} on a difference of a tenth of the way from random to oracle is found "
        "four times out of five. For errors, whose oracle nobody comes near, the way is thrice that to bias.",
        "A seed is another split, initialisation and noise; where a split is given or cuts the timeline, the seed "
        "varies training only. The tests compare users, for the splits at hand; the deviation over seeds says how "
        "splits and training vary.",
        *([trained_elsewhere] if judged else []),
        comparable.made_with(runs),
    ]


def _stem(cell: Cell) -> str:
    """What the names of the cell's figures begin with; no two cells share it."""
    plain = f"{cell.dataset}-{cell.protocol}"
    stem = in_file_name(plain)
    if stem == plain and not cell.apart:
        return stem
    return f"{stem[:80]}-{hashlib.sha256(cell.name.encode()).hexdigest()[:8]}"
