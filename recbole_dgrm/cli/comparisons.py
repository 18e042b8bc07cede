"""Commands that make and compare several runs, or compare predictions of other libraries."""

import sys
from argparse import Namespace
from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console

from recbole_dgrm.cli.command import argument, command, config_paths, number
from recbole_dgrm.cli.runs import CONFIG_FILES, keys_of
from recbole_dgrm.errors import OptionError
from recbole_dgrm.options import Seed, check, option

WORKERS = argument("--workers", type=number, default=1, help="runs at a time on this machine (default 1)")
SCHEDULER = argument("--scheduler", metavar="ADDRESS", help="send the runs to a Dask cluster: tcp://host:8786")
RETRY = argument("--retry", action="store_true", help="make failed, diverged and timed-out runs again")
BASELINE = argument("--baseline", help="label that the others are tested against (default: the plan's, or the first)")


@command(
    "benchmark --config=PLAN [--any_plan_key=value ...]",
    argument("--config", required=True, help="a YAML file, or the name of one in properties/benchmark/"),
    argument("--output_dir", type=Path, help="runs and report go here (default runs/<name of the plan>)"),
    argument("--data_path", help="folder of <dataset>/, for every run"),
    argument("--dry_run", action="store_true", help="print the plan and which runs are done; run nothing"),
    *(WORKERS, SCHEDULER, RETRY),
    takes_keys=True,
)
def benchmark(given: Namespace, console: Console) -> int:
    """Run a plan of models, data sets, protocols and seeds, and report on it.

    Any key of the plan may be set as --key=value, read as YAML: --seeds=[2020,2021] --datasets=[ml-100k]
    properties/benchmark.yaml explains the keys; properties/benchmark/ has the plans that come with the package.
    If called again, it makes the missing runs. Times are only comparable with one run at a time (--workers=1).

    examples:
      recbole-dgrm benchmark --config=smoke
    """
    from recbole_dgrm.benchmarks.session import Benchmark
    from recbole_dgrm.cli.display import plan_table

    made = Benchmark.read(given.config, given.output_dir, given.keys, given.data_path)
    if given.dry_run:
        console.print(plan_table(made.runs, made.finished_runs(given.retry)))
        return 0
    status = _make_runs(made, given, console)
    console.print(f"report: {made.report().path}")
    return status


def _make_runs(made: Any, given: Namespace, console: Console) -> int:
    """Make the runs of a benchmark; returns 1 if one of them is not finished."""
    from recbole_dgrm.cli.display import Board

    with Board(console) as board:
        state = made.run(given.workers, given.scheduler, given.retry, board.show)
    counts = Counter(state.runs.values())
    console.print(f"{len(made.runs)} runs: {', '.join(f'{n} {status}' for status, n in counts.most_common())}")
    return 0 if counts["finished"] == len(made.runs) else 1


