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
from recbole_dgrm.space import SAMPLERS

WIDE = 120  # columns that a table of all metrics needs
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
  %(prog)s tune --model=MF --dataset=ml-100k --trials=20
  %(prog)s benchmark --config=smoke
  %(prog)s report runs/smoke
"""
BENCHMARK_EPILOG = """\
Any key of the plan may be set as --key=value, read as YAML: --seeds=[2020,2021] --datasets=[ml-100k]
properties/benchmark.yaml explains the keys; properties/benchmark/ holds the plans that come with the package.
Called again, it goes on: what is finished stays.
"""
TUNE_EPILOG = """\
Any config key may be set for all trials as --key=value. The space is YAML: learning_rate: {loguniform: [1e-4, 1e-2]};
properties/tuning/<Model>.yaml holds a wide one and <Model>.paper.yaml the grid of the paper.
Called again, the search goes on where it stopped, also after a kill; several machines share one --storage and --study.
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
    threads = plan.threads or (1 if named.scheduler else max(1, (os.cpu_count() or 1) // named.workers))
    executor = DaskExecutor(named.scheduler) if named.scheduler else LocalExecutor(named.workers)
    with Board(console, (plan.metrics or [None])[0]) as board:
        state = benchmark.run_benchmark(plan, runs, folder, executor, threads, named.retry, board.show)
    console.print(benchmark_summary(state), highlight=False)
    written = report.write_report(folder, folder)
    console.print(f"report: {written}", highlight=False, soft_wrap=True)
    return 0 if state.count("finished") == len(runs) else 1


def tune(arguments: list[str], console: Console) -> int:
    """Search hyper-parameters on validation, then test the best configuration with several seeds."""
    usage = "%(prog)s tune --model=M --dataset=D [--trials=N] [--any_config_key=value ...]"
    parser = _parser("search hyper-parameters on the validation part", usage, TUNE_EPILOG)
    parser.add_argument("--model", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--space", help="a YAML file or RecBole's hyper.test (default properties/tuning/<model>.yaml)")
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
    from recbole_dgrm import search_report, terminal, tuning
    from recbole_dgrm.config import load_config, parse_value, properties_dir, read_yaml
    from recbole_dgrm.space import read_space_file
    from recbole_dgrm.study import plan_search

    line = {key: parse_value(value) for key, value in _pairs(others, parser).items()}
    given = load_config(config_dict={**line, "model": named.model, "dataset": named.dataset})["input"]
    config = {**line, **{key: given[key] for key in ("model", "dataset", "protocol", "seed")}}
    space = read_space_file(Path(named.space or properties_dir() / "tuning" / f"{named.model}.yaml"), read_yaml)
    name = named.study or "-".join(str(config[key]) for key in ("model", "dataset", "protocol", "seed"))
    folder = named.output_dir or Path("runs") / "tune" / name
    search = plan_search(config, space, folder, named.sampler, named.trials, not named.no_pruning, name, named.storage)
    threads = max(1, (os.cpu_count() or 1) // named.workers)
    with terminal.SearchBoard(console) as board:
        study = tuning.run_search(search, folder, named.workers, threads, named.timeout, board.show)
    best = search_report.write_search(study, folder)
    console.print(terminal.document_table(search_report.trials_table(study)))
    if best is None:
        print("error: no trial finished; trials.csv has the reasons", file=sys.stderr)
        return 1
    console.print(f"best configuration: {best}\nreport: {folder / 'report.html'}", highlight=False, soft_wrap=True)
    seeds = parse_value(named.test_seeds) or []
    if seeds and study.is_over():
        _test_best(console, config, best, seeds, folder / "test", named.workers, threads)
    return 0


def _test_best(console: Console, config: dict[str, Any], best: Path, seeds: list[int], folder: Path, workers: int,
               threads: int) -> None:  # fmt: skip
    """The best configuration beside the defaults, each trained with several seeds and tested once."""
    from recbole_dgrm import benchmark, report, summary, terminal
    from recbole_dgrm.config import load_config
    from recbole_dgrm.executors import LocalExecutor
    from recbole_dgrm.plan import make_plan, planned_runs
    from recbole_dgrm.records import config_hash

    rest = {key: value for key, value in config.items() if key not in ("model", "dataset", "protocol", "seed")}
    model, defaults = config["model"], f"{config['model']}, defaults"
    rows = [
        {"model": model, "label": f"{model}, tuned", "config_files": [str(best)]},
        {"model": model, "label": defaults},
    ]
    hashes = {config_hash(load_config(files, config)["input"]) for files in ([best], [])}
    if len(hashes) == 1:
        console.print("the best configuration is the default one")
        del rows[0]
    plan = make_plan({
        "models": rows, "datasets": [config["dataset"]], "protocols": [config["protocol"]], "seeds": seeds,
        "config": rest, "baseline": defaults,
    })  # fmt: skip
    runs, _ = planned_runs(plan)
    with terminal.Board(console) as board:
        benchmark.run_benchmark(plan, runs, folder, LocalExecutor(workers), threads, show=board.show)
    report.write_report(folder, folder)
    for cell in summary.summarise(folder).cells:
        console.print(terminal.document_table(report.result_table(cell), 4 if console.width < WIDE else None))


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


COMMANDS = {"train": train, "convert": convert, "benchmark": benchmark, "tune": tune, "report": report}


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


class _Stderr(logging.Handler):
    """Prints to what ``sys.stderr`` is at the moment; a progress display puts itself there, to print above its line."""

    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), file=sys.stderr)


def _notes_to_stderr() -> logging.Handler:
    """Sentences about the input and upstream warnings; errors are raised, and said once."""
    handler = _Stderr()
    handler.setFormatter(logging.Formatter("note: %(message)s"))
    handler.addFilter(_is_note)
    return handler


def _is_note(record: logging.LogRecord) -> bool:
    from recbole_dgrm.compat import KNOWN_LOGS  # loaded long before anything is logged

    return record.levelno == logging.WARNING and not record.getMessage().startswith(KNOWN_LOGS)
