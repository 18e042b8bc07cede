"""The version, and what a command or a worker does before it loads any library; importing this changes nothing."""

import atexit
import gc
import os
import runpy
import sys

__version__ = "0.2.0"

# Threads of torch that wait for each other spin long, which on a machine with other work takes several times as long as
# the work; with this they spin briefly and sleep (measured in docs/scale.md). OpenMP reads it when torch is loaded.
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")  # whoever has set one has chosen

_own = False


def own_process() -> None:
    """Set up a process that runs nothing but a command or a worker.

    Garbage is collected rarely: what libraries make while they load stays, and a training makes hardly any. By Python's
    default a quarter of the start and most of the exit are spent on looking for it (measured in docs/scale.md).
    """
    global _own
    _own = True
    if not any(name in os.environ for name in WAITING):
        os.environ[WAITING[0]] = "1000"
    gc.set_threshold(20_000)
    atexit.register(gc.freeze)  # at its end Python looks twice more; what is left goes with the process


def is_own_process() -> bool:
    """Whether this process runs nothing but a command or a worker; if not, it is a program that imports the package."""
    return _own


def run_worker() -> None:
    """Run the module that the command line names first as a program, in a process of its own."""
    own_process()
    module = sys.argv.pop(1)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