@command(
    "tune --model=M --dataset=D [--trials=N] [--any_config_key=value ...]",
    *(argument("--model", required=True), argument("--dataset", required=True)),
    argument(
        "--space", type=Path, help="a YAML file, or a hyper.test of RecBole (default properties/tuning/<model>.yaml)"
    ),
    argument("--sampler", help="grid (every valid point once) | random | tpe (default: the space's, or tpe)"),
    argument("--trials", type=int, help="total number, including earlier calls (default: the grid, or 50)"),
    argument("--timeout", type=float, metavar="SECONDS", help="stop after it; the same command continues"),
    argument("--output_dir", type=Path, help="default runs/tune/<model>-<dataset>-<protocol>-<seed>"),
    argument("--no_pruning", action="store_true", help="let every trial train to its end"),
    argument("--test_seeds", default="[2020, 2021, 2022]", help="seeds of the final test; [] = no test"),
    *(WORKERS, SCHEDULER),
    takes_keys=True,
)
def tune(given: Namespace, console: Console) -> int:
    """Search hyper-parameters on the validation part, and test the best ones with several seeds.

    Any config key may be set for all trials as --key=value. The space is YAML, for example
    learning_rate: {loguniform: [1e-4, 1e-2]}; properties/tuning/<Model>.yaml has a wide one and <Model>.paper.yaml the
    grid of the paper. If called again, the search continues.

    examples:
      recbole-dgrm tune --model=MF --dataset=ml-100k --trials=20
    """
    from recbole_dgrm.cli.display import Board, frame_table
    from recbole_dgrm.config.values import parse_value
    from recbole_dgrm.tuning.search import BEST, best_against_defaults, tune

    seeds = check("test_seeds", parse_value(given.test_seeds) or [], list[Seed])
    named = ("space", "output_dir", "trials", "sampler", "workers", "scheduler", "timeout")
    keys = {**keys_of(given, *named), "prune": not given.no_pruning, **given.keys}
    with Board(console) as board:
        search = tune(given.model, given.dataset, show=board.show_search, **keys)
    console.print(frame_table(search.shown().reset_index(names="trial"), f"the best of {search.counts()}"))
    if search.best is None:
        print("error: no trial finished; trials.csv has the reasons", file=sys.stderr)
        return 1
    console.print(f"best configuration: {search.path / BEST}\nreport: {search.path / 'report.html'}")
    if seeds and not search.waiting():
        made = best_against_defaults(search, seeds)
        if len(made.plan.models) == 1:
            console.print("the best configuration is the default one")
        with Board(console) as board:
            made.run(given.workers, show=board.show)
        _print_report(console, made.report())
    return 0


@command(
    "diagnose --models=M,N --dataset=D [--any_config_key=value ...]",
    *(argument("--models", required=True), argument("--dataset", required=True)),
    argument("--every", type=number, default=5, help="epochs between two diagnoses (default 5)"),
    argument("--epochs", type=number, default=60, help="of each training, without early stopping (default 60)"),
    argument("--seeds", default="[2020]", help="seeds of splits and training (default [2020])"),
    argument(
        "--fixed_steps", default="[]", help="also train DGRM with each of these steps t alone (appendix B: [5,1])"
    ),
    argument("--output_dir", type=Path, help="default runs/diagnose/<dataset>"),
    argument("--threads", type=int, help="CPU threads of each run (default: the cores, shared among workers)"),
    *(WORKERS, SCHEDULER, RETRY),
    takes_keys=True,
)
def diagnose(given: Namespace, console: Console) -> int:
    """Train models, diagnose mode collapse during training, and report on it.

    Any config key may be set for all models as --key=value. --models takes names, "all" for all of our models, or rows
    as in a benchmark plan: --models='[DGRM, {model: CFGAN, label: CFGAN ZR, config: {negatives: ZR}}]'
    For RecBole's models only recommendation lists are compared. If called again, it makes the missing runs.

    examples:
      recbole-dgrm diagnose --models=DGRM,CFGAN --dataset=ml-100k
      recbole-dgrm diagnose --models=DGRM --dataset=ml-100k --fixed_steps=[5,1]
    """
    from recbole_dgrm.benchmarks import watch
    from recbole_dgrm.config.values import parse_value
    from recbole_dgrm.reports.collapse_report import write_diagnosis

    config = given.keys | {key: getattr(given, key) for key in ("every", "epochs", "output_dir", "threads")}
    config |= {"seeds": parse_value(given.seeds), "fixed_steps": parse_value(given.fixed_steps) or []}
    made = watch.prepare(parse_value(given.models, "models"), given.dataset, **config)
    status = _make_runs(made, given, console)
    diagnosis = write_diagnosis(made.folder)
    for name, verdict in diagnosis.verdicts.items():
        console.print(f"{name}: {verdict}")
    console.print(f"report: {diagnosis.path}")
    return status


