"""Trials of a search: runs that are validated and not tested, and that end early if they are worse than others."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from recbole_dgrm.records import TRIAL, read_json
from recbole_dgrm.system.files import write_json


@dataclass(frozen=True)
class Trial:
    """The content of ``trial.json``, in the directory of a run that is a trial of a search.

    ``labels`` are the searched keys and their values; ``medians`` are the median validation scores of the earlier
    trials by epoch, from 0.
    """

    labels: Mapping[str, Any]
    medians: Mapping[int, float]

    def falls_behind(self, epoch: int, best: float, bigger: bool) -> bool:
        """Whether the ``best`` score so far is worse than the median at ``epoch``; ``bigger`` if bigger is better."""
        median = self.medians.get(epoch, best)
        return best < median if bigger else best > median

    def save(self, run_dir: Path) -> None:
        """Write ``trial.json``."""
        write_json(run_dir / TRIAL, asdict(self))


def read_trial(run_dir: Path) -> Trial | None:
    """The content of ``trial.json`` in ``run_dir``; None if the run is not a trial."""
    path = run_dir / TRIAL
    if not path.is_file():
        return None
    remedy = "remove its directory, and the search makes the trial again"
    content = read_json(path, "a trial of a search", remedy, ("labels", "medians"))
    return Trial(content["labels"], {int(epoch): score for epoch, score in content["medians"].items()})
