"""Three small jobs on ML-100K, each with the command that continues it, and what must be true of their files."""

import hashlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
import yaml

from recbole_dgrm.records import RECORD, read_epochs, read_json, read_run
from recbole_dgrm.training.checkpoints import read_checkpoint
from recbole_dgrm.tuning.plan import SearchPlan
from recbole_dgrm.tuning.study import Search

ROOT = Path(__file__).resolve().parents[2]
KEYS = {
    "epochs": 8,
    "stopping_step": 8,
    "eval_step": 1,
    "generator_hidden": [32],
    "critic_hidden": [16],
    "latent_size": 8,
    "checkpoint_interval": 0,
    "device": "cpu",
}
PLAN = {
    "models": [
        {"model": "MF", "config": {"epochs": 5, "checkpoint_interval": 0, "device": "cpu"}},
        {"model": "DGRM", "config": KEYS},
    ],
    "datasets": ["ml-100k"],
    "seeds": [1],
    "baseline": "MF",
    "time_limit": 300,
    "threads": 1,
}
SPACE = {
    "sampler": "grid",
    "learning_rate": {"choice": [0.01, 0.003]},
    "critic_iterations": {"choice": [1, 2]},
    **{key: value for key, value in KEYS.items() if key.endswith("hidden") or key == "latent_size"},
    "epochs": 5,
}


@dataclass
class Outcome:
    """How a process ended: its exit status and what it said."""

    status: int
    said: str


class Training:
    """One run."""

    name = "training"

    def command(self, folder: Path) -> list[str]:
        """The first, and with what is there the continuing one."""
        runs = [path.parent for path in folder.glob("*/config.yaml")]
        if runs:
            return [f"--resume={runs[0]}"]
        return [
            "--model=DGRM",
            "--dataset=ml-100k",
            f"--output_dir={folder}",
            *(f"--{key}={json.dumps(value)}" for key, value in KEYS.items()),
        ]

    def result(self, folder: Path) -> Any:
        """Everything that must not depend on kills."""
        (path,) = (file.parent for file in folder.glob(f"*/{RECORD}"))
        lines = [
            {key: value for key, value in line.items() if key not in ("seconds", "diagnose_s")}
            for line in read_epochs(path)
        ]
        final = read_checkpoint(path / "checkpoint.pt", torch.device("cpu"))["state_dict"]
        digest = hashlib.sha256(b"".join(value.numpy().tobytes() for value in final.values())).hexdigest()
        return [_numbers(path), lines, digest]

    def finished(self, folder: Path) -> dict[str, Any]:
        """What is done and must stay as it is."""
        return {}


class Benchmark:
    """Two runs at a time."""

    name = "benchmark"

    def command(self, folder: Path) -> list[str]:
        """Always the same."""
        plan = folder.with_suffix(".plan.yaml")
        plan.write_text(yaml.safe_dump(PLAN))
        return ["benchmark", f"--config={plan}", f"--output_dir={folder}", "--workers=2"]

    def result(self, folder: Path) -> Any:
        """Test and validation metrics and the metric vectors of each run."""
        return {str(file.parent.relative_to(folder)): _numbers(file.parent) for file in sorted(folder.rglob(RECORD))}

    def finished(self, folder: Path) -> dict[str, Any]:
        """Finished runs with the moment at which their record was written."""
        runs = [read_run(file.parent) for file in folder.rglob(RECORD)]
        return {str(run.path): (run.path / RECORD).stat().st_mtime_ns for run in runs if run.finished}

    def failed(self, folder: Path) -> list[dict[str, Any]]:
        """Records of the runs that came to no result."""
        runs = [read_run(file.parent) for file in folder.rglob(RECORD)]
        return [run.record for run in runs if not run.finished]


class Tuning:
    """A search of four trials, two workers."""

    name = "search"

    def command(self, folder: Path) -> list[str]:
        """Always the same."""
        space = folder.with_suffix(".space.yaml")
        space.write_text(yaml.safe_dump(SPACE))
        return [
            "tune",
            "--model=DGRM",
            "--dataset=ml-100k",
            f"--space={space}",
            f"--output_dir={folder}",
            "--workers=2",
            "--no_pruning",
            "--test_seeds=[]",
            "--checkpoint_interval=0",
            "--device=cpu",
        ]

    def result(self, folder: Path) -> Any:
        """Point and score of each trial; a point that was finished twice shows."""
        search = Search(SearchPlan.load(folder), folder)
        done = [trial for trial in search.by_number.values() if trial.state.name == "COMPLETE"]
        points = sorted(
            (json.dumps(trial.params, sort_keys=True), trial.value, trial.user_attrs["best_epoch"]) for trial in done
        )
        return [points, sorted(search.by_number), (folder / "best.yaml").read_text().splitlines()[1:]]

    def finished(self, folder: Path) -> dict[str, Any]:
        """Finished trials with the moment at which their record was written."""
        runs = [run for file in folder.glob(f"trials/*/{RECORD}") if (run := read_run(file.parent))]
        return {str(run.path): (run.path / RECORD).stat().st_mtime_ns for run in runs if run.ended}


JOBS = (Training(), Benchmark(), Tuning())


def _numbers(path: Path) -> list[Any]:
    run = read_run(path)
    vectors = b"".join(vector.tobytes() for vector in run.per_user().values())
    return [run.record[key] for key in ("status", "test", "valid", "skill")] + [hashlib.sha256(vectors).hexdigest()]


def start(arguments: list[str], log: Path, **options: Any) -> psutil.Popen:
    """The command line in a session of its own; what it says goes to ``log``."""
    with open(log, "wb") as file:
        return psutil.Popen(
            [sys.executable, str(ROOT / "run_recbole_dgrm.py"), *arguments],
            cwd=ROOT,
            start_new_session=True,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
            **options,
        )


def run(arguments: list[str], log: Path, timeout: float = 300, **options: Any) -> Outcome:
    """Run a command to its end."""
    process = start(arguments, log, **options)
    try:
        status = process.wait(timeout)
    except psutil.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return Outcome(status, log.read_text(errors="replace"))


def family(process: psutil.Popen) -> list[psutil.Process]:
    """A process and all below it."""
    try:
        return [psutil.Process(process.pid), *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def damaged(folder: Path) -> list[str]:
    """The files below ``folder`` that do not parse; temporary ones of a killed writing aside, which nobody reads."""
    found = []
    for path in sorted(folder.rglob("*")):
        reader = READERS.get(path.suffix)
        if reader and path.is_file() and not path.name.startswith("."):
            try:
                reader(path)
            except Exception as error:
                found.append(f"{path}: {type(error).__name__}: {error}")
    return found


def leftovers(folder: Path) -> list[str]:
    """Temporary files that nobody has removed."""
    return [f"{path} is left" for path in folder.rglob("*.partial")]


def _read_arrays(path: Path) -> None:
    with np.load(path, allow_pickle=False) as file:
        dict(file)


READERS = {
    ".json": lambda path: read_json(path, "", ""),
    ".jsonl": lambda path: read_epochs(path.parent),
    ".yaml": lambda path: yaml.safe_load(path.read_text(encoding="utf-8")),
    ".npz": _read_arrays,
    ".pt": lambda path: read_checkpoint(path, torch.device("cpu")),
}
