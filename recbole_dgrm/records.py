"""The files of a run: the interface between the code that runs and the code that reports."""

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
UNFINISHED = ("running", "interrupted")  # status of a run that can be continued
ENDED = ("finished", "validated", "pruned")  # status of a run whose record is no longer written
PREDICTIONS_ONLY = "predictions"  # the name of the model in the record of predictions of another program
PLAN = "benchmark.json"  # the plan of a benchmark, in its folder
LARGEST_JSON = 1 << 26  # bytes; a record has about 20,000, and reading 64 MiB takes some seconds
LARGEST_VECTORS = 1 << 32  # bytes when decompressed: enough for 20 metrics of 20 million users


@dataclass
class RunRecord:
    """The content of ``record.json``; its keys are stable for tools that read it.

    Attributes:
        label: the name of the run in tables; by default the short name of the model.
        model: the name of the model, or ``PREDICTIONS_ONLY`` for predictions of another library: then there are no
            epochs, parameters or checkpoint, and ``train_s`` only if the user has given it.
        hash: the hash of the config, see ``config_hash``, or of the predictions of another library.
        code: ``RESULTS`` of the code that made the run.
        begun: the time when the run was begun or last resumed, UTC in ISO 8601; empty in records of version 0.2.0.
        status: running, finished, interrupted, diverged, failed or timed_out; for a trial of a search, which is not
            tested, also validated or pruned.
        valid, test: metric to value on the validation and the test part.
        unclipped: RMSE and MAE on the test part from predictions that are not clipped to the scale.
        selected_by: the metric for early stopping and tuning, even if the config has ``valid_metric: auto``.
        reference: the metrics of ``random``, ``bias`` and ``oracle`` on the test part.
        resolution: by part and metric, see ``recbole_dgrm.evaluation.resolution.of_rows``; of ``valid`` with ``auto``.
        groups: test results by groups of users and of items, see ``recbole_dgrm.evaluation.groups.measure``.
        diagnosis: the diagnosis of mode collapse, see ``recbole_dgrm.evaluation.diagnosis``.
        timing: epochs, the peak resident memory in MiB, and seconds: ``read_s`` reads and splits the data; ``build_s``
            is the model's constructor, in which EASE and similar models are trained; ``train_s`` is all epochs of
            selection and refit without validations, ``validate_s`` the validations; ``evaluate_s`` scores the test part
            and computes its metrics; ``diagnose_s`` is the diagnosis of mode collapse during and after training;
            ``calibrate_s`` evaluates standard deviations. Loading libraries and the reference rows are in none.
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
    unclipped: dict[str, float] = field(default_factory=dict)
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
    """The name of a model in tables and directories; for ``mypackage.linear:Linear`` it is ``Linear``."""
    return model.rpartition(":")[2]


def run_name(given: Mapping[str, Any]) -> str:
    """Model, data set, protocol and seed: the beginning of the names of run directories and studies."""
    return "-".join([short_name(given["model"]), *(str(given[key]) for key in ("dataset", "protocol", "seed"))])


def new_record(given: Mapping[str, Any], label: str = "", source: str | None = None) -> RunRecord:
    """The record of a run that is about to start, from its merged keys; ``source`` is the hash of its data."""
    record = RunRecord(given["model"], given["dataset"], given["protocol"], given["seed"], plain(given), label)
    record.begun = datetime.now(UTC).isoformat(timespec="milliseconds")
    record.data = {} if source is None else {"source": source}
    return record


@dataclass(frozen=True)
class RunDirectory:
    """A run directory that was read: its path, and the content of ``record.json``."""

    path: Path
    record: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether the run has its test result."""
        return self.record["status"] == "finished"

    @property
    def ended(self) -> bool:
        """Whether the run has ended: it is tested or, if it is a trial of a search, validated or pruned."""
        return self.record["status"] in ENDED

    @property
    def unfinished(self) -> bool:
        """Whether the run is running, or was stopped and can be continued."""
        return self.record["status"] in UNFINISHED

    @property
    def lost(self) -> bool:
        """Whether the process of the run died without writing an error."""
        return self.record["status"] == "failed" and self.record["traceback"] is None

    @property
    def identity(self) -> Identity:
        """The identity of the run; its data is None if the run was stopped before it read them."""
        return Identity(self.record["hash"], self.record["data"].get("source"), self.record["code"])

    @property
    def age(self) -> tuple[str, str]:
        """A key that sorts runs by their start times, and then by their paths."""
        return self.record["begun"], str(self.path)

    def need(self, *places: str) -> None:
        """Check that the record has a value at each of ``places``: keys joined by blanks, like ``timing train_s``."""
        for place in places:
            value: Any = self.record
            for key in place.split():
                value = value.get(key) if isinstance(value, dict) else None
            if value is None:
                raise DataError(f"{self.path / RECORD} has no {place}; move it away and make the run again")

    def per_user(self) -> dict[str, NDArray]:
        """The metrics of each user, an array for each metric and the array ``user``; empty if the run has none."""
        path = self.path / PER_USER
        if not path.exists():
            return {}
        try:
            with ZipFile(path) as packed:
                if (size := sum(entry.file_size for entry in packed.infolist())) > LARGEST_VECTORS:
                    raise ValueError(f"it decompresses to {size:,} bytes")
            with np.load(path, allow_pickle=False) as file:
                vectors = dict(file)
            lengths = {len(vector) for vector in [vectors["user"], *vectors.values()]}
            if len(lengths) > 1:
                raise ValueError(f"vectors of different lengths, {sorted(lengths)}")
        except Exception as error:  # zipfile, zlib and numpy raise many kinds of errors
            raise DataError(f"{path} has no metrics of users ({error}); make the run again") from error
        return vectors

    def epochs(self) -> list[dict[str, Any]]:
        """A dict per epoch: ``stage``, ``epoch``, ``seconds``, losses, ``valid_<metric>``."""
        return read_epochs(self.path)


