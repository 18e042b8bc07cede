"""The report of any folder of runs: its statistics as Markdown, HTML, LaTeX, CSV and figures."""

import hashlib
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_dgrm.errors import DataError
from recbole_dgrm.evaluation.metric_names import metric_label
from recbole_dgrm.evaluation.resolution import LIMIT
from recbole_dgrm.records import PREDICTIONS_ONLY
from recbole_dgrm.reports import benchmark_figures, calibration, comparable, result_tables, sentences
from recbole_dgrm.reports.breakdowns import group_tables
from recbole_dgrm.reports.collapse_report import write_diagnosis
from recbole_dgrm.reports.densities import density_answers, density_section
from recbole_dgrm.reports.document import Document, Figure, Heading, Table, to_csv, write_document
from recbole_dgrm.reports.result_tables import result_table, settings_suffix
from recbole_dgrm.reports.rows import Cell, ModelRow
from recbole_dgrm.reports.statistics import Summary, summarise
from recbole_dgrm.reports.table_repr import TableRepr
from recbole_dgrm.system.files import write_text
from recbole_dgrm.system.texts import in_file_name

LOG = logging.getLogger(__name__)
COLUMNS = """
    dataset protocol model metric seeds mean std skill user_standard_error
    baseline users common_seeds difference low high seed_std p holm published
    parameters best_epoch build_s train_s evaluate_s peak_rss_mib read_s validate_s diagnose_s calibrate_s
    resolution definition commit
"""
TIMINGS = (
    *("best_epoch", "build_s", "train_s", "evaluate_s", "peak_rss_mib"),
    *("read_s", "validate_s", "diagnose_s", "calibrate_s"),
)
COVERAGE = (
    "The figures have a panel per model: the share of test ratings within its intervals minus the share that they "
    "promise, in the mean over seeds. Below the line a model is overconfident. The band has 95 % of what chance does "
    f"to right intervals on one split; the grey line is {calibration.MEANS}. A curve that is off by more than 10 % "
    "leaves its panel."
)


