"""What a run leaves on disk: the contract between those who run and those who report."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from numbers import Number
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np
import yaml
from numpy.typing import NDArray

from recbole_dgrm.errors import DataError
from recbole_dgrm.files import plain, write_text, write_whole

RECORD, CONFIG, PER_USER, RUN_LOG = "record.json", "config.yaml", "per_user.npz", "run.log"
CHECKPOINT, EPOCHS, EVENTS = "checkpoint.pt", "metrics.jsonl", "events"
ASIDE = ".aside"  # folder of runs that were put away: no reader of a folder of runs looks into it
PLAN = "benchmark.json"  # in a folder of runs: what they were made for
WHERE = ("output_dir", "data_path", "checkpoint_interval")  # keys that say where a run lies, not what it computes


@dataclass
class RunRecord:
    """What ``record.json`` holds; its keys are stable for tools that read it.

    Attributes:
        label: what tables call the run; the model's name unless a benchmark names it.
        hash: of the config, see :func:`config_hash`.
        status: running, finished, interrupted, diverged, failed or timed_out.
        valid, test: metric to value, from validation and from the one test.
        reference: ``random``, ``bias`` and ``oracle`` on the test part.
        diagnosis: whether predictions collapsed, see :mod:`recbole_dgrm.diagnosis`.
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
    status: str = "running"
    error: str | None = None
    traceback: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    parameters: int | None = None
    valid: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    reference: dict[str, dict[str, float]] = field(default_factory=dict)
    skill: dict[str, float] = field(default_factory=dict)
    diagnosis: dict[str, Any] = field(default_factory=dict)
    timing: dict[str, float] = field(default_factory=dict)
    environment: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.label = self.label or self.model
        self.hash = self.hash or config_hash(self.config)


def new_record(given: Mapping[str, Any], label: str = "") -> RunRecord:
    """The record of a run that begins, from its merged keys."""
    return RunRecord(given["model"], given["dataset"], given["protocol"], given["seed"], plain(given), label)


def config_hash(given: Mapping[str, Any]) -> str:
    """Hash of everything that determines a result, the data itself aside: two runs with one hash are one run."""
    what = {key: value for key, value in plain(given).items() if key not in WHERE}
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class SavedRun:
    """A run directory as its reader sees it; ``record`` is ``record.json``."""

    path: Path
    record: dict[str, Any]

    @property
    def finished(self) -> bool:
        """Whether the run has its test result."""
        return self.record["status"] == "finished"

    def per_user(self) -> dict[str, NDArray]:
        """Metric vectors over ``user``, or nothing where the run left none.

        Raises:
            DataError: the file is damaged, or holds anything but plain arrays of one length.
        """
        path = self.path / PER_USER
        if not path.exists():
            return {}
        try:
            with np.load(path, allow_pickle=False) as file:
                vectors = dict(file)
            lengths = {len(vector) for vector in [vectors["user"], *vectors.values()]}
        except Exception as error:  # zipfile, zlib and numpy have many for what is no file of theirs
            raise DataError(f"{path} holds no metric vectors ({error}); make the run again") from error
        if len(lengths) > 1:
            raise DataError(f"{path} holds vectors of different lengths ({sorted(lengths)}); make the run again")
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
    found = []
    for number, line in enumerate(lines, 1):
        if not line.endswith(b"\n"):
            break
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if not isinstance(value, dict) or "epoch" not in value:
            raise DataError(f"line {number} of {path} is damaged; remove the run's directory and make the run again")
        found.append(value)
    return found


def write_epochs(run_dir: Path, lines: list[dict[str, Any]]) -> None:
    """Replace ``metrics.jsonl``, whole."""
    write_text(run_dir / EPOCHS, "".join(json.dumps(line) + "\n" for line in lines))


def read_json(path: Path, what: str, remedy: str) -> dict[str, Any]:
    """A JSON file that holds keys and values.

    Raises:
        DataError: it is not ``what`` it should be; says the ``remedy``.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{path} is not {what} ({error}); {remedy}") from error
    if not isinstance(content, dict):
        raise DataError(f"{path} is not {what} (it holds a {type(content).__name__}); {remedy}")
    return content


def read_run(path: Path) -> SavedRun | None:
    """The run in directory ``path``, if there is one.

    Raises:
        DataError: its record is no record.
    """
    file = path / RECORD
    if not file.is_file():
        return None
    what, remedy = "the record of a run", "move it away and make the run again"
    content = read_json(file, what, remedy)
    try:
        record = RunRecord(**content)
        _check_kinds(record)
    except (TypeError, KeyError, AttributeError) as error:
        raise DataError(f"{file} is not {what} ({error}); {remedy}") from error
    return SavedRun(path, dict(vars(record)))


def _check_kinds(record: RunRecord) -> None:
    for name, hint in get_type_hints(RunRecord).items():
        value, kind = getattr(record, name), get_origin(hint) or hint
        if not isinstance(value, hint if isinstance(hint, UnionType) else kind):
            raise TypeError(f"{name} is a {type(value).__name__}")
        if (
            kind is dict
            and get_args(hint)[1] is float
            and not all(isinstance(v, Number | None) for v in value.values())
        ):
            raise TypeError(f"{name} holds what is no number")


def read_runs(folder: Path) -> list[SavedRun]:
    """All runs below ``folder``, by path; not those that were put aside.

    Raises:
        DataError: there is none, or one is broken.
    """
    runs = find_runs(folder)
    if not runs:
        raise DataError(f"there is no run in {folder}: no {RECORD} lies below it")
    return runs


def find_runs(folder: Path) -> list[SavedRun]:
    """The same, of a folder that may have none yet."""
    files = [file for file in sorted(folder.rglob(RECORD)) if ASIDE not in file.relative_to(folder).parts]
    return [run for file in files if (run := read_run(file.parent))]


def write_config(run_dir: Path, given: Mapping[str, Any]) -> None:
    """``config.yaml`` of a run, from its merged keys; whole or not at all."""
    text = yaml.safe_dump(plain(given), sort_keys=True, allow_unicode=True)
    write_text(run_dir / CONFIG, text)


def write_vectors(path: Path, vectors: Mapping[str, NDArray]) -> None:
    """Arrays by name as a compressed ``.npz``, whole or not at all."""

    def write(partial: Path) -> None:
        with open(partial, "wb") as file:
            # numpy's types take any keyword for its flag allow_pickle
            np.savez_compressed(file, **vectors)  # type: ignore[arg-type]

    write_whole(path, write)