@command(
    "report FOLDER [options]",
    argument("folder", type=Path, help="any folder of runs, for example runs or runs/smoke"),
    BASELINE,
    argument("--output_dir", type=Path, help="folder of the report (default: FOLDER)"),
)
def report(given: Namespace, console: Console) -> None:
    """Write a report with tables and figures on the runs in a folder and below it."""
    from recbole_dgrm.reports.benchmark_report import report
    from recbole_dgrm.system.files import check_writable

    if given.output_dir:
        check_writable(given.output_dir)
    console.print(f"report: {report(given.folder, given.baseline, given.output_dir).path}")


@command(
    "split --dataset=D --output=FOLDER [--any_config_key=value ...]",
    argument("--output", type=Path, required=True, help="a new folder"),
    CONFIG_FILES,
    takes_keys=True,
)
def split(given: Namespace, console: Console) -> None:
    """Write the parts of a split as CSV, for models of other libraries.

    Writes train.csv, valid.csv and test.csv (user, item, rating and, if the data has times, timestamp) and split.json.
    Train on train.csv, validate on valid.csv, predict each row of test.csv; then use recbole-dgrm compare.
    Any config key except those of models may follow as --key=value, such as --protocol, --seed and --data_path.

    examples:
      recbole-dgrm split --dataset=ml-1m --data_path=data --protocol=table3 --seed=2021 --output=split-2021
    """
    from recbole_dgrm.runs.compare import split_config, write_split

    about = write_split(split_config(config_paths(given.config_files), given.keys), given.output)
    verbs = {"train": "train on", "valid": "validate on", "test": "predict"}
    sizes = ", ".join(f"{about[f'n_{part}']:,} to {verb}" for part, verb in verbs.items())
    metric = f"validation metric {about['selects']}"
    console.print(f"{given.output}: ratings {sizes}; fingerprint {about['fingerprint']}; {metric}")
    console.print("predict each row of test.csv into a file with the columns user, item and prediction, then")
    console.print(f"  recbole-dgrm compare {option('split', given.output)} predictions.csv")


@command(
    "compare --split=FOLDER FILE ... [options]",
    argument("files", type=Path, nargs="+", metavar="FILE", help="CSV, JSON lines or Parquet of predictions"),
    argument("--split", type=Path, required=True, help="folder from recbole-dgrm split"),
    argument("--output", type=Path, help="folder for rows and report; may have other runs (default SPLIT/compared)"),
    BASELINE,
    argument("--seconds", default="{}", help="training times: '{svd: 12.5, als: 3}'"),
    argument("--data_path", help="folder of <dataset>/, if the data has moved"),
)
def compare(given: Namespace, console: Console) -> None:
    """Compare predictions of other libraries with each other and with our runs.

    A file has the columns user, item and prediction and a row for each row of test.csv, in any order. Its name without
    suffix is the label of its row. Predictions for splits with other seeds can be added to the same --output, with one
    call for each split.

    examples:
      recbole-dgrm compare --split=split svd.csv als.csv
      recbole-dgrm compare --split=split-2021 2021/svd.csv 2021/als.csv --output=results --baseline=als
    """
    files = {file.name.split(".")[0]: file for file in given.files}
    if len(files) < len(given.files):
        same = next(file for file in given.files if file not in files.values())
        raise OptionError(f"{same} has the name of another file, and names are the labels of rows; rename one")
    from recbole_dgrm.config.values import parse_value
    from recbole_dgrm.runs.compare import compare

    places = keys_of(given, "output", "baseline", "data_path")
    _print_report(console, compare(given.split, files, seconds=parse_value(given.seconds), **places))


def _print_report(console: Console, made: Any) -> None:
    from recbole_dgrm.cli.display import frame_table

    for (dataset, protocol), part in made.shown().groupby(level=["dataset", "protocol"], sort=False):
        rows = part.droplevel(["dataset", "protocol"]).reset_index()
        console.print(frame_table(rows, f"{dataset}, protocol {protocol}, means over seeds"))
    console.print(f"with tests, resolution and figures: {made.path}")
