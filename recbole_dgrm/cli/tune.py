"""``recbole-dgrm tune``: search, then test what was found."""

import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from recbole_dgrm.cli.arguments import key_values, make_parser
from recbole_dgrm.options import Seed, check

WIDE = 120  # columns that a table of all metrics needs
EPILOG = """\
Any config key may be set for all trials as --key=value. The space is YAML: learning_rate: {loguniform: [1e-4, 1e-2]};
properties/tuning/<Model>.yaml holds a wide one and <Model>.paper.yaml the grid of the paper.
Called again, the search goes on where it stopped, also after a kill.
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
    parser.add_argument("--sampler", help="grid (every valid point once) | random | tpe (default: the space's, or tpe)")
    parser.add_argument("--trials", type=int, help="in all, those of earlier calls included (default: the grid, or 50)")
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="stop then; the same command goes on")
    parser.add_argument("--workers", type=int, default=1, help="trials at a time on this machine (default 1)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="hand the trials to a Dask cluster: tcp://host:8786")
    parser.add_argument("--study", help="name of the search (default <model>-<dataset>-<protocol>-<seed>)")
    parser.add_argument("--output_dir", type=Path, help="default runs/tune/<study>")
    parser.add_argument("--no_pruning", action="store_true", help="let every trial train to its end")
    parser.add_argument("--test_seeds", default="[2020, 2021, 2022]", help="of the final test; [] = none")
    named, others = parser.parse_known_args(arguments)
    from recbole_dgrm.cli.display import text
    from recbole_dgrm.cli.search_board import SearchBoard
    from recbole_dgrm.config.layers import parse_line, parse_value
    from recbole_dgrm.tuning.search import BEST, tune

    line = parse_line(key_values(others, parser))
    seeds = check("test_seeds", parse_value(named.test_seeds) or [], list[Seed])
    with SearchBoard(console) as board:
        search = tune(
            named.model,
            named.dataset,
            space=named.space,
            output_dir=named.output_dir,
            trials=named.trials,
            sampler=named.sampler,
            workers=named.workers,
            scheduler=named.scheduler,
            timeout=named.timeout,
            prune=not named.no_pruning,
            study=named.study,
            show=board.show,
            **line,
        )
    console.print(text(f"Best of {search.counts()}\n{search}"))
    if search.best is None:
        print("error: no trial finished; trials.csv has the reasons", file=sys.stderr)
        return 1
    best, report = search.path / BEST, search.path / "report.html"
    console.print(f"best configuration: {best}\nreport: {report}")
    if seeds and not search.waiting():
        _test_best(console, search, seeds, named.workers)
    return 0


def _test_best(console: Console, search: Any, seeds: list[int], workers: int) -> None:
    from recbole_dgrm.cli import display
    from recbole_dgrm.reports import benchmark_report, statistics
    from recbole_dgrm.tuning.search import best_against_defaults

    made = best_against_defaults(search, seeds)
    if len(made.plan.models) == 1:
        console.print("the best configuration is the default one")
    with display.Board(console) as board:
        made.run(workers, show=board.show)
    made.report()
    folder = made.folder
    for cell in statistics.summarise(folder).cells:
        console.print(display.document_table(benchmark_report.result_table(cell), 4 if console.width < WIDE else None))
