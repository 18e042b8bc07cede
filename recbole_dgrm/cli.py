"""The command line: ``recbole-dgrm`` and ``python run_recbole_dgrm.py``."""

import argparse
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from recbole_dgrm.errors import UserError

TRAIN_USAGE = "%(prog)s --model=M --dataset=D [--any_config_key=value ...]"
EPILOG = """\
Any key of properties/*.yaml, of the model's YAML file or of RecBole may follow as --key=value; values are
read as YAML: --epochs=50 --topk=[5,10] --generator_hidden=[256,256] --fixed_step=~

examples:
  %(prog)s --model=DGRM --dataset=ml-100k
  %(prog)s --model=DGRMPlus --dataset=ml-1m --data_path=data --seed=2021
  %(prog)s --model=BPR --dataset=ml-100k --protocol=full
  %(prog)s --resume=runs/DGRM-ml-100k-rated-2020-...
  %(prog)s convert ratings.csv --name=mine
  %(prog)s benchmark --config=smoke
  %(prog)s report runs/smoke
"""
BENCHMARK_EPILOG = """\
Any key of the plan may be set as --key=value, read as YAML: --seeds=[2020,2021] --datasets=[ml-100k]
properties/benchmark.yaml explains the keys; properties/benchmark/ holds the plans that come with the package.
Called again, it goes on: what is finished stays.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status: 0 done, 1 failed, 2 wrong input, 130 interrupted."""
    arguments = sys.argv[1:] if arguments is None else arguments
    command, rest = (
        (arguments[0], arguments[1:]) if arguments[:1] and arguments[0] in COMMANDS else ("train", arguments)
    )
    console = Console()
    logging.getLogger().addHandler(handler := _notes_to_stderr())
    try:
        return COMMANDS[command](rest, console)
    except KeyboardInterrupt:
        return 130
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    finally:
        logging.getLogger().removeHandler(handler)


def train(arguments: list[str], console: Console) -> int:
    """Train, validate, test and save one model."""
    parser = _parser("train, validate, test and save one model", TRAIN_USAGE)
    parser.add_argument("--model", help="DGRM, DGRMPlus, or a general recommender of RecBole by its name")
    parser.add_argument(
        "--dataset", help="ml-100k comes with RecBole; others lie in <data_path>/<dataset>/<dataset>.inter"
    )
    parser.add_argument("--protocol", help="rated (default) | full | table3 | eq23: how models are compared")
    parser.add_argument("--seed", help="of the split, of training and of prediction noise (default 2020)")
    parser.add_argument("--output_dir", help="every run makes a directory of its own in here (default runs)")
    parser.add_argument("--config_files", default="", help='YAML files, later ones win: "a.yaml b.yaml"')
    parser.add_argument("--data_path", help="folder that holds <dataset>/ (default dataset)")
    parser.add_argument("--device", help="cpu | cuda | auto (default)")
    parser.add_argument(
        "--resume", metavar="RUN", help="continue a stopped run from its directory; takes no other option"
    )
    named, others = parser.parse_known_args(arguments)
    given = {key: value for key, value in vars(named).items() if value is not None}
    files, resume = given.pop("config_files").split(), given.pop("resume", None)
    if resume and (given or files or others):
        parser.error("--resume takes everything from the run directory; leave the other options out")
    from recbole_dgrm import experiment  # torch and RecBole load slowly; --help need not wait for them
    from recbole_dgrm.config import load_config, parse_value

    if resume:
        return _show(console, *experiment.resume(Path(resume), show_progress=True))
    line = {key: parse_value(value) for key, value in {**given, **_pairs(others, parser)}.items()}
    config = load_config([Path(file) for file in files], command_line=line)
    return _show(console, *experiment.run_one(config, show_progress=True))


def convert(arguments: list[str], console: Console) -> int:
    """Turn a CSV of ratings into RecBole's format."""
    parser = _parser("turn a CSV of ratings into RecBole's atomic format", "%(prog)s convert ratings.csv [options]", "")
    parser.add_argument("csv", type=Path, help="a CSV file with a header line (may be compressed)")
    parser.add_argument("--name", help="of the data set (default: the file's name)")
    parser.add_argument(
        "--data_path", type=Path, default=Path("dataset"), help="where <name>/ is made (default dataset)"
    )
    parser.add_argument("--sep", help="separator of the CSV (default: guessed)")
    for field in ("user", "item", "rating", "timestamp"):
        parser.add_argument(f"--{field}", metavar="COLUMN", help=f"column with the {field} (default: guessed)")
    given = parser.parse_args(arguments)
    from recbole_dgrm.convert import convert as write

    columns = {"user_id": given.user, "item_id": given.item, "rating": given.rating, "timestamp": given.timestamp}
    name = given.name or given.csv.name.split(".")[0]
    chosen = {field: column for field, column in columns.items() if column}
    path = write(given.csv, given.data_path, name, chosen, given.sep)
    console.print(
        f"{path} and {path.with_suffix('.yaml').name} are written; train with", highlight=False, soft_wrap=True
    )
    where = "" if given.data_path == Path("dataset") else f" --data_path={given.data_path}"
    console.print(f"  recbole-dgrm --model=DGRMPlus --dataset={name}{where}", highlight=False, soft_wrap=True)
    return 0


