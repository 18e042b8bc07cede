"""The report on mode collapse in a folder of runs: pages, figures and CSV files.

It reads records and runs nothing. ``collapse_sections`` has the sections.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from recbole_dgrm.evaluation import collapse
from recbole_dgrm.reports import comparable
from recbole_dgrm.reports.collapse_runs import DiagnosedRun, diagnosed_runs
from recbole_dgrm.reports.collapse_sections import DiagnosisSection, sections
from recbole_dgrm.reports.document import Document, Heading, Table, to_csv, write_document
from recbole_dgrm.reports.table_repr import TableRepr
from recbole_dgrm.system.files import make_folder, write_text


@dataclass(frozen=True, repr=False)
class Diagnosis(TableRepr):
    """The report on mode collapse in a folder of runs; ``print`` and notebooks show its verdicts.

    Attributes:
        path: its page, ``diagnosis.html``; Markdown, CSV and figures are in the same folder.
        verdicts: row of the report to one sentence.
    """

    path: Path
    verdicts: dict[str, str]

    def shown(self) -> pd.DataFrame:
        """A row per model with its verdict."""
        return pd.DataFrame({"verdict": self.verdicts})


def write_diagnosis(folder: Path, output_dir: Path | None = None) -> Diagnosis:
    """Write ``diagnosis.{html,md}``, ``figures/`` and ``csv/`` about the runs below ``folder``.

    Args:
        output_dir: where they are written; the folder itself by default.

    Raises:
        DataError: no run there was inspected during training.
    """
    runs = diagnosed_runs(folder)
    parts = list(sections(runs))
    place = output_dir or folder
    make_folder(place / "csv")
    for part in parts:
        write_text(place / "csv" / f"{part.name}.csv", to_csv(part.frame))
    path = write_document(diagnosis_document(runs, parts), place, "diagnosis")
    return Diagnosis(path, {run.name: run.verdict.line for run in runs})


def diagnosis_document(runs: list[DiagnosedRun], parts: list[DiagnosisSection]) -> Document:
    """The document about ``runs`` and their sections; its figures are not drawn yet."""
    document = Document(f"Mode collapse on {runs[0].record['dataset']}", [_introduction(runs)])
    document.blocks += [Heading("Verdicts"), *_explanations(), verdict_table(runs)]
    for part in parts:
        document.blocks += [*([Heading(part.heading)] if part.heading else []), *part.blocks]
    document.blocks += [Heading("What to do about a collapse"), *_remedies()]
    document.blocks += [comparable.made_with(run.record for run in runs)]
    return document


def verdict_table(runs: list[DiagnosedRun]) -> Table:
    """The verdict on each run."""
    columns = {"status": "verdict", "epoch": "tested epoch", "since": "collapse since epoch", "reason": "why"}
    frame = pd.DataFrame([vars(run.verdict) for run in runs], [run.name for run in runs], dtype=object)
    frame = frame[list(columns)].rename(columns=columns)
    note = "The verdict is on the tested model; the third column is about its whole training."
    return Table.of_frame("Verdicts", frame, note=note, mark="verdicts")


def _introduction(runs: list[DiagnosedRun]) -> str:
    record = runs[0].record
    data, config = record["data"], record["config"]
    return (
        f"{data['n_users']:,} users, {data['n_items']:,} items, {data['n_train']:,} ratings to train; protocol "
        f"{record['protocol']}, seed {record['seed']}. All predictions were inspected after epoch 1 and every "
        f"{config['diagnose_every']} epochs, to the end of training; the tested model is the best on validation."
    )


def _explanations() -> Iterator[str]:
    yield (
        "Predictions have collapsed if one of these holds, compared with the ratings of the training part: their "
        f"standard deviation is below {collapse.CONSTANT:g} of the ratings'; they take fewer than {collapse.FEW:g} as "
        "many distinct values (effective numbers, the exponential of the entropy; predictions in bins of a tenth of a "
        "step, ratings by levels); the share that lies inside the scale, not at its ends, is below "
        f"{collapse.INSIDE:.0%} of the ratings' share; or less than {collapse.ALIKE:.0%} of their variance is between "
        "users. A collapse begins at the first inspection from which on every inspection of the training found one."
    )
    yield (
        f"They are narrow if a level of the ratings gets less than {collapse.COVERED:.0%} of its share. Predictions of "
        "a mean vary less than ratings do, so that is usual and not a collapse."
    )
    yield (
        "For models that do not predict ratings the recommendation lists are examined: they have collapsed if at most "
        f"{collapse.ALIKE_LISTS:.0%} of them are distinct (with few users: if all have one list), or would be if items "
        "that a user has seen were not left out."
    )


def _remedies() -> Iterator[str]:
    yield (
        "Predictions hardly differ: lower the weight decay or the learning rate. They take few values, or lie at the "
        "ends of the scale: the critic is too strong; give the reconstruction more weight, and the critic fewer passes "
        "or a lower learning rate. Zero reconstruction (CFGAN's ZR and ZP) pulls unrated pairs to 0 by design. "
        "Everybody gets the same: the generator ignores its condition; use less noise at prediction, less dropout, "
        "more reconstruction."
    )
    yield (
        "The ratings of unrated pairs are unknown. People rate what they like, so predictions below the given "
        "ratings are to be expected there."
    )
