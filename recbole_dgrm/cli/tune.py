"""``recbole-dgrm tune``: a search, then the test of what it found."""

import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from recbole_dgrm.cli.arguments import key_values, make_parser
from recbole_dgrm.options import Seed, check, check_name
from recbole_dgrm.tuning.space import SAMPLERS

WIDE = 120  # columns that a table of all metrics needs
EPILOG = """\
Any config key may be set for all trials as --key=value. The space is YAML: learning_rate: {loguniform: [1e-4, 1e-2]};
properties/tuning/<Model>.yaml holds a wide one and <Model>.paper.yaml the grid of the paper.
Called again, the search goes on where it stopped, also after a kill; several machines share one --storage and --study.
"""


def run(arguments: list[str], console: Console) -> int:
    """Search hyper-parameters on validation, then test the best configuration with several seeds."""
    usage = "%(prog)s tune --model=M --dataset=D [--trials=N] [--any_config_key=value ...]"
    parser = make_parser("search hyper-parameters on the validation part", usage, EPILOG)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument(
        "--space", type=Path, help="a YAML file or RecBole's hyper.test (default properties/tuning/<model>.yaml)"
    )
    parser.add_argument(
        "--sampler", choices=SAMPLERS, help="grid: every valid point once (default: the space's, or tpe)"
    )
    parser.add_argument("--trials", type=int, help="in all, those of earlier calls included (default: the grid, or 50)")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="stop then; the same command goes on")
    parser.add_argument("--workers", type=int, default=1, help="processes on this machine (default 1)")
    parser.add_argument(
        "--storage", metavar="URL", help="a database for many machines: postgresql://... (default SQLite)"
    )
    parser.add_argument("--study", help="its name in the database (default <model>-<dataset>-<protocol>-<seed>)")
    parser.add_argument("--output_dir", type=Path, help="default runs/tune/<study>")
    parser.add_argument("--no_pruning", action="store_true", help="let every trial train to its end")
    parser.add_argument("--test_seeds", default="[2020, 2021, 2022]", help="of the final test; [] = none")
    named, others = parser.parse_known_args(arguments)
    for key in ("workers", "trials", "timeout"):
        if getattr(named, key) is not None and getattr(named, key) <= 0:
            parser.error(f"--{key}={getattr(named, key)} must be above 0")
    from recbole_dgrm.cli import display
    from recbole_dgrm.config.layers import load_config, parse_line, parse_value, read_yaml
    from recbole_dgrm.models.registry import space_file
    from recbole_dgrm.records import run_name
    from recbole_dgrm.system.files import check_writable
    from recbole_dgrm.tuning import search_report, workers
    from recbole_dgrm.tuning.space import read_space_file
    from recbole_dgrm.tuning.study import plan_search

    line = parse_line(key_values(others, parser))
    seeds = check("test_seeds", parse_value(named.test_seeds) or [], list[Seed])
    given = load_config(config_dict={**line, "model": named.model, "dataset": named.dataset}).given
    config = {**line, **{key: given[key] for key in ("model", "dataset", "protocol", "seed")}}
    space = read_space_file(named.space or space_file(named.model), read_yaml)
    name = check_name("study", named.study or run_name(config))
    folder = named.output_dir or Path("runs") / "tune" / name
    check_writable(folder)
    search = plan_search(config, space, folder, named.sampler, named.trials, not named.no_pruning, name, named.storage)
    threads = max(1, (os.cpu_count() or 1) // named.workers)
    with display.SearchBoard(console) as board:
        study = workers.run_search(search, folder, named.workers, threads, named.timeout, board.show)
    best = search_report.write_search(study, folder)
    console.print(display.document_table(search_report.trials_table(study)))
    if best is None:
        print("error: no trial finished; trials.csv has the reasons", file=sys.stderr)
        return 1
    console.print(f"best configuration: {best}\nreport: {folder / 'report.html'}", highlight=False, soft_wrap=True)
    if seeds and study.is_over():
        _test_best(console, config, best, seeds, folder / "test", named.workers, threads)
    return 0


def _test_best(console: Console, config: dict[str, Any], best: Path, seeds: list[int], folder: Path, workers: int,
               threads: int) -> None:  # fmt: skip
    """The best configuration beside the defaults, each trained with several seeds and tested once."""
    from recbole_dgrm.benchmark import session
    from recbole_dgrm.benchmark.executors import LocalExecutor
    from recbole_dgrm.benchmark.plan import make_plan, planned_runs
    from recbole_dgrm.cli import display
    from recbole_dgrm.config.layers import load_config
    from recbole_dgrm.records import config_hash, short_name
    from recbole_dgrm.reports import benchmark_report, statistics

    rest = {key: value for key, value in config.items() if key not in ("model", "dataset", "protocol", "seed")}
    model, name = config["model"], short_name(config["model"])
    defaults = f"{name}, defaults"
    rows = [
        {"model": model, "label": f"{name}, tuned", "config_files": [str(best)]},
        {"model": model, "label": defaults},
    ]
    hashes = {config_hash(load_config(files, config).given) for files in ([best], [])}
    if len(hashes) == 1:
        console.print("the best configuration is the default one")
        del rows[0]
    plan = make_plan({
        "models": rows, "datasets": [config["dataset"]], "protocols": [config["protocol"]], "seeds": seeds,
        "config": rest, "baseline": defaults,
    })  # fmt: skip
    runs, _ = planned_runs(plan)
    with display.Board(console) as board:
        session.run_benchmark(plan, runs, folder, LocalExecutor(workers), threads, show=board.show)
    benchmark_report.write_report(folder, folder)
    for cell in statistics.summarise(folder).cells:
        console.print(display.document_table(benchmark_report.result_table(cell), 4 if console.width < WIDE else None))