def benchmark(arguments: list[str], console: Console) -> int:
    """Run a plan of models, data sets, protocols and seeds, then report."""
    usage = "%(prog)s benchmark --config=PLAN [--any_plan_key=value ...]"
    parser = _parser("run a plan of models x data sets x protocols x seeds", usage, BENCHMARK_EPILOG)
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
    from recbole_dgrm import benchmark, report
    from recbole_dgrm.config import parse_value
    from recbole_dgrm.executors import DaskExecutor, LocalExecutor
    from recbole_dgrm.plan import find_plan, planned_runs, read_plan
    from recbole_dgrm.terminal import Board, benchmark_summary, plan_table

    path = find_plan(named.config)
    changes = {key: parse_value(value) for key, value in _pairs(others, parser).items()}
    plan = read_plan(path, changes, {} if named.data_path is None else {"data_path": named.data_path})
    runs, left_out = planned_runs(plan)
    for dataset, reason in left_out.items():
        print(f"note: {dataset} is left out: {reason}", file=sys.stderr)
    folder = named.output_dir or Path("runs") / path.stem
    if named.dry_run:
        console.print(plan_table(runs, {run for run in runs if benchmark.done(folder, run, named.retry)}))
        return 0
    threads = plan.threads or max(1, (os.cpu_count() or 1) // named.workers)
    executor = DaskExecutor(named.scheduler) if named.scheduler else LocalExecutor(named.workers)
    with Board(console, (plan.metrics or [None])[0]) as board:
        state = benchmark.run_benchmark(plan, runs, folder, executor, threads, named.retry, board.show)
    console.print(benchmark_summary(state), highlight=False)
    written = report.write_report(folder, folder, plan.baseline)
    console.print(f"report: {written}", highlight=False, soft_wrap=True)
    return 0 if state.count("finished") == len(runs) else 1


def report(arguments: list[str], console: Console) -> int:
    """Tables and figures of the runs in a folder."""
    parser = _parser("tables and figures of the runs below a folder", "%(prog)s report FOLDER [options]", "")
    parser.add_argument("folder", type=Path, help="any folder of runs, for example runs or runs/smoke")
    parser.add_argument("--baseline", help="label that the others are tested against (default: the plan's)")
    parser.add_argument("--output_dir", type=Path, help="where the report is written (default: the folder)")
    given = parser.parse_args(arguments)
    from recbole_dgrm.report import write_report

    written = write_report(given.folder, given.output_dir or given.folder, given.baseline)
    console.print(f"report: {written}", highlight=False, soft_wrap=True)
    return 0


COMMANDS = {"train": train, "convert": convert, "benchmark": benchmark, "report": report}


def _parser(description: str, usage: str, epilog: str = EPILOG) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        description=description, usage=usage, epilog=epilog, allow_abbrev=False,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip


def _pairs(others: list[str], parser: argparse.ArgumentParser) -> dict[str, str]:
    """``--key=value`` and ``--key value``; a value may contain ``=``."""
    pairs: dict[str, str] = {}
    rest = iter(others)
    for word in rest:
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not key:
            parser.error(f"{word!r} is not understood; options are written --key=value")
        if not equals and (value := next(rest, None)) is None:
            parser.error(f"--{key} has no value; write --{key}=value")
        if key in pairs:
            parser.error(f"--{key} is given twice")
        pairs[key] = value
    return pairs


def _show(console: Console, record: Any, run_dir: Path) -> int:
    from recbole_dgrm.experiment import RECORD
    from recbole_dgrm.terminal import explanation, result_table

    content = json.loads((run_dir / RECORD).read_text(encoding="utf-8"))
    console.print()
    console.print(result_table(content))
    console.print(explanation(content), highlight=False, soft_wrap=True)
    console.print(f"files of this run: {run_dir}", highlight=False, soft_wrap=True)
    return 0


def _notes_to_stderr() -> logging.Handler:
    """Sentences about the input and upstream warnings; errors are raised, and said once."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("note: %(message)s"))
    handler.addFilter(_is_note)
    return handler


def _is_note(record: logging.LogRecord) -> bool:
    from recbole_dgrm.compat import KNOWN_LOGS  # loaded long before anything is logged

    return record.levelno == logging.WARNING and not record.getMessage().startswith(KNOWN_LOGS)
