"""How far a benchmark is: the status of every run, the run that has just ended, and the time that is left."""

from dataclasses import dataclass, field
from statistics import mean
from time import monotonic

from recbole_dgrm.benchmarks.plan import PlannedRun
from recbole_dgrm.records import RunDirectory


@dataclass
class State:
    """How far a benchmark is, for a display.

    Attributes:
        runs: each run of the plan with its status: ``waiting``, ``running``, or the status in its record.
        started: when the runs of this session began.
        just: the run that has ended since the last call, if any, with its seconds in this session.
        seconds: how long each run took that has ended, now or in an earlier session.
    """

    runs: dict[PlannedRun, str]
    started: dict[PlannedRun, float] = field(default_factory=dict)
    just: tuple[PlannedRun, RunDirectory, float] | None = None
    seconds: dict[PlannedRun, float] = field(default_factory=dict)

    def count(self, *status: str) -> int:
        """Number of runs that have one of these statuses."""
        return sum(value in status for value in self.runs.values())

    def begin(self, run: PlannedRun) -> None:
        """Note that a worker makes the run from now on."""
        if run not in self.started:
            self.runs[run], self.started[run] = "running", monotonic()

    def end(self, run: PlannedRun, saved: RunDirectory) -> None:
        """Note that a run has ended, in this session or in an earlier one."""
        timing = saved.record["timing"]
        recorded = timing.get("train_s", 0.0) + timing.get("evaluate_s", 0.0)
        self.runs[run] = saved.record["status"]
        self.seconds[run] = monotonic() - self.started[run] if run in self.started else recorded

    @property
    def left_s(self) -> float | None:
        """Expected seconds to the end; None before any run has ended.

        A run is expected to take as long as the mean of those of its line, or of all if none of them has ended yet.
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
