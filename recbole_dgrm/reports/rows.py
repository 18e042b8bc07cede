"""The parts of a result table: a cell has a row per model, and a row has a score per metric."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from recbole_dgrm.evaluation.metric_names import smaller_is_better
from recbole_dgrm.evaluation.resolution import is_precise
from recbole_dgrm.records import PREDICTIONS_ONLY, RunDirectory
from recbole_dgrm.reports.comparable import Definition, tested_by
from recbole_dgrm.reports.significance import Comparison

TIMES = {
    "read_s": "reading",
    "build_s": "building the model",
    "validate_s": "validating",
    "evaluate_s": "testing",
    "diagnose_s": "diagnosis",
    "calibrate_s": "calibration",
}  # what the seconds of a record are called, see ``recbole_dgrm.records.RunRecord.timing``


@dataclass
class Score:
    """The values of one metric for one model, with statistics.

    Attributes:
        values: the value of each seed, ``(n_seeds,)``.
        user_error: the standard error over users of the values per user, averaged over seeds; NaN if the metric is not
            a mean over users.
        below: whether the mean is worse than that of the bias row (on the same seeds).
        impossible: whether the value of a seed is better than the oracle by more than rounding.
        contradicted: whether a significant test contradicts the means. That is possible because RMSE is pooled over
            ratings and tests compare users, and because a row is tested on the seeds that it shares with the baseline.
    """

    values: NDArray
    skill: float = np.nan
    user_error: float = np.nan
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
class ModelRow:
    """One line of a table: a model with one configuration, or a reference (without runs).

    Attributes:
        trained: training settings that differ from those of other rows of the cell; for a reference row the settings
            that it depends on, if the cell has rows with different ones.
    """

    label: str
    scores: dict[str, Score]
    runs: list[RunDirectory] = field(default_factory=list)
    trained: dict[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The label without the keys that distinguish several configurations of one model."""
        return self.runs[0].record["label"] if self.runs else self.label

    @property
    def external(self) -> bool:
        """Whether another library made the predictions, so that the training is unknown."""
        return self.runs[0].record["model"] == PREDICTIONS_ONLY

    @property
    def seeds(self) -> list[int]:
        """The seeds of the runs, in the same order."""
        return [run.record["seed"] for run in self.runs]

    def learning_seconds(self) -> list[float]:
        """The seconds of building and training the model for each seed; NaN if they are not recorded."""
        timings = [run.record["timing"] for run in self.runs]
        return [timing.get("build_s", 0.0) + timing.get("train_s", np.nan) for timing in timings]

    def timing(self, key: str) -> float:
        """The mean over seeds of an entry of ``timing``."""
        return float(np.mean([run.record["timing"].get(key, np.nan) for run in self.runs]))


@dataclass
class Cell:
    """The results on a data set under a protocol, with one definition of the metrics.

    Attributes:
        resolution: metric to its resolution, averaged over runs.
        distinction: the settings that distinguish this cell from others of the same data set and protocol, and from
            the whole data set, such as ``known_share=0.1``.
        leading: for each metric that is tested the best row, followed by the rows that the tests cannot tell from it.
    """

    dataset: str
    protocol: str
    metrics: list[str]
    rows: list[ModelRow]
    reference: list[ModelRow]
    baseline: ModelRow | None
    resolution: dict[str, dict[str, float]] = field(default_factory=dict)
    definition: Definition = field(default_factory=dict)
    distinction: str = ""
    leading: dict[str, list[ModelRow]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The name of the cell in headings."""
        return f"{self.dataset}, {self.protocol}" + (f" ({self.distinction})" if self.distinction else "")

    @property
    def seeds(self) -> list[int]:
        """The seeds of all rows, sorted."""
        return sorted({seed for row in self.rows for seed in row.seeds})

    @property
    def compared(self) -> bool:
        """Whether there is a baseline and a row to compare with it."""
        return self.baseline is not None and len(self.rows) > 1

    @property
    def mode(self) -> str:
        """How the models are tested; see ``recbole_dgrm.reports.comparable.tested_by``."""
        return tested_by(self.records[0]["config"])

    @property
    def main_metric(self) -> str:
        """The first metric that is precise enough to compare models, or the first of all."""
        return next((metric for metric in self.metrics if is_precise(self.resolution, metric)), self.metrics[0])

    def ranked(self, metric: str) -> list[ModelRow]:
        """The rows, the best by the metric first; those without it last."""
        sign = 1 if smaller_is_better(metric) else -1
        return sorted(self.rows, key=lambda row: sign * row.scores[metric].mean if metric in row.scores else math.inf)

    def valid(self, metric: str) -> list[ModelRow]:
        """The rows with a possible result of the metric, the best first."""
        return [row for row in self.ranked(metric) if metric in row.scores and not row.scores[metric].impossible]

    @property
    def records(self) -> list[dict[str, Any]]:
        """The records of all runs, row by row."""
        return [run.record for row in self.rows for run in row.runs]
