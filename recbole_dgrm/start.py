"""The version, and the setup of the process of a command or a worker before libraries are loaded."""

import atexit
import gc
import os
import runpy
import sys

__version__ = "0.2.0"

# By default torch's threads busy-wait for each other, which makes training several times slower on a machine with other
# work; with this setting they sleep soon (measured in docs/scale.md). OpenMP reads it when torch is loaded.
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")  # if the user has set one of these, nothing is changed

_own = False


def own_process() -> None:
    """Set up a process that only runs a command or a worker.

    Garbage collection is made rare, because loading libraries and training produce hardly any garbage. With Python's
    default it takes a quarter of the start and most of the exit (measured in docs/scale.md).
    """
    global _own
    _own = True
    if not any(name in os.environ for name in WAITING):
        os.environ[WAITING[0]] = "1000"
    gc.set_threshold(20_000)
    atexit.register(gc.freeze)  # avoids two more collections at exit


def is_own_process() -> bool:
    """Whether this process only runs a command or a worker; otherwise it is a program that imports the package."""
    return _own


def run_worker() -> None:
    """Run the module that is the first argument of the command line, in its own process."""
    own_process()
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
