"""``recbole-dgrm benchmark``: a plan of runs and its report."""

from pathlib import Path

from rich.console import Console

from recbole_dgrm.cli.arguments import key_values, make_parser

EPILOG = """\
Any key of the plan may be set as --key=value, read as YAML: --seeds=[2020,2021] --datasets=[ml-100k]
properties/benchmark.yaml explains the keys; properties/benchmark/ holds the plans that come with the package.
Called again, it goes on: what is finished stays.
"""


def run(arguments: list[str], console: Console) -> int:
    """Run a plan of models, data sets, protocols and seeds, then report."""
    usage = "%(prog)s benchmark --config=PLAN [--any_plan_key=value ...]"
    parser = make_parser("run a plan of models x data sets x protocols x seeds", usage, EPILOG)
    parser.add_argument("--config", required=True, help="a YAML file, or the name of one in properties/benchmark/")
    parser.add_argument("--output_dir", type=Path, help="runs and report go here (default runs/<name of the plan>)")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time (default 1, which times them cleanly)")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="hand the runs to a Dask cluster: tcp://host:8786")
    parser.add_argument("--data_path", help="folder that holds <dataset>/, for every run")
    parser.add_argument("--dry_run", action="store_true", help="print the plan and what of it is done; run nothing")
    parser.add_argument("--retry", action="store_true", help="make failed, diverged and timed-out runs again")
    named, others = parser.parse_known_args(arguments)
    if named.workers < 1:
        parser.error(f"--workers={named.workers} must be at least 1")
    from recbole_dgrm.benchmarks.session import Benchmark
    from recbole_dgrm.cli.display import Board, benchmark_summary, plan_table
    from recbole_dgrm.config.values import parse_line

    made = Benchmark.read(named.config, named.output_dir, parse_line(key_values(others, parser)), named.data_path)
    if named.dry_run:
        console.print(plan_table(made.runs, made.finished_runs(named.retry)))
        return 0
    with Board(console, made.plan.metrics[0] if made.plan.metrics else None) as board:
        state = made.run(named.workers, named.scheduler, named.retry, board.show)
    console.print(benchmark_summary(state))
    console.print(f"report: {made.report().path}")
    return 0 if state.count("finished") == len(made.runs) else 1
