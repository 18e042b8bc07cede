"""Diagnosis of mode collapse: runs whose predictions are watched while they train, and the report on them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from narwhals.stable.v2.typing import IntoFrame
from pydantic import PositiveInt

from recbole_dgrm.benchmarks.plan import make_plan
from recbole_dgrm.benchmarks.session import Benchmark, Show, unseen
from recbole_dgrm.data.convert import as_dataset
from recbole_dgrm.models import registry
from recbole_dgrm.options import check
from recbole_dgrm.records import short_name
from recbole_dgrm.reports import collapse_report
from recbole_dgrm.reports.collapse_runs import diagnosed_runs
from recbole_dgrm.reports.table_repr import TableRepr
from recbole_dgrm.system.files import plain

NEVER = 1_000_000  # validations without a new best before training stops
ALL = "all"


@dataclass(frozen=True, repr=False)
class Diagnosis(TableRepr):
    """The report on mode collapse in a folder of runs; shown as its verdicts.

    Attributes:
        path: its page, ``diagnosis.html``; Markdown, CSV and figures lie beside it.
        verdicts: row of the report to one sentence.
    """

    path: Path
    verdicts: dict[str, str]

    def shown(self) -> pd.DataFrame:
        """A row per model with its verdict."""
        return pd.DataFrame({"verdict": self.verdicts})

    @classmethod
    def write(cls, folder: Path) -> "Diagnosis":
        """Write the report on the runs in ``folder``.

        Raises:
            DataError: no run there was inspected during training.
        """
        path = collapse_report.write_diagnosis(folder)
        return cls(path, {run.name: run.verdict.line for run in diagnosed_runs(folder)})


def diagnose(
    models: Any, dataset: str | IntoFrame, workers: int = 1, retry: bool = False, show: Show = unseen, **options: Any
) -> Diagnosis:
    """Train models without stopping early, look at their predictions meanwhile, and report on mode collapse.

    Args:
        workers, retry, show: see ``recbole_dgrm.benchmarks.session.Benchmark.run``.
        models, dataset, options: see ``prepare``.
    """
    made = prepare(models, dataset, **options)
    made.run(workers, None, retry, show)
    return Diagnosis.write(made.folder)


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
    """The runs of a diagnosis, checked.

    Args:
        models: names, rows as in the plan of a benchmark, or "all" for every model of ours.
        dataset: its name, or a DataFrame of ratings; see ``recbole_dgrm.runs.trained_run.train``.
        every: epochs between two looks at the predictions.
        seeds: each is another split and training.
        fixed_steps: models that walk along a chain are trained once more with each of these steps only.
        output_dir: ``runs/diagnose/<dataset>`` by default.
        threads: of each run; see ``properties/benchmark.yaml``.
        config: keys for all models.
    """
    steps = check("fixed_steps", plain(fixed_steps), list[PositiveInt])
    watching = {"refit": False, "stopping_step": NEVER, "epochs": epochs, "diagnose_every": every}
    keys = {**watching, **config}
    protocols = [keys.pop("protocol", "rated")]
    named, place = as_dataset(dataset, output_dir)
    where = {"datasets": [named], "protocols": protocols, "seeds": plain(seeds), "threads": threads}
    plan = make_plan({"models": rows(models, steps), **where, "config": {**keys, **place}})
    return Benchmark.of(plan, Path(output_dir or Path("runs") / "diagnose" / named))


def rows(models: Any, fixed_steps: Sequence[int]) -> list[Any]:
    """The rows of a plan; a model that has a key ``fixed_step`` also gets a row for each fixed step.

    Anything that is no valid row is passed on, so that the plan can say what is wrong with it.
    """
    if models == ALL:
        models = list(registry.MODELS)
    if isinstance(models, str):
        models = [name.strip() for name in models.split(",")]
    found: list[Any] = []
    for entry in models if isinstance(models, list) else [models]:
        row: Any = {"model": entry, "label": short_name(entry)} if isinstance(entry, str) else entry
        found.append(row)
        if _takes_fixed_steps(row):
            label, config = row.get("label", row["model"]), row.get("config", {})
            for step in fixed_steps:
                found.append({**row, "label": f"{label}, t = {step}", "config": {**config, "fixed_step": step}})
    return found


def _takes_fixed_steps(row: Any) -> bool:
    if not (isinstance(row, dict) and isinstance(row.get("model"), str) and isinstance(row.get("config", {}), dict)):
        return False
    options = getattr(registry.model_class(row["model"]), "Options", None)
    return "fixed_step" in getattr(options, "__dataclass_fields__", {})
