"""Child processes that are forks of a process that has loaded the libraries; loading takes longer than a short run.

``Forks`` starts such a process, the *server*, for each fork that runs at the same time. The server gets the arguments
of a fork as a line of its input, and prints the process id of the fork and later its exit status as lines. A fork has
the input of its server, so both end with their parent, see ``processes``. No thread runs in the server, which only
loads libraries: a fork of a process with threads could wait for one of them for ever. (Two libraries start threads when
they are loaded, OpenBLAS and the jemalloc of pyarrow; both end them before a fork.)
"""

import gc
import json
import os
import runpy
import select
import signal
import subprocess
import sys
from collections import defaultdict
from contextlib import suppress
from importlib import import_module
from itertools import chain
from pathlib import Path
from typing import Any

from recbole_dgrm.system.processes import end, spawn

CAN_FORK = sys.platform == "linux"  # on macOS libraries of the system do not work in a fork


class Fork:
    """A fork of a server, with the methods of ``subprocess.Popen`` that ``processes`` uses.

    Attributes:
        returncode: the exit status; None until ``wait`` has seen the end of the fork.
    """

    def __init__(self, server: subprocess.Popen[bytes], idle: list[subprocess.Popen[bytes]]):
        self.stdin: Any = server.stdin
        self.returncode: int | None = None
        self._server, self._idle = server, idle
        self._report: Any = server.stdout
        self._pid: int | None = None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end of the fork, as ``Popen.wait``; its server is then ``idle``."""
        while self.returncode is None:
            if not select.select([self._report], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("fork", timeout or 0)
            self._read(self._report.readline())
        return self.returncode

    def kill(self) -> None:
        """Kill the fork, or its server if there is no fork yet."""
        os.kill(self._pid or self._server.pid, signal.SIGKILL)

    def _read(self, line: bytes) -> None:
        if line and self._pid is None:
            self._pid = int(line)
            return
        self.returncode = int(line) if line else self._server.wait()  # no line: the server has ended
        if line and self.stdin.closed:
            self._server.wait()
        elif line:
            self._idle.append(self._server)
            self.stdin = None  # the input stays open for the next fork


class Forks:
    """Starts forks of servers that have loaded the module ``loaded``."""

    def __init__(self, loaded: str):
        self._loaded = loaded
        self._idle: dict[int, list[subprocess.Popen[bytes]]] = defaultdict(list)  # by the number of their threads

    def start(self, module: str, arguments: list[str], output: Path, threads: int) -> Fork:
        """Run a ``module`` of this package in a fork; the arguments are those of ``processes.spawn``."""
        idle, server = self._idle[threads], None
        with suppress(IndexError):
            server = idle.pop()
        if server is None or server.poll() is not None:
            server = spawn(__name__, [self._loaded], output, threads, subprocess.PIPE)
        fork = Fork(server, idle)
        fork.stdin.write(json.dumps([module, *arguments, str(output)]).encode() + b"\n")
        return fork

    def close(self) -> None:
        """End the servers that have no fork; the others end when the input of their fork is closed."""
        for server in chain.from_iterable(self._idle.values()):
            end(server)


def next_task() -> list[str]:
    """In a server: fork for each line of the input, and exit at its end; returns only in a fork, with its arguments."""
    for number in (signal.SIGINT, signal.SIGTERM):  # the fork then writes a checkpoint, for which the server waits
        signal.signal(number, signal.SIG_IGN)
    report = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no report
    import_module(sys.argv[1])
    _print_to(os.devnull)
    gc.freeze()
    with open(0, "rb", buffering=0, closefd=False) as lines:
        for line in lines:
            *arguments, output = json.loads(line)
            if (pid := os.fork()) == 0:
                os.close(report)
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.SIG_DFL)
                _print_to(output)
                return arguments
            os.write(report, b"%d\n" % pid)
            os.write(report, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    sys.exit()


def _print_to(path: str) -> None:
    with open(path, "wb") as file:
        for number in (1, 2):
            os.dup2(file.fileno(), number)


if __name__ == "__main__":  # python -m recbole_dgrm.system.forks LOADED
    module, *sys.argv[1:] = next_task()
    runpy.run_module(module, run_name="__main__", alter_sys=True)
