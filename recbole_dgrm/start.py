"""What holds before anything else is loaded: the version, and how a process waits and looks for garbage."""

import atexit
import gc
import os

__version__ = "0.2.0"

# Threads of torch that wait for each other spin long, which on a machine with other work takes several times as long as
# the work; with this they spin briefly and sleep (measured in docs/scale.md). OpenMP reads it once, when torch is
# loaded, so it is set in the first lines that any command or worker runs.
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")  # whoever has set one has chosen
if not any(name in os.environ for name in WAITING):
    os.environ[WAITING[0]] = "1000"


def own_process() -> None:
    """Look for garbage rarely, in a process that runs nothing but a command or a worker.

    What libraries make while they load stays, and a training makes hardly any garbage; by Python's default a quarter of
    the start and most of the exit are spent on looking (measured in docs/scale.md).
    """
    gc.set_threshold(20_000)
    atexit.register(gc.freeze)  # at its end Python looks twice more; what is left goes with the process
