"""Runs whose predictions were inspected during training, for the report of a diagnosis."""

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recbole_dgrm.errors import DataError
from recbole_dgrm.evaluation import collapse
from recbole_dgrm.evaluation.collapse import DISTRIBUTION, Verdict
from recbole_dgrm.evaluation.distribution import Bins, Sample
from recbole_dgrm.records import RunDirectory, read_runs
from recbole_dgrm.reports import comparable
from recbole_dgrm.reports.statistics import make_rows, read_plan

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class DiagnosedRun:
    """A run with its diagnosis.

    Attributes:
        name: of the run in the report.
        verdict: on the tested model and its training.
    """

    name: str
    run: RunDirectory
    verdict: Verdict

    @property
    def record(self) -> dict[str, Any]:
        """The content of ``record.json``."""
        return self.run.record

    @property
    def diagnosis(self) -> dict[str, Any]:
        """The entry ``diagnosis`` of the record."""
        return self.record["diagnosis"]

    @property
    def predicts_ratings(self) -> bool:
        """Whether the predictions of the model are ratings, which can be counted in the bins of the scale."""
        return "levels" in self.diagnosis

    @cached_property
    def ratings(self) -> Sample:
        """The ratings of the training part."""
        return self._sample(self.diagnosis[DISTRIBUTION]["ratings"])

    def _sample(self, content: dict[str, Any]) -> Sample:
        return Sample.from_dict(Bins(tuple(self.diagnosis["levels"])), content)

    @cached_property
    def inspections(self) -> dict[int, dict[str, Any]]:
        """The distribution of all predictions after each inspected epoch; epochs count from 1."""
        lines = [line for line in self.run.epochs() if line["stage"] == "select"]
        return {line["epoch"] + 1: line[DISTRIBUTION] for line in lines if "lists" in line.get(DISTRIBUTION, {})}

    def history(self, group: str) -> dict[int, Sample]:
        """The predictions for a group of pairs, ``rated`` or ``unrated``, after each inspected epoch."""
        return {epoch: self._sample(inspected[group]) for epoch, inspected in self.inspections.items()}

    def collapsed_after(self, epoch: int, group: str) -> bool:
        """Whether the predictions for a group of pairs had collapsed after an inspected epoch."""
        findings = dict(collapse.findings(self.ratings.bins, self.inspections[epoch], self.ratings))
        return findings[group].status == collapse.COLLAPSED


def diagnosed_runs(folder: Path) -> list[DiagnosedRun]:
    """The finished runs below ``folder`` that were inspected during training, in the order in which they were planned.

    Raises:
        DataError: there is none, or they cannot be in one report.
    """
    runs = [run for run in read_runs(folder) if run.finished and run.record["config"].get("diagnose_every")]
    if not runs:
        raise DataError(
            f"no finished run in {folder} was inspected during training; set diagnose_every, or call diagnose"
        )
    verdicts = {run.path: verdict for run in runs if (verdict := collapse.of_record(run.record))}
    for run in runs:
        if run.path not in verdicts:
            LOG.warning("%s is left out, it has no diagnosis: %s", run.path, run.record["error"])
    if not verdicts:
        raise DataError(f"no inspected run in {folder} has a diagnosis; the first: {runs[0].record['error']}")
    runs = [run for run in runs if run.path in verdicts]
    _check_alike(runs)
    several = len({run.record["seed"] for run in runs}) > 1
    return [
        DiagnosedRun(row.label + f", seed {run.record['seed']}" * several, run, verdicts[run.path])
        for row in make_rows(runs, read_plan(folder))
        for run in row.runs
    ]


def _check_alike(runs: list[RunDirectory]) -> None:
    """Check that all runs are of one data set and are tested in one way.

    Raises:
        DataError: a run differs from the first.
    """
    definitions = [
        {key: run.record[key] for key in ("dataset", "protocol")} | comparable.definition_of(run.record) for run in runs
    ]
    for run, definition in zip(runs, definitions, strict=True):
        if distinction := comparable.differences(definition, definitions[:1]):
            raise DataError(
                f"{run.path} cannot be in one diagnosis with {runs[0].path}: it has {distinction}; give each an "
                "--output_dir of its own, or move one of them away"
            )
    comparable.check_splits(runs)
