"""Generative recommenders on rating data, as a RecBole plugin."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from recbole_dgrm.saved import Run

__version__ = "0.1.0"


def load_run(path: Path | str, **where: str) -> "Run":
    """A finished run, ready to recommend and predict; see :func:`recbole_dgrm.saved.load_run`."""
    from recbole_dgrm.saved import load_run as load  # torch and RecBole load slowly; the package need not

    return load(path, **where)
