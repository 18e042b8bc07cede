"""What holds before anything else is loaded: the version, and how the threads of torch wait for each other."""

import os

__version__ = "0.2.0"

# Threads of torch that wait for each other spin long, which on a machine with other work takes several times as long as
# the work; with this they spin briefly and sleep (measured in docs/scale.md). OpenMP reads it once, when torch is
# loaded, so it is set in the first lines that any command or worker runs.
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")  # whoever has set one has chosen
if not any(name in os.environ for name in WAITING):
    os.environ[WAITING[0]] = "1000"
