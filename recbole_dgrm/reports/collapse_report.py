"""The diagnosis of a folder of runs: what their records say about mode collapse, as pages, figures and CSV files.

It reads records and runs nothing. ``collapse_sections`` and ``chain_sections`` write the sections.
"""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from recbole_dgrm.evaluation import collapse
from recbole_dgrm.reports import chain_sections, collapse_sections, comparable
from recbole_dgrm.reports.collapse_runs import Watched, watched
from recbole_dgrm.reports.collapse_sections import number
from recbole_dgrm.reports.document import Document, Heading, Table, Value, to_html, to_markdown
from recbole_dgrm.reports.shown import Shown
from recbole_dgrm.system.files import write_text


@dataclass(frozen=True, repr=False)
class Diagnosis(Shown):
    """The report on mode collapse in a folder of runs; shown as its verdicts.

    Attributes:
        path: its page, ``diagnosis.html``; Markdown, CSV and figures are in the same folder.
        verdicts: row of the report to one sentence.
    """

    path: Path
    verdicts: dict[str, str]

    def shown(self) -> pd.DataFrame:
        """A row per model with its verdict."""
        return pd.DataFrame({"verdict": self.verdicts})


def write_diagnosis(folder: Path) -> Diagnosis:
    """Write ``diagnosis.{html,md}``, ``figures/`` and ``csv/`` about the runs below ``folder``.

    Raises:
        DataError: the training of no run there was watched.
    """
    runs = watched(folder)
    document = diagnosis_document(runs, folder)
    for kind, text in [("md", to_markdown(document)), ("html", to_html(document, folder))]:
        write_text(folder / f"diagnosis.{kind}", text)
    return Diagnosis(folder / "diagnosis.html", {run.name: run.verdict.line for run in runs})


def diagnosis_document(runs: list[Watched], folder: Path) -> Document:
    """The document about ``runs``; its figures and CSV files are written below ``folder`` on the way."""
    document = Document(f"Mode collapse on {runs[0].record['dataset']}", [_introduction(runs), verdict_table(runs)])
    for section, shown in _sections(runs):
        document.blocks += section(shown, folder) if shown else []
    made_with = comparable.made_with(run.record for run in runs)
    document.blocks += [Heading("How to read this"), *_explanations(), made_with]
    return document


def _sections(runs: list[Watched]) -> list[tuple[collapse_sections.Section, list[Watched]]]:
    """The sections in order, each with the runs that it can say something about."""
    rating = [run for run in runs if run.bins]
    inspected = [run for run in rating if run.looks]
    compared = [run for run in rating if "distances" in run.found]
    swept = [run for run in rating if "sweep" in run.found]
    fixed = any(run.record["config"].get("fixed_step") is not None for run in runs)
    return [
        (collapse_sections.distributions, inspected),
        (collapse_sections.course, inspected),
        (collapse_sections.test_distances, compared),
        (collapse_sections.ks_test, [run for run in rating if "ks" in run.found]),
        (chain_sections.denoising_steps, swept),
        (chain_sections.fixed_steps, runs if fixed else []),
        (collapse_sections.recommendation_lists, runs),
    ]


def verdict_table(runs: list[Watched]) -> Table:
    """The verdict on each run."""
    columns = ["", "verdict", "tested epoch", "collapse since epoch", "why"]
    rows = []
    for run in runs:
        verdict = run.verdict
        epochs = [number(verdict.epoch), number(verdict.since)]
        rows.append([Value(run.name), Value(verdict.status), *epochs, Value(verdict.reason)])
    return Table("Verdicts", columns, rows, note="Of the tested model; the fourth column is about its whole training.")


def _introduction(runs: list[Watched]) -> str:
    record = runs[0].record
    data, config = record["data"], record["config"]
    return (
        f"{data['n_users']:,} users, {data['n_items']:,} items, {data['n_train']:,} ratings to train; protocol "
        f"{record['protocol']}, seed {record['seed']}. Looked at after epoch 1 and every {config['diagnose_every']} "
        "epochs; training does not stop early, the tested model is the best of validation."
    )


def _explanations() -> list[str]:
    return [
        f"Predictions are called collapsed if their standard deviation is below {collapse.CONSTANT:g} of the ratings'; "
        f"if they take fewer than {collapse.FEW:g} as many distinct values as the ratings (effective numbers, the "
        "exponential of the entropy; predictions in bins of a tenth of a step, ratings by levels); if of what should "
        f"lie inside the scale less than {collapse.INSIDE:.0%} does; or if less than {collapse.ALIKE:.0%} of their "
        "variance is between users.",
        f"They are narrow if a level of the ratings gets less than {collapse.COVERED:.0%} of its share. A model that "
        "predicts means is narrower than the ratings, so that is usual and no collapse.",
        "Where scores are no ratings the lists are judged: everybody gets the same if no more than "
        f"{collapse.ALIKE_LISTS:.0%} of them differ (of few users: if all have one list), or would not differ but for "
        "what users have seen.",
        "A collapse begins at the first of the looks, without a break to the end of training, at which it holds.",
        "What to do. Predictions hardly differ: weight decay or learning rate are too high. Few values or the ends of "
        "the scale: the adversary leads; give the reconstruction more weight, the critic fewer passes or a lower "
        "learning rate; zero reconstruction (CFGAN's ZR and ZP) pulls unrated pairs to 0 by design. Everybody gets the "
        "same: the generator does not read its condition; less noise at prediction, less dropout, more reconstruction.",
        "What the ratings of unrated pairs would be nobody knows: people rate what they like, so predictions below the "
        "given ratings are to be expected there.",
    ]
