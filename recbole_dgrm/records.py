"""What a run leaves on disk: the contract between the code that runs and the code that reports."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import yaml
from numpy.typing import NDArray

from recbole_dgrm.errors import DataError
from recbole_dgrm.identity import ASIDE, RECORD, RESULTS, Identity, config_hash
from recbole_dgrm.system.files import plain, read_bytes, write_text, write_whole

CONFIG, PER_USER, RUN_LOG = "config.yaml", "per_user.npz", "run.log"
CHECKPOINT, EPOCHS, EVENTS = "checkpoint.pt", "metrics.jsonl", "events"
TRIAL = "trial.json"  # in the directory of a run that is a trial of a search
UNFINISHED = ("running", "interrupted")  # status of a run that goes on from where it was stopped
ENDED = ("finished", "validated", "pruned")  # status of a run whose record is not written any more
JUDGED = "predictions"  # what a record calls the model where only its predictions are known
PLAN = "benchmark.json"  # in a folder of runs: the plan that they belong to
LARGEST_JSON = 1 << 26  # bytes; a record has about 20,000, and 64 MiB take some seconds to read
LARGEST_VECTORS = 1 << 32  # bytes when unpacked: enough for 20 metrics of 20 million users


@dataclass
class RunRecord:
    """What ``record.json`` holds; its keys are stable for tools that read it.

    Attributes:
        label: what tables call the run; the short name of the model unless a benchmark names it.
        model: its name, or ``JUDGED`` where predictions of another library were judged: there are no epochs, no
            parameters and no checkpoint then, and ``train_s`` only if somebody has said it.
        hash: of the config, see ``config_hash``; of the predictions where only these are known.
        code: ``RESULTS`` of the code that made the run.
        begun: when the run was begun or last resumed, in UTC, as ISO 8601 has it; empty in records of version 0.2.0.
        status: running, finished, interrupted, diverged, failed or timed_out; of a trial of a search, which is not
            tested, validated or pruned.
        valid, test: metric to value, from validation and from the one test.
        selected_by: the metric that selected on validation, also where the config says ``valid_metric: auto``.
        reference: ``random``, ``bias`` and ``oracle`` on the test part.
        resolution: by part and metric, see ``recbole_dgrm.evaluation.resolution.of_rows``; of ``valid`` with ``auto``.
        groups: the test by groups of users and of items, see ``recbole_dgrm.evaluation.groups.measure``.
        diagnosis: whether predictions collapsed, see ``recbole_dgrm.evaluation.diagnosis``.
        timing: seconds (``build_s``: of the model's constructor, where EASE and the like learn; ``train_s``: of
            all epochs), epochs and the peak resident memory in MiB.
    """

    model: str
    dataset: str
    protocol: str
    seed: int
    config: dict[str, Any]
    label: str = ""
    hash: str = ""
    code: int = RESULTS
    begun: str = ""
    status: str = "running"
    error: str | None = None
    traceback: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    selected_by: str = ""
    valid: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    reference: dict[str, dict[str, float]] = field(default_factory=dict)
    skill: dict[str, float] = field(default_factory=dict)
    resolution: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    groups: dict[str, Any] = field(default_factory=dict)
    diagnosis: dict[str, Any] = field(default_factory=dict)
    timing: dict[str, float] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.label = self.label or short_name(self.model)
        self.hash = self.hash or config_hash(self.config)


MAPPINGS = [one.name for one in fields(RunRecord) if str(one.type).startswith("dict")]  # fields with keys of their own


def short_name(model: str) -> str:
    """What tables and directories call a model: of ``mypackage.linear:Linear`` the name of its class."""
    return model.rpartition(":")[2]


def run_name(given: Mapping[str, Any]) -> str:
    """Model, data set, protocol and seed of some keys, as the names of run directories and studies begin."""
    return "-".join([short_name(given["model"]), *(str(given[key]) for key in ("dataset", "protocol", "seed"))])


def new_record(given: Mapping[str, Any], label: str = "", source: str | None = None) -> RunRecord:
    """The record of a run that is about to start, from its merged keys and the hash of its data files, if known."""
    record = RunRecord(given["model"], given["dataset"], given["protocol"], given["seed"], plain(given), label)
    record.begun = datetime.now(UTC).isoformat(timespec="milliseconds")
    record.data = {} if source is None else {"source": source}
    return record


@dataclass(frozen=True)
class RunDirectory:
    """A run directory as it is read: its path, and the content of ``record.json``."""

    path: Path
    record: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether the run has its test result."""
        return self.record["status"] == "finished"

    @property
    def ended(self) -> bool:
        """Whether the run has come to its end: it is tested or, as a trial of a search, validated or pruned."""
        return self.record["status"] in ENDED

    @property
    def unfinished(self) -> bool:
        """Whether the run was stopped, or is at work, and can go on."""
        return self.record["status"] in UNFINISHED

    @property
    def lost(self) -> bool:
        """Whether the process of the run died without having written why."""
        return self.record["status"] == "failed" and self.record["traceback"] is None

    @property
    def identity(self) -> Identity:
        """What determined the result; the data is None where the run was stopped before it had read them."""
        return Identity(self.record["hash"], self.record["data"].get("source"), self.record["code"])

    @property
    def age(self) -> tuple[str, str]:
        """Sorts runs by the time when they were begun, and equal times by their paths."""
        return self.record["begun"], str(self.path)

    def need(self, *places: str) -> None:
        """Check that the record has a value at each of ``places``: keys with blanks between, like ``timing train_s``.

        Raises:
            DataError: one is missing, as in the record of an interrupted run.
        """
        for place in places:
            value: Any = self.record
            for key in place.split():
                value = value.get(key) if isinstance(value, dict) else None
            if value is None:
                raise DataError(f"{self.path / RECORD} has no {place}; move it away and make the run again")

    def per_user(self) -> dict[str, NDArray]:
        """Metrics of each user, an array by name beside the array ``user``; empty if the run left none.

        Raises:
            DataError: the file is damaged, too large, or holds anything but arrays of one length.
        """
        path = self.path / PER_USER
        if not path.exists():
            return {}
        try:
            with ZipFile(path) as packed:
                if (size := sum(entry.file_size for entry in packed.infolist())) > LARGEST_VECTORS:
                    raise ValueError(f"{size:,} bytes are packed in it")
            with np.load(path, allow_pickle=False) as file:
                vectors = dict(file)
            lengths = {len(vector) for vector in [vectors["user"], *vectors.values()]}
            if len(lengths) > 1:
                raise ValueError(f"vectors of different lengths, {sorted(lengths)}")
        except Exception as error:  # zipfile, zlib and numpy have many for what is no file of theirs
            raise DataError(f"{path} holds no metric vectors ({error}); make the run again") from error
        return vectors

    def epochs(self) -> list[dict[str, Any]]:
        """A dict per epoch: ``stage``, ``epoch``, ``seconds``, losses, ``valid_<metric>``."""
        return read_epochs(self.path)


