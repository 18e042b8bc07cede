"""Diagnosis of mode collapse: runs whose predictions are recorded during training, and a report on them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from narwhals.stable.v2.typing import IntoFrame
from pydantic import PositiveInt

from recbole_dgrm.benchmarks.plan import ModelEntry, make_plan
from recbole_dgrm.benchmarks.session import Benchmark, Show
from recbole_dgrm.data.convert import as_dataset
from recbole_dgrm.models import registry
from recbole_dgrm.options import check
from recbole_dgrm.reports.collapse_report import Diagnosis, write_diagnosis
from recbole_dgrm.system.files import plain

NEVER = 1_000_000  # validations without a new best before training stops


def diagnose(
    models: Any,
    dataset: str | IntoFrame,
    workers: int = 1,
    retry: bool = False,
    show: Show = lambda state: None,
    **options: Any,
) -> Diagnosis:
    """Train models without early stopping, record their predictions during training, and report on mode collapse.

    Args:
        workers, retry, show: see ``recbole_dgrm.benchmarks.session.Benchmark.run``.
        models, dataset, options: see ``prepare``.
    """
    made = prepare(models, dataset, **options)
    made.run(workers, None, retry, show)
    return write_diagnosis(made.folder)


def prepare(
    models: Any,
    dataset: str | IntoFrame,
    every: int = 5,
    epochs: int = 60,
    seeds: Sequence[int] = (2020,),
    fixed_steps: Sequence[int] = (),
    output_dir: Path | str | None = None,
    threads: int | None = None,
    **config: Any,
) -> Benchmark:
    """The checked runs of a diagnosis.

    Args:
        models: names, rows as in a benchmark plan, or "all" for all of our models.
        dataset: the name of a data set, or a DataFrame of ratings; see ``recbole_dgrm.runs.trained_run.train``.
        every: number of epochs between records of the predictions.
        epochs: number of training epochs.
        seeds: seeds of splits and training.
        fixed_steps: models that have the key ``fixed_step`` are also trained with each of these steps.
        output_dir: folder for the runs; ``runs/diagnose/<dataset>`` by default.
        threads: threads of each run; see ``properties/benchmark.yaml``.
        config: keys for all models.
    """
    steps = check("fixed_steps", plain(fixed_steps), list[PositiveInt])
    if isinstance(models, str):
        models = list(registry.MODELS) if models == "all" else [name.strip() for name in models.split(",")]
    keys = {"refit": False, "stopping_step": NEVER, "epochs": epochs, "diagnose_every": every, **config}
    protocols = [keys.pop("protocol", "rated")]
    named, place = as_dataset(dataset, output_dir)
    where = {"datasets": [named], "protocols": protocols, "seeds": plain(seeds), "threads": threads}
    rows = models if isinstance(models, list) else [models]
    plan = make_plan({"models": rows, **where, "config": {**keys, **place}})
    plan = replace(plan, models=[row for entry in plan.models for row in (entry, *_at_fixed_steps(entry, steps))])
    return Benchmark(plan, Path(output_dir or Path("runs") / "diagnose" / named))


def _at_fixed_steps(entry: ModelEntry, steps: Sequence[int]) -> list[ModelEntry]:
    """A row for each step if the model has the key ``fixed_step``, else no rows."""
    options = getattr(registry.model_class(entry.model), "Options", None)
    if "fixed_step" not in getattr(options, "__dataclass_fields__", {}):
        return []
    config = entry.config
    return [replace(entry, label=f"{entry.label}, t = {t}", config={**config, "fixed_step": t}) for t in steps]
