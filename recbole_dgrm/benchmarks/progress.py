"""The progress of a benchmark: the status of every run, the last run that has ended, and the remaining time."""

from dataclasses import dataclass, field
from statistics import mean
from time import monotonic

from recbole_dgrm.benchmarks.plan import PlannedRun
from recbole_dgrm.records import RunDirectory


@dataclass
class State:
    """The progress of a benchmark, for a display.

    Attributes:
        runs: run to status: ``waiting``, ``running``, or the status in its record.
        started: run to its start in this session, in seconds of ``monotonic``.
        just: the run that has ended since the last call, with its record and its seconds; None if there is none.
        seconds: run to its duration in seconds, for the runs that have ended in this or an earlier session.
    """

    runs: dict[PlannedRun, str]
    started: dict[PlannedRun, float] = field(default_factory=dict)
    just: tuple[PlannedRun, RunDirectory, float] | None = None
    seconds: dict[PlannedRun, float] = field(default_factory=dict)

    def count(self, *status: str) -> int:
        """The number of runs with one of these statuses."""
        return sum(value in status for value in self.runs.values())

    def begin(self, run: PlannedRun) -> None:
        """Record that a worker has started the run."""
        if run not in self.started:
            self.runs[run], self.started[run] = "running", monotonic()

    def end(self, run: PlannedRun, saved: RunDirectory) -> None:
        """Record that a run has ended, in this session or in an earlier one."""
        timing = saved.record["timing"]
        recorded = sum(value for name, value in timing.items() if name.endswith("_s") and name != "epoch_s")
        self.runs[run] = saved.record["status"]
        self.seconds[run] = monotonic() - self.started[run] if run in self.started else recorded

    @property
    def left_s(self) -> float | None:
        """Expected remaining seconds; None if no run has ended.

        The expected duration of a run is the mean over the ended runs with the same ``line``, or over all ended runs.
        """
        if not self.seconds:
            return None
        lines: dict[tuple, list[float]] = {}
        for run, seconds in self.seconds.items():
            lines.setdefault(run.line, []).append(seconds)
        now, left = monotonic(), 0.0
        for run, status in self.runs.items():
            if status in ("waiting", "running"):
                expected = mean(lines.get(run.line, self.seconds.values()))
                left += max(expected - (now - self.started.get(run, now)), 0.0)
        return left / max(self.count("running"), 1)
