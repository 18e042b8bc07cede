"""``recbole-dgrm diagnose``: does a model's training collapse, when, and how does one see it."""

import os
from pathlib import Path
from typing import Annotated, Any

from rich.console import Console

from recbole_dgrm.cli.arguments import key_values, make_parser
from recbole_dgrm.options import Range, check

NEVER = 1_000_000  # validations without a new best before training stops
ALL = "all"
EPILOG = """\
Any config key may be set for all models as --key=value. --models takes names, "all" for every model of ours, or rows as
in the plan of a benchmark: --models='[DGRM, {model: CFGAN, label: CFGAN ZR, config: {negatives: ZR}}]'
RecBole's models join by their recommendation lists. Called again, it goes on: what is finished stays.

examples:
  %(prog)s diagnose --models=DGRM,CFGAN --dataset=ml-100k
  %(prog)s diagnose --models=DGRM --dataset=ml-100k --fixed_steps=[5,1]
  %(prog)s diagnose --models=all --dataset=mine --epochs=30 --every=2
"""


def run(arguments: list[str], console: Console) -> int:
    """Watch the training of some models and report on mode collapse."""
    usage = "%(prog)s diagnose --models=M,N --dataset=D [--every=5] [--any_config_key=value ...]"
    parser = make_parser("watch what models predict while they train; report on mode collapse", usage, EPILOG)
    parser.add_argument("--models", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--every", type=int, default=5, help="epochs between looks (default 5)")
    parser.add_argument("--epochs", type=int, default=60, help="of each training, none stops early (default 60)")
    parser.add_argument("--seeds", default="[2020]", help="each is another split and training (default [2020])")
    parser.add_argument("--fixed_steps", default="[]", help="train DGRM with these t only, too (appendix B: [5,1])")
    parser.add_argument("--output_dir", type=Path, help="default runs/diagnose/<dataset>")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time (default 1)")
    parser.add_argument("--retry", action="store_true", help="make failed and diverged runs again")
    named, others = parser.parse_known_args(arguments)
    for key in ("every", "epochs", "workers"):
        if getattr(named, key) < 1:
            parser.error(f"--{key}={getattr(named, key)} must be at least 1")
    from recbole_dgrm.benchmark import session
    from recbole_dgrm.benchmark.executors import LocalExecutor
    from recbole_dgrm.benchmark.plan import make_plan, planned_runs
    from recbole_dgrm.cli import display
    from recbole_dgrm.config.layers import parse_line, parse_value
    from recbole_dgrm.reports import collapse_report
    from recbole_dgrm.reports.collapse_runs import watched
    from recbole_dgrm.system.files import check_writable

    line = parse_line(key_values(others, parser))
    fixed = check("fixed_steps", parse_value(named.fixed_steps) or [], Annotated[list[int], Range(1)])
    protocols = [line.pop("protocol", "rated")]
    watch = {"refit": False, "stopping_step": NEVER, "epochs": named.epochs, "diagnose_every": named.every}
    plan = make_plan({
        "models": _rows(parse_value(named.models, "models"), fixed), "datasets": [named.dataset],
        "protocols": protocols, "seeds": parse_value(named.seeds), "config": {**watch, **line},
    })  # fmt: skip
    folder = named.output_dir or Path("runs") / "diagnose" / named.dataset
    check_writable(folder)
    runs, _ = planned_runs(plan)
    threads = max(1, (os.cpu_count() or 1) // named.workers)
    with display.Board(console) as board:
        state = session.run_benchmark(
            plan, runs, folder, LocalExecutor(named.workers), threads, named.retry, board.show
        )
    console.print(display.benchmark_summary(state), highlight=False)
    written = collapse_report.write_diagnosis(folder)
    for seen in watched(folder):
        console.print(f"{seen.name}: {seen.verdict.line}", highlight=False, soft_wrap=True)
    console.print(f"report: {written}", highlight=False, soft_wrap=True)
    return 0 if state.count("finished") == len(runs) else 1


def _rows(models: Any, fixed_steps: list[int]) -> list[Any]:
    """Rows of a plan, each followed by its variants with a fixed step where the model has such a key.

    What is no row stays as it is; the plan says what is wrong with it.
    """
    from recbole_dgrm.models import registry

    if models == ALL:
        models = list(registry.MODELS)
    if isinstance(models, str):
        models = [name.strip() for name in models.split(",")]
    rows: list[Any] = []
    for entry in models if isinstance(models, list) else [models]:
        row = {"model": entry, "label": entry} if isinstance(entry, str) else entry
        rows.append(row)
        if not (
            isinstance(row, dict) and isinstance(row.get("model"), str) and isinstance(row.get("config", {}), dict)
        ):
            continue
        options = getattr(registry.model_class(row["model"]), "Options", None)
        if "fixed_step" in getattr(options, "__dataclass_fields__", {}):
            rows += [
                {**row, "label": f"{row.get('label', row['model'])}, t = {step}",
                 "config": {**row.get("config", {}), "fixed_step": step}}
                for step in fixed_steps
            ]  # fmt: skip
    return rows
