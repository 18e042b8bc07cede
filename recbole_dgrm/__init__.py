"""Generative recommenders on rating data, as a RecBole plugin."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recbole_dgrm.runs.trained_run import TrainedRun

__version__ = "0.1.0"

# Threads of torch that wait for each other spin long, which on a machine with other work takes several times as long as
# the work; with this they spin briefly and sleep (measured in docs/scale.md). OpenMP reads it once, when torch is
# loaded, so it is set in the first lines that any command or worker runs.
WAITING = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")  # whoever has set one has chosen
if not any(name in os.environ for name in WAITING):
    os.environ[WAITING[0]] = "1000"


def load_run(path: Path | str, **where: str) -> "TrainedRun":
    """A finished run, ready to recommend and predict; see ``recbole_dgrm.runs.trained_run.load_run``."""
    from recbole_dgrm.runs.trained_run import load_run as load  # torch and RecBole load slowly; the package need not

    return load(path, **where)
