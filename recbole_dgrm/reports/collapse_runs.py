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
from recbole_dgrm.records import EPOCHS, RunDirectory, read_runs
from recbole_dgrm.reports import comparable
from recbole_dgrm.reports.statistics import make_rows, read_plan

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class DiagnosedRun:
    """A run and its diagnosis.

    Attributes:
        name: of the run in the report.
    """

    name: str
    run: RunDirectory

    @property
    def record(self) -> dict[str, Any]:
        """The content of ``record.json``."""
        return self.run.record

    @property
    def diagnosis(self) -> dict[str, Any]:
        """The entry ``diagnosis`` of the record."""
        return self.record["diagnosis"]

    @property
    def verdict(self) -> Verdict:
        """The verdict on the tested model and its training."""
        verdict = collapse.of_record(self.record)
        assert verdict  # see check
        return verdict

    @property
    def lists(self) -> dict[str, Any]:
        """Statistics of the recommendation lists of the tested model."""
        return self.diagnosis[DISTRIBUTION]["lists"]

    @cached_property
    def bins(self) -> Bins | None:
        """The bins in which predictions were counted; None where the model does not predict ratings."""
        return Bins(tuple(self.diagnosis["levels"])) if "levels" in self.diagnosis else None

    @cached_property
    def ratings(self) -> Sample:
        """The ratings of the training part."""
        return self._sample(self.diagnosis[DISTRIBUTION]["ratings"])

    def check(self) -> "DiagnosedRun":
        """The same run, if its record has everything that the report reads.

        Raises:
            DataError: an entry is missing.
        """
        wanted = ("verdict", "distribution lists", *(["distribution ratings"] if self.bins else []))
        self.run.need(*(f"diagnosis {place}" for place in wanted), "data n_users", "data n_items", "data n_train")
        bare = [
            epoch for epoch, found in self.inspections.items() if self.bins and not {"rated", "unrated"} <= set(found)
        ]
        if bare or (self.bins and not self.inspections):
            missing = f"{self.run.path / EPOCHS} has no predictions of epoch {bare[0] if bare else 1}"
            raise DataError(f"{missing}; make the run again with diagnose_every")
        return self

    def _sample(self, content: dict[str, Any]) -> Sample:
        assert self.bins  # only runs that predict ratings have samples
        return Sample.from_dict(self.bins, content)

    @cached_property
    def inspections(self) -> dict[int, dict[str, Any]]:
        """The distribution of all predictions after each inspected epoch; epochs count from 1."""
        lines = [line for line in self.run.epochs() if line["stage"] == "select"]
        return {line["epoch"] + 1: line[DISTRIBUTION] for line in lines if "lists" in line.get(DISTRIBUTION, {})}

    def history(self, group: str) -> dict[int, Sample]:
        """The predictions for a group of pairs, ``rated`` or ``unrated``, after each inspected epoch."""
        return {epoch: self._sample(found[group]) for epoch, found in self.inspections.items()}

    @cached_property
    def collapsed(self) -> dict[str, list[int]]:
        """For each group of pairs the epochs after which its predictions had collapsed."""
        epochs: dict[str, list[int]] = {}
        for epoch, found in self.inspections.items():
            for group, finding in collapse.findings(self.ratings.bins, found, self.ratings):
                epochs.setdefault(group, []).extend([epoch] if finding.status == collapse.COLLAPSED else [])
        return epochs


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
    for run in (lost := [run for run in runs if collapse.of_record(run.record) is None]):
        LOG.warning("%s is left out, it has no diagnosis: %s", run.path, run.record["error"])
    runs = [run for run in runs if run not in lost]
    if not runs:
        raise DataError(f"no inspected run in {folder} has a diagnosis; the first: {lost[0].record['error']}")
    _check_alike(runs)
    several = len({run.record["seed"] for run in runs}) > 1
    rows = make_rows(runs, read_plan(folder))
    named = [(row.label + f", seed {run.record['seed']}" * several, run) for row in rows for run in row.runs]
    return [DiagnosedRun(name, run).check() for name, run in named]


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
            together = f"{run.path} cannot be in one diagnosis with {runs[0].path}"
            remedy = "give each an --output_dir of its own, or move one of them away"
            raise DataError(f"{together}: it has {distinction}; {remedy}")
    comparable.check_splits(runs)
