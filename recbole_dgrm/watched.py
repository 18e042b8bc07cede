"""Runs whose training was watched, as the report of a diagnosis reads them."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from recbole_dgrm import collapse, diagnosis
from recbole_dgrm.collapse import Finding, Verdict
from recbole_dgrm.diagnosis import DISTRIBUTION, of_record
from recbole_dgrm.distribution import Bins, Sample, rating_levels
from recbole_dgrm.errors import DataError
from recbole_dgrm.records import EPOCHS, SavedRun, read_runs
from recbole_dgrm.summary import place, planned_labels, read_plan


@dataclass(frozen=True)
class Watched:
    """A run and what was seen of it."""

    name: str
    run: SavedRun

    @property
    def record(self) -> dict[str, Any]:
        """``record.json``."""
        return self.run.record

    @property
    def found(self) -> dict[str, Any]:
        """``diagnosis`` of the record."""
        return self.record["diagnosis"]

    @property
    def verdict(self) -> Verdict:
        """On the tested model and its training."""
        return of_record(self.record)

    @cached_property
    def bins(self) -> Bins | None:
        """None where the scores are no ratings."""
        if "scale" in self.found:  # of a version that knew evenly spaced levels only
            return Bins(tuple(rating_levels(*self.found["scale"])))
        return Bins(tuple(self.found["levels"])) if "levels" in self.found else None

    @cached_property
    def ratings(self) -> Sample:
        """The ratings that were learnt from."""
        return self.final("ratings")

    def check(self) -> "Watched":
        """This, if it has all that a report of a diagnosis reads.

        Raises:
            DataError: it has not.
        """
        of_ratings = ("distances", "ks", "distribution ratings") if "scale" in self.found else ()
        wanted = ("verdict", "distribution lists", *of_ratings)
        self.run.need(*(f"diagnosis {place}" for place in wanted), "data n_users", "data n_items", "data n_train")
        bare = [epoch for epoch, look in self.looks.items() if of_ratings and not {"rated", "unrated"} <= set(look)]
        if bare or (of_ratings and not self.looks):
            raise DataError(f"{self.run.path / EPOCHS} has no predictions of epoch {bare[0] if bare else 1}; make the "
                            "run again with diagnose_every")  # fmt: skip
        return self

    def final(self, group: str) -> Sample:
        """Predictions of the tested model."""
        return Sample.from_dict(self.bins, self.found[DISTRIBUTION][group])

    @cached_property
    def looks(self) -> dict[int, dict[str, Any]]:
        """Epoch, from 1, to what the whole pass after it saw."""
        lines = [line for line in self.run.epochs() if line["stage"] == "select"]
        return {line["epoch"] + 1: line[DISTRIBUTION] for line in lines if "lists" in line.get(DISTRIBUTION, {})}

    def history(self, group: str) -> dict[int, Sample]:
        """Epoch to the predictions of a group."""
        return {epoch: Sample.from_dict(self.bins, look[group]) for epoch, look in self.looks.items()}

    def collapsed(self, group: str) -> list[int]:
        """The epochs at which a group is judged collapsed."""
        return [epoch for epoch, found in self._findings.items() if found[group].status == collapse.COLLAPSED]

    @cached_property
    def _findings(self) -> dict[int, dict[str, Finding]]:
        """Epoch to what is found of each group; judged once, read by every section of a report."""
        return {epoch: dict(diagnosis.findings(self.bins, look, self.ratings)) for epoch, look in self.looks.items()}


def watched(folder: Path) -> list[Watched]:
    """The finished runs below ``folder`` whose training was watched, in the order in which they were planned.

    Raises:
        DataError: there is none.
    """
    runs = [run for run in read_runs(folder) if run.finished and run.record["config"].get("diagnose_every")]
    if not runs:
        raise DataError(f"no finished run in {folder} was watched; set diagnose_every, or call diagnose")
    several = len({run.record["seed"] for run in runs}) > 1
    labels = planned_labels(read_plan(folder))
    runs.sort(key=lambda run: (place(labels, run.record["label"]), run.record["seed"]))
    seeds = [f", seed {run.record['seed']}" if several else "" for run in runs]
    return [Watched(run.record["label"] + seed, run).check() for run, seed in zip(runs, seeds, strict=True)]
