"""Child processes that end with their parent, folders in which one process works at a time, and delayed signals.

A child runs as long as its standard input is open. The parent closes it, or the system does when the parent dies.
"""

import os
import shutil
import signal
import site
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread, current_thread, main_thread
from time import sleep
from typing import Any, Protocol

from filelock import FileLock, Timeout

from recbole_dgrm.errors import UserError, explained, refused
from recbole_dgrm.system.files import drop_partials, make_folder, writing

PACKAGE = Path(__file__).resolve().parents[1]
LOCK = ".lock"
EXIT_S = 10.0
CHILD = "from recbole_dgrm.start import run_worker; run_worker()"  # the program of a child
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@contextmanager
def locked_folder(
    folder: Path, what: str, remedy: str = "name another --output_dir or wait", patience: float = 0
) -> Iterator[None]:
    """Make the folder, and lock it within the block; the lock of a killed process is released.

    The lock file is not removed: a process that has opened it could then lock it while another locks a new file. If
    another process still has the lock after ``patience`` seconds, the message names it (``what``) and the ``remedy``.
    """
    make_folder(folder)
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=patience)
    except Timeout:
        raise UserError(f"another {what} is working in {folder}; {remedy}") from None
    except (OSError, NotImplementedError) as error:
        raise refused(folder / LOCK, error) from error
    try:
        drop_partials(folder)
        yield
    finally:
        lock.release()


def clear(folder: Path) -> None:
    """Remove everything in a folder except its lock, which the caller holds."""
    with writing(folder):
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()


class Process(Protocol):
    """A child process: what ``subprocess.Popen`` and a fork have in common."""

    stdin: Any
    returncode: Any

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; returns its exit status, or raises ``subprocess.TimeoutExpired``."""

    def kill(self) -> None:
        """Kill it."""


def spawn(
    module: str, arguments: list[str], output: Path, threads: int, stdout: int | None = None
) -> subprocess.Popen[bytes]:
    """Run a ``module`` of this package in a child process, whose output goes to the file ``output``, or to ``stdout``.

    Without ``-P`` Python would first search the working directory for modules, which may have a ``yaml.py``.
    """
    variables = {**os.environ, **dict.fromkeys(THREAD_VARIABLES, str(threads))}
    variables["PYTHONPATH"] = os.pathsep.join(_search_path())
    command = [sys.executable, "-P", "-c", CHILD, module, *arguments]
    with open(output, "wb") as file:
        streams: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": stdout or file, "stderr": file}
        return subprocess.Popen(command, bufsize=0, env=variables, **streams)


def _search_path() -> list[str]:
    """Folders that a child searches before the installed modules: that of this package, and those of PYTHONPATH."""
    places = [] if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "").split(os.pathsep)
    if PACKAGE.parent not in [Path(place).resolve() for place in (*site.getsitepackages(), site.getusersitepackages())]:
        # not for an installed package, because libraries in that folder would hide Python's own
        places.insert(0, str(PACKAGE.parent))
    return [place for place in places if place]  # an empty one would be the working directory


def end(process: Process) -> None:
    """Close the input of a child, and kill it if it does not end within ``EXIT_S`` seconds."""
    if process.stdin:
        with suppress(OSError):
            process.stdin.close()
    try:
        process.wait(EXIT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cause_of_death(process: Process, output: Path) -> str:
    """A line that says why a process ended."""
    if process.returncode < 0:
        name = signal.Signals(-process.returncode).name
        return f"the process was killed by {name}; too little memory is the usual cause"
    if not output.exists():
        return f"the process ended with status {process.returncode}, and its directory was removed"
    lines = output.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f"the process ended with status {process.returncode}: {' / '.join(lines[-3:])}"


def worker_main(work: Callable[..., object]) -> int:
    """In a child: call ``work`` with the arguments of the command line; returns the exit status."""
    end_with_parent()
    try:
        with explained():
            work(*sys.argv[1:])
    except (UserError, KeyboardInterrupt) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def end_with_parent() -> None:
    """In a child: raise KeyboardInterrupt when its input closes, and exit ``EXIT_S / 2`` seconds later in any case."""
    for number in (signal.SIGTERM, signal.SIGINT):  # the background jobs of a shell ignore SIGINT
        signal.signal(number, signal.default_int_handler)
    Thread(target=_wait_and_leave, daemon=True).start()


def _wait_and_leave() -> None:
    with suppress(OSError):
        os.read(0, 1)  # not sys.stdin: its lock would be held at exit
    signal.raise_signal(signal.SIGINT)
    sleep(EXIT_S / 2)
    os._exit(1)


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Within the block, SIGINT and SIGTERM are delayed until its end.

    For short work in which a KeyboardInterrupt would look like an error or end the process. In other threads than the
    main one the block does nothing, because Python handles signals only in the main thread.
    """
    if current_thread() is not main_thread():
        yield
        return
    came: list[int] = []
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    # None is a handler that was not set by Python, which could not set it again
    usual = {number: handler for number, handler in handlers.items() if handler is not None}
    try:
        for number in usual:
            signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
        for held_back in dict.fromkeys(came):
            signal.raise_signal(held_back)
