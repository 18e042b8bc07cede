"""The benchmark that tests what a search has found: the best configuration beside the model's defaults."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recbole_dgrm.benchmarks.plan import make_plan
from recbole_dgrm.benchmarks.session import Benchmark, Show, unseen
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.records import config_hash, short_name

PLANNED = ("model", "dataset", "protocol", "seed")  # keys that a plan has places of its own for


def best_is_default(config: Mapping[str, Any], best: Path) -> bool:
    """Whether the file ``best`` changes no key of the model's defaults."""
    hashes = {config_hash(load_config(files, config).given) for files in ([best], [])}
    return len(hashes) == 1


def compare_with_defaults(
    config: Mapping[str, Any],
    best: Path,
    seeds: list[int],
    folder: Path,
    workers: int = 1,
    show: Show = unseen,
) -> None:
    """Train the best configuration and the defaults with each seed, test them, and write the report into ``folder``.

    Args:
        config: the keys of all trials of the search, with ``model``, ``dataset`` and ``protocol``.
        best: the file of the keys that were found; where they are the defaults, these are trained alone.
    """
    model, name = config["model"], short_name(config["model"])
    defaults = f"{name}, defaults"
    rows = [{"model": model, "label": defaults}]
    if not best_is_default(config, best):
        rows.insert(0, {"model": model, "label": f"{name}, tuned", "config_files": [str(best)]})
    plan = make_plan(
        {
            "models": rows,
            "datasets": [config["dataset"]],
            "protocols": [config["protocol"]],
            "seeds": seeds,
            "config": {key: value for key, value in config.items() if key not in PLANNED},
            "baseline": defaults,
        }
    )
    made = Benchmark.of(plan, folder)
    made.run(workers, show=show)
    made.report()
