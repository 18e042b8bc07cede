"""What a table of results consists of: a cell has a row per model, a row has a score per metric."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_dgrm.records import JUDGED, RunDirectory
from recbole_dgrm.reports.comparable import Definition
from recbole_dgrm.reports.significance import Comparison


@dataclass
class Score:
    """The values of one metric for one model, one per seed, and what follows from them.

    Attributes:
        user_error: standard error over users of the seed-averaged vector; NaN where a metric has none, or
            where it is no mean over users.
        place: 1 for the best model of the cell, 2 for the second, else 0.
        below: whether the mean is worse than that of the bias row (on the same seeds).
        impossible: whether a seed is above the oracle by more than rounding.
        contradicted: whether a significant test says the contrary of the means. RMSE is of all ratings and a test of
            users, and a row with fewer seeds than the baseline is compared on those that both have.
    """

    values: NDArray
    skill: float = np.nan
    user_error: float = np.nan
    place: int = 0
    below: bool = False
    impossible: bool = False
    contradicted: bool = False
    comparison: Comparison | None = None
    published: float = np.nan

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return float(self.values.mean())

    @property
    def std(self) -> float:
        """The standard deviation over seeds, with n - 1; NaN for one seed."""
        return float(self.values.std(ddof=1)) if len(self.values) > 1 else np.nan


@dataclass
class Row:
    """One line of a table: a model with one configuration, or a reference (without runs).

    Attributes:
        trained: how its training differs from that of other rows of the cell, key to value; of a reference row, what
            it has learnt from where there are several.
    """

    label: str
    scores: dict[str, Score]
    runs: list[RunDirectory] = field(default_factory=list)
    trained: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The label without the keys that tell configurations apart."""
        return self.runs[0].record["label"] if self.runs else self.label

    @property
    def judged(self) -> bool:
        """Whether only predictions are known, and nothing of a training."""
        return self.runs[0].record["model"] == JUDGED

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs, in the same order."""
        return [run.record["seed"] for run in self.runs]

    def learning_seconds(self) -> list[float]:
        """For each seed the seconds of building the model and training it; NaN where nobody has said them."""
        timings = [run.record["timing"] for run in self.runs]
        return [timing.get("build_s", 0.0) + timing.get("train_s", np.nan) for timing in timings]

    def timing(self, key: str) -> float:
        """The mean over seeds of an entry of ``timing``."""
        return float(np.mean([run.record["timing"].get(key, np.nan) for run in self.runs]))


@dataclass
class Cell:
    """A data set under a protocol, its metrics defined in one way.

    Attributes:
        resolution: what each metric can tell, in the mean over runs; without those of old records.
        apart: in which keys the definition differs from other cells of the same data set and protocol, and from that of
            the whole data set, in words.
    """

    dataset: str
    protocol: str
    metrics: list[str]
    rows: list[Row]
    reference: list[Row]
    baseline: Row | None
    resolution: dict[str, dict[str, float]] = field(default_factory=dict)
    definition: Definition = field(default_factory=dict)
    apart: str = ""

    @property
    def name(self) -> str:
        """What headings call the cell."""
        return f"{self.dataset}, {self.protocol}" + (f" ({self.apart})" if self.apart else "")

    @property
    def seeds(self) -> list[int]:
        """The seeds of all rows, sorted."""
        return sorted({seed for row in self.rows for seed in row.seeds})
