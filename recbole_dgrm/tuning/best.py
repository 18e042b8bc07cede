"""The test of what a search has found: a benchmark of the best configuration and the model's defaults."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_dgrm.benchmarks.plan import make_plan
from recbole_dgrm.benchmarks.session import Benchmark, Show, unseen
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.records import config_hash, short_name

PLANNED = ("model", "dataset", "protocol", "seed")  # keys that a plan has places of its own for


def is_default(config: Mapping[str, Any], best: Path) -> bool:
    """Whether the file ``best`` changes no key of the model's defaults."""
    return len({config_hash(load_config(files, config).given) for files in ([best], [])}) == 1


def compare_with_defaults(
    config: Mapping[str, Any], best: Path, seeds: list[int], folder: Path, workers: int = 1, show: Show = unseen
) -> None:
    """Train the best configuration and the defaults with each seed, test them, and write the report into ``folder``.

    Args:
        config: the keys of all trials of the search, with ``model``, ``dataset`` and ``protocol``.
        best: the file of the keys that were found; where they are the defaults, these are trained alone.
    """
    model, name = config["model"], short_name(config["model"])
    rows: list[dict[str, Any]] = [{"model": model, "label": f"{name}, defaults"}]
    if not is_default(config, best):
        rows.insert(0, {"model": model, "label": f"{name}, tuned", "config_files": [str(best)]})
    rest = {key: value for key, value in config.items() if key not in PLANNED}
    where = {"datasets": [config["dataset"]], "protocols": [config["protocol"]], "seeds": seeds, "config": rest}
    made = Benchmark.of(make_plan({"models": rows, **where, "baseline": f"{name}, defaults"}), folder)
    made.run(workers, show=show)
    made.report()