def read_epochs(run_dir: Path) -> list[dict[str, Any]]:
    """The lines of ``metrics.jsonl``, without an incomplete last line after a kill."""
    path = run_dir / EPOCHS
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    epochs: list[dict[str, Any]] = []
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
        epochs.append(value)
    return epochs


def write_epochs(run_dir: Path, lines: list[dict[str, Any]]) -> None:
    """Replace the whole of ``metrics.jsonl``."""
    write_text(run_dir / EPOCHS, "".join(json.dumps(line) + "\n" for line in lines))


def read_json(path: Path, what: str, remedy: str, needed: Iterable[str] = ()) -> dict[str, Any]:
    """Read a JSON file with a mapping that has the keys ``needed``; an error says ``what`` it is and the ``remedy``."""
    try:
        content = json.loads(read_bytes(path, LARGEST_JSON))
        if not isinstance(content, dict):
            raise ValueError(f"it has a {type(content).__name__}")
        if missing := set(needed) - set(content):
            raise ValueError(f"it has no {', '.join(sorted(missing))}")
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not {what} ({error}); {remedy}") from error
    return content


def read_run(path: Path) -> RunDirectory | None:
    """The run in the directory ``path``; None if there is no run."""
    file = path / RECORD
    if not file.is_file():
        return None
    what, remedy = "the record of a run", "move it away and make the run again"
    content = read_json(file, what, remedy)
    try:
        if wrong := [name for name in MAPPINGS if not isinstance(content.get(name, {}), dict)]:
            raise TypeError(f"its {wrong[0]} has no keys")
        record = RunRecord(**content)
    except TypeError as error:  # a key is missing or unknown
        raise DataError(f"{file} is not {what} ({error}); {remedy}") from error
    return RunDirectory(path, dict(vars(record)))


def read_runs(folder: Path) -> list[RunDirectory]:
    """All runs below ``folder``, sorted by path, without those that were moved aside."""
    runs = find_runs(folder)
    if not runs:
        raise DataError(f"there is no run in {folder}: neither it nor a folder below it has a {RECORD}")
    return runs


def find_runs(folder: Path) -> list[RunDirectory]:
    """All runs below ``folder`` as in ``read_runs``, without trials of searches; empty if there are none."""
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
