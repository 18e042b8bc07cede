"""How all measurements run a command: in a process of its own, with the code of a checkout, and with what it used.

Nothing large is imported here, because Linux counts the memory of the parent, which forks, as the child's.
"""

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from threading import Timer
from time import monotonic
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = [sys.executable, str(ROOT / "run_recbole_dgrm.py")]
THREADS = [f"{library}_NUM_THREADS" for library in ("OMP", "MKL", "OPENBLAS", "NUMBA", "RAYON")]


def training(folder: Path, code: Path = ROOT, **keys: Any) -> list[str]:
    """The command that trains, selects and tests once with these keys, whose run is the only one in ``folder``."""
    given = [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in keys.items()]
    return [sys.executable, str(code / "run_recbole_dgrm.py"), *given, f"--output_dir={folder}"]


def start(line: list[str], log: Path, threads: int = 1, code: Path = ROOT, **options: Any) -> psutil.Popen:
    """Start a command on so many threads. Python imports the package from ``code``; what is printed goes to ``log``."""
    own = dict.fromkeys(THREADS, str(threads)) | {"PYTHONPATH": str(code), "PYTHONWARNINGS": "ignore"}
    with open(log, "ab") as file:
        output = {"stdin": subprocess.DEVNULL, "stdout": file, "stderr": file}
        return psutil.Popen(line, env=os.environ | own, **output, **options)


def used(line: list[str], log: Path, timeout: float, threads: int = 1, code: Path = ROOT) -> dict[str, Any]:
    """What a command uses, at most ``timeout`` seconds; ``failure`` is empty or says why it has no result."""
    begun, process = monotonic(), start(line, log, threads, code)
    (timer := Timer(timeout, process.kill)).start()
    try:
        _, status, usage = os.wait4(process.pid, 0)
    except BaseException:
        process.kill()
        raise
    finally:
        timer.cancel()
    wall, last = monotonic() - begun, log.read_text(errors="replace").strip().splitlines()[-1:]
    failure = f"not done in {timeout:.0f} s" if wall >= timeout else f"failed: {' '.join(last)}"
    seconds = {"wall_s": wall, "cpu_s": usage.ru_utime + usage.ru_stime}
    return seconds | {"peak_mib": usage.ru_maxrss / 1024, "failure": failure if status else ""}


def timing(folder: Path) -> dict[str, float]:
    """The key ``timing`` of the record of the only run in ``folder``, with ``refit_epochs``.

    ``train_s`` includes building the model. ``epoch_s`` is of the fastest epoch: in the first torch imports optimizers.
    """
    [path] = folder.glob("*/record.json")
    lines = [json.loads(line) for line in path.with_name("metrics.jsonl").read_text().splitlines()]
    found = json.loads(path.read_text())["timing"]
    refit = sum(line["stage"] != "select" for line in lines)
    train, fastest = found["train_s"] + found.get("build_s", 0.0), min(line["seconds"] for line in lines)
    return found | {"train_s": train, "epoch_s": fastest, "refit_epochs": refit}


def python_of(folder: Path, packages: list[str]) -> str:
    """The interpreter of an environment with these packages, which is made first if it is not there."""
    python, done = folder / "bin" / "python", folder / "installed.txt"
    wanted = "\n".join(packages)
    if not done.is_file() or done.read_text() != wanted:
        venv.create(folder, with_pip=True, clear=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *packages], check=True)
        done.write_text(wanted)
    return str(python)