def read_epochs(run_dir: Path) -> list[dict[str, Any]]:
    """The whole lines of ``metrics.jsonl``; a half last line, left by a kill, is dropped.

    Raises:
        DataError: another line is damaged.
    """
    path = run_dir / EPOCHS
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    found: list[dict[str, Any]] = []
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            break
        try:
            value = json.loads(line)
            if missing := {"stage", "epoch", "seconds"}.difference(value):
                raise ValueError(f"it has no {', '.join(sorted(missing))}")
        except (ValueError, TypeError, RecursionError) as error:
            remedy = "remove the run's directory and make the run again"
            raise DataError(f"line {number} of {path} is damaged ({error}); {remedy}") from error
        found.append(value)
    return found


def write_epochs(run_dir: Path, lines: list[dict[str, Any]]) -> None:
    """Replace the whole of ``metrics.jsonl``."""
    write_text(run_dir / EPOCHS, "".join(json.dumps(line) + "\n" for line in lines))


def read_json(path: Path, what: str, remedy: str, needed: Iterable[str] = ()) -> dict[str, Any]:
    """Read a JSON file of keys and values.

    Args:
        what: what the file should be; for the error, as is the ``remedy``.
        needed: keys that it must have.

    Raises:
        DataError: the file is something else, or larger than any of ours.
    """
    try:
        content = json.loads(read_bytes(path, LARGEST_JSON))
        if not isinstance(content, dict):
            raise ValueError(f"it holds a {type(content).__name__}")
        if missing := set(needed) - set(content):
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not {what} ({error}); {remedy}") from error
    return content


def read_run(path: Path) -> RunDirectory | None:
    """The run in directory ``path``, if there is one.

    Raises:
        DataError: its record is damaged.
    """
    file = path / RECORD
    if not file.is_file():
        return None
    what, remedy = "the record of a run", "move it away and make the run again"
    content = read_json(file, what, remedy)
    try:
        if wrong := [name for name in MAPPINGS if not isinstance(content.get(name, {}), dict)]:
            raise TypeError(f"its {wrong[0]} has no keys")
        record = RunRecord(**content)
    except TypeError as error:  # a key is missing, or is one that no record has
        raise DataError(f"{file} is not {what} ({error}); {remedy}") from error
    return RunDirectory(path, dict(vars(record)))


def read_runs(folder: Path) -> list[RunDirectory]:
    """All runs below ``folder``, sorted by path, without those that were put aside.

    Raises:
        DataError: there is none, or one is broken.
    """
    runs = find_runs(folder)
    if not runs:
        raise DataError(f"there is no run in {folder}: no {RECORD} lies below it")
    return runs


def find_runs(folder: Path) -> list[RunDirectory]:
    """All runs below ``folder`` as ``read_runs`` gives them, but no trials of searches; perhaps there is no run yet."""
    files = [file for file in sorted(folder.rglob(RECORD)) if ASIDE not in file.relative_to(folder).parts]
    return [run for file in files if not file.with_name(TRIAL).exists() and (run := read_run(file.parent))]


def write_config(run_dir: Path, given: Mapping[str, Any]) -> None:
    """Write ``config.yaml`` of a run from its merged keys, whole or not at all."""
    text = yaml.safe_dump(plain(given), sort_keys=True, allow_unicode=True)
    write_text(run_dir / CONFIG, text)


def write_vectors(path: Path, vectors: Mapping[str, NDArray]) -> None:
    """Write arrays by name as a compressed ``.npz``, whole or not at all."""

    def write(partial: Path) -> None:
        with open(partial, "wb") as file:
            # numpy's types take any keyword for its flag allow_pickle
            np.savez_compressed(file, **vectors)  # type: ignore[arg-type]

    write_whole(path, write)
