"""Runs whose predictions were inspected during training, as the report of a diagnosis reads them."""

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recbole_dgrm.errors import DataError
from recbole_dgrm.evaluation import collapse
from recbole_dgrm.evaluation.collapse import DISTRIBUTION, Finding, Verdict
from recbole_dgrm.evaluation.distribution import Bins, Sample
from recbole_dgrm.maths.levels import rating_levels
from recbole_dgrm.records import EPOCHS, RunDirectory, read_runs
from recbole_dgrm.reports import comparable
from recbole_dgrm.reports.statistics import make_rows, read_plan

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Watched:
    """A run and what was found out about its predictions.

    Attributes:
        name: what the report calls it.
    """

    name: str
    run: RunDirectory

    @property
    def record(self) -> dict[str, Any]:
        """The content of ``record.json``."""
        return self.run.record

    @property
    def found(self) -> dict[str, Any]:
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
        return self.found[DISTRIBUTION]["lists"]

    @cached_property
    def bins(self) -> Bins | None:
        """The bins in which predictions were counted; None where the scores are no ratings."""
        if "scale" in self.found:  # of a version that knew evenly spaced levels only
            return Bins(tuple(rating_levels(*self.found["scale"])))
        return Bins(tuple(self.found["levels"])) if "levels" in self.found else None

    @cached_property
    def ratings(self) -> Sample:
        """The ratings that the model learnt from."""
        return self.final("ratings")

    def check(self) -> "Watched":
        """The same run, if its record has everything that the report reads.

        Raises:
            DataError: an entry is missing.
        """
        of_ratings = ("distances", "ks", "distribution ratings") if "scale" in self.found else ()
        wanted = ("verdict", "distribution lists", *of_ratings)
        self.run.need(*(f"diagnosis {place}" for place in wanted), "data n_users", "data n_items", "data n_train")
        bare = [epoch for epoch, look in self.looks.items() if of_ratings and not {"rated", "unrated"} <= set(look)]
        if bare or (of_ratings and not self.looks):
            missing = f"{self.run.path / EPOCHS} has no predictions of epoch {bare[0] if bare else 1}"
            raise DataError(f"{missing}; make the run again with diagnose_every")
        return self

    def final(self, group: str) -> Sample:
        """The predictions of the tested model for a group of pairs, or the ``ratings``."""
        return self._sample(self.found[DISTRIBUTION][group])

    def _sample(self, content: dict[str, Any]) -> Sample:
        assert self.bins  # only runs whose scores are ratings have samples
        return Sample.from_dict(self.bins, content)

    @cached_property
    def looks(self) -> dict[int, dict[str, Any]]:
        """For each epoch, from 1, that was followed by an inspection of all predictions, what this found."""
        lines = [line for line in self.run.epochs() if line["stage"] == "select"]
        return {line["epoch"] + 1: line[DISTRIBUTION] for line in lines if "lists" in line.get(DISTRIBUTION, {})}

    def history(self, group: str) -> dict[int, Sample]:
        """The predictions for a group of pairs after each inspected epoch."""
        return {epoch: self._sample(look[group]) for epoch, look in self.looks.items()}

    def collapsed(self, group: str) -> list[int]:
        """The epochs after which the predictions for a group are judged collapsed."""
        return [epoch for epoch, found in self._findings.items() if found[group].status == collapse.COLLAPSED]

    @cached_property
    def _findings(self) -> dict[int, dict[str, Finding]]:
        """What is found about each group after each inspected epoch; judged once, read by every section."""
        bins, ratings = self.ratings.bins, self.ratings
        return {epoch: dict(collapse.findings(bins, look, ratings)) for epoch, look in self.looks.items()}


def watched(folder: Path) -> list[Watched]:
    """The finished runs below ``folder`` whose training was watched, in the order in which they were planned.

    Raises:
        DataError: there is none, or they cannot stand in one report.
    """
    runs = [run for run in read_runs(folder) if run.finished and run.record["config"].get("diagnose_every")]
    if not runs:
        raise DataError(f"no finished run in {folder} was watched; set diagnose_every, or call diagnose")
    for run in (lost := [run for run in runs if collapse.of_record(run.record) is None]):
        LOG.warning("%s is left out, it has no diagnosis: %s", run.path, run.record["error"])
    runs = [run for run in runs if run not in lost]
    if not runs:
        raise DataError(f"no watched run in {folder} has a diagnosis; the first: {lost[0].record['error']}")
    _check_one_thing(runs)
    several = len({run.record["seed"] for run in runs}) > 1
    rows = make_rows(runs, read_plan(folder))
    named = [(row.label + f", seed {run.record['seed']}" * several, run) for row in rows for run in row.runs]
    return [Watched(name, run).check() for name, run in named]


def _check_one_thing(runs: list[RunDirectory]) -> None:
    """Check that all runs are about one data set and are tested in one way.

    Raises:
        DataError: a run differs from the first.
    """
    definitions = [
        {"dataset": run.record["dataset"], "protocol": run.record["protocol"]} | definition
        for run, definition in zip(runs, comparable.definitions(runs), strict=True)
    ]
    for run, definition in zip(runs, definitions, strict=True):
        if apart := comparable.differences(definition, definitions[:1]):
            together = f"{run.path} cannot stand in one diagnosis with {runs[0].path}"
            remedy = "give each an --output_dir of its own, or move one of them away"
            raise DataError(f"{together}: it has {apart}; {remedy}")
    comparable.check_splits(runs)
