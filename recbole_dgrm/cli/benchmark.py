"""``recbole-dgrm benchmark``: a plan of runs and its report."""

import os
import sys
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
    from recbole_dgrm.benchmark import session
    from recbole_dgrm.benchmark.executors import DaskExecutor, LocalExecutor
    from recbole_dgrm.benchmark.plan import find_plan, planned_runs, read_plan_file
    from recbole_dgrm.cli.display import Board, benchmark_summary, plan_table
    from recbole_dgrm.config.layers import parse_line
    from recbole_dgrm.reports import benchmark_report
    from recbole_dgrm.system.files import check_writable
    from recbole_dgrm.system.texts import lines

    path = find_plan(named.config)
    changes = parse_line(key_values(others, parser))
    plan = read_plan_file(path, changes, {} if named.data_path is None else {"data_path": named.data_path})
    folder = named.output_dir or Path("runs") / path.stem
    check_writable(folder)
    runs, left_out = planned_runs(plan)
    for dataset, reason in left_out.items():
        print(lines(f"note: {dataset} is left out: {reason}"), file=sys.stderr)
    if named.dry_run:
        console.print(plan_table(runs, {run for run in runs if session.done(folder, run, named.retry)}))
        return 0
    threads = plan.threads or (1 if named.scheduler else max(1, (os.cpu_count() or 1) // named.workers))
    executor = DaskExecutor(named.scheduler) if named.scheduler else LocalExecutor(named.workers)
    with Board(console, plan.metrics[0] if plan.metrics else None) as board:
        state = session.run_benchmark(plan, runs, folder, executor, threads, named.retry, board.show)
    console.print(benchmark_summary(state))
    written = benchmark_report.write_report(folder, folder)
    console.print(f"report: {written}")
    return 0 if state.count("finished") == len(runs) else 1