@dataclass(frozen=True, repr=False)
class Report(TableRepr):
    """A written report; ``print`` and notebooks show its results.

    Attributes:
        path: its page, ``report.html``; Markdown, LaTeX, CSV and figures are in the same folder.
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
    """Write tables and figures of the runs below a folder; nothing is run.

    Args:
        baseline: label of the model that the others are tested against; by default that of the plan.
        output_dir: where the report is written; the folder itself by default.

    Raises:
        DataError: there is nothing to report, or the runs cannot be compared.
    """
    return Report(write_report(Path(folder), Path(output_dir or folder), baseline))


def write_report(folder: Path, output_dir: Path, baseline: str | None = None) -> Path:
    """Write ``report.{md,html,tex,csv}`` and ``figures/`` about the runs below ``folder``; see ``report``.

    If trainings were inspected (``diagnose_every``), the report on mode collapse is written, too.

    Returns:
        Path of ``report.html``.
    """
    summary = summarise(folder, baseline)
    answers = density_answers(summary.cells)
    document = benchmark_document(summary, folder.resolve().name, answers)
    page = write_document(document, output_dir, "report", ("md", "html", "tex"))
    write_text(page.with_suffix(".csv"), to_csv(results_frame(summary)))
    if len(answers):
        write_text(output_dir / "densities.csv", to_csv(answers))
    for fault in (fault for cell in summary.cells for fault in sentences.faults(cell)):
        LOG.warning("%s", fault)
    if any(record["config"].get("diagnose_every") for cell in summary.cells for record in cell.records):
        try:
            write_diagnosis(folder, output_dir)
        except DataError as error:
            LOG.warning("there is no report on mode collapse: %s", error)
    return page


def benchmark_document(summary: Summary, name: str, answers: pd.DataFrame) -> Document:
    """The document about a summary and what its runs answer over densities."""
    document = Document(f"Benchmark {name}")
    add = document.blocks.extend
    add(fault for cell in summary.cells for fault in sentences.faults(cell))
    prefix = [f"{cell.name}: " if len(summary.cells) > 1 else "" for cell in summary.cells]
    add(start + sentences.headline(cell) for start, cell in zip(prefix, summary.cells, strict=True))
    for start, cell in zip(prefix, summary.cells, strict=True):
        add(start + sentence for sentence in sentences.worse_than_bias(cell))
    add([Heading("How to read this"), *_explanations(summary)])
    add(density_section(answers))
    for cell in summary.cells:
        add(_cell_section(cell, summary.plan))
    add(_uncertainty_section(summary))
    if summary.unfinished:
        add([Heading("Runs without a result"), result_tables.unfinished_table(summary)])
    add([comparable.made_with(record for cell in summary.cells for record in cell.records)])
    return document


def _cell_section(cell: Cell, plan: dict[str, Any]) -> Iterator[Heading | str | Table | Figure]:
    yield Heading(cell.name)
    yield _introduction(cell)
    yield result_table(cell)
    if published := result_tables.published_table(cell, (plan.get("published") or {}).get("source", "")):
        yield published
    if cell.compared and cell.baseline:
        title, draw = f"Differences to {cell.baseline.label}, {cell.name}", partial(benchmark_figures.differences, cell)
        yield Figure(f"figures/{_stem(cell)}-metrics", title, benchmark_figures.DIFFERENCES, draw)
        yield result_tables.difference_table(cell, title)
    yield from group_tables(cell)
    yield result_tables.cost_table(cell)
    for record in cell.records:
        if record["error"]:
            yield f"{record['label']}, seed {record['seed']}: {record['error']}."


def results_frame(summary: Summary) -> pd.DataFrame:
    """All results, unrounded: a row per data set, protocol, model and metric."""
    lines = [
        _result_line(cell, row, metric)
        for cell in summary.cells
        for row in [*cell.reference, *cell.rows]
        for metric in row.scores
    ]
    return pd.DataFrame(lines, columns=COLUMNS.split(), dtype=object)


def _result_line(cell: Cell, row: ModelRow, metric: str) -> dict[str, Any]:
    score = row.scores[metric]
    model = row.label if row.runs else row.label + settings_suffix(row.trained)
    values: dict[str, Any] = {"dataset": cell.dataset, "protocol": cell.protocol, "model": model, "metric": metric}
    values |= {key: getattr(score, key) for key in ("mean", "std", "skill", "published")}
    values |= {"seeds": len(score.values), "user_standard_error": score.user_error}
    values |= {"resolution": cell.resolution.get(metric, {}).get("ratio")}
    values |= {"definition": comparable.described(cell.definition)}
    if score.comparison and cell.baseline:
        values |= {"baseline": cell.baseline.label, **vars(score.comparison)}
    if row.runs:
        values["parameters"] = row.runs[0].record["parameters"]
        values["commit"] = " ".join(sorted({run.record["environment"].get("commit", "") for run in row.runs}))
        values |= {key: row.timing(key) for key in TIMINGS}
    return values


def _introduction(cell: Cell) -> str:
    data = cell.records[0]["data"]
    own = cell.mode == "labeled"
    what = "the user's own test ratings are ranked" if own else "all unseen items are ranked"
    return (
        f"{data['n_users']:,} users, {data['n_items']:,} items; {data['n_train']:,} ratings to train, "
        f"{data['n_valid']:,} to validate, {data['n_test']:,} to test; {what}. "
        f"{len(cell.rows)} models, {result_tables.seeds_line(cell.seeds)}; every model saw the same split (checked by "
        f"its fingerprint). The metrics are defined by {comparable.described(cell.definition)}."
    )


def _uncertainty_section(summary: Summary) -> Iterator[Heading | str | Table | Figure]:
    """The section about models with standard deviations; empty if there are none."""
    cells = [cell for cell in summary.cells if calibration.by_row(cell)]
    if cells:
        yield from (Heading(calibration.TITLE), calibration.EXPLAINED, COVERAGE)
    for cell in cells:
        rows, means = calibration.by_row(cell), calibration.of_means(cell)
        yield calibration.table(cell, rows, means)
        draw, title = partial(benchmark_figures.coverage, rows, means), f"Coverage of intervals, {cell.name}"
        yield Figure(f"figures/{_stem(cell)}-coverage", title, "Covered minus promised share of the ratings.", draw)


def _explanations(summary: Summary) -> Iterator[str]:
    runs = [record for cell in summary.cells for record in cell.records]
    yield (
        "Each model is selected on the validation part and tested once. Three reference rows need no training: a "
        "random order, with its exact expectation; user + item means (item popularity where all items are ranked); and "
        "the oracle, which ranks by the truth. Skill is (model − random) / (oracle − random): 0 is a random order, 1 "
        "cannot be beaten."
    )
    yield (
        "The resolution of a metric says whether there is enough test data to compare models by it: its range, divided "
        "by the standard error over users of a difference between two rows (means and random). The range is oracle − "
        "random; for RMSE and MAE, whose oracle is out of reach, it is 3 × (random − means). From a resolution of "
        f"{LIMIT:.0f} on, a difference of a tenth of the range is significant four times out of five."
    )
    yield (
        "Each seed has its own split, initialisation and noise; if the split is given as files or is temporal, the "
        "seed only changes the training. A test of significance treats users and seeds as samples (crossed random "
        "effects, Satterthwaite's degrees of freedom), so it covers other users and other trainings on this data set, "
        "and says nothing about another data set. The standard deviation over seeds shows how much splits and training "
        "vary."
    )
    if external := list(dict.fromkeys(run["label"] for run in runs if run["model"] == PREDICTIONS_ONLY)):
        yield (
            f"For {', '.join(external)} only the predictions for the test part were given. How these models were "
            "trained and selected could not be checked."
        )


def _stem(cell: Cell) -> str:
    """The prefix of the names of the cell's figures, which is different for each cell."""
    plain = f"{cell.dataset}-{cell.protocol}"
    stem = in_file_name(plain)
    if stem == plain and not cell.distinction:
        return stem
    return f"{stem[:80]}-{hashlib.sha256(cell.name.encode()).hexdigest()[:8]}"
