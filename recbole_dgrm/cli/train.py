"""``recbole-dgrm --model=M --dataset=D``: one run."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from recbole_dgrm.cli.arguments import config_paths, key_values, make_parser

USAGE = "%(prog)s --model=M --dataset=D [--any_config_key=value ...]"


def run(arguments: list[str], console: Console) -> int:
    """Train, validate, test and save one model."""
    parser = make_parser("train, validate, test and save one model", USAGE)
    parser.add_argument(
        "--model", help="DGRM, DGRMPlus, a general recommender of RecBole by its name, or mypackage.linear:Linear"
    )
    parser.add_argument(
        "--dataset", help="ml-100k comes with RecBole; others lie in <data_path>/<dataset>/<dataset>.inter"
    )
    parser.add_argument("--protocol", help="rated (default) | temporal | full | table3 | eq23: how models are compared")
    parser.add_argument("--seed", help="of the split, of training and of prediction noise (default 2020)")
    parser.add_argument("--output_dir", help="every run makes a directory of its own in here (default runs)")
    files_help = 'a YAML file, or several: "a.yaml b.yaml"; may be given again, later files win'
    parser.add_argument("--config_files", action="append", default=[], metavar="YAML", help=files_help)
    parser.add_argument("--data_path", help="folder that holds <dataset>/ (default dataset)")
    parser.add_argument("--device", help="cpu | cuda | auto (default)")
    resume_help = "continue a stopped run from its directory; takes no other option"
    parser.add_argument("--resume", type=Path, metavar="RUN", help=resume_help)
    named, others = parser.parse_known_args(arguments)
    given = {key: value for key, value in vars(named).items() if value is not None}
    if not all(map(str.strip, given["config_files"])):
        parser.error("--config_files names no file; leave it out")
    files, resume = list(config_paths(given.pop("config_files"))), given.pop("resume", None)
    if resume and (given or files or others):
        parser.error("--resume takes everything from the run directory; leave the other options out")
    from recbole_dgrm.config.layers import load_config
    from recbole_dgrm.config.values import parse_line
    from recbole_dgrm.runs import experiment
    from recbole_dgrm.system import distributed  # torch and RecBole load slowly; --help need not wait for them
    from recbole_dgrm.system.files import plain

    if resume:
        record, run_dir = experiment.resume(resume, show_progress=True)
    else:
        config = load_config(files, command_line=parse_line({**given, **key_values(others, parser)}))
        record, run_dir = experiment.run_one(config, show_progress=True)
    if distributed.is_main_process():
        show(console, plain(asdict(record)), run_dir)
    return 0


def show(console: Console, record: dict[str, Any], run_dir: Path) -> None:
    """Print the table of a finished run."""
    from recbole_dgrm.evaluation.collapse import of_record
    from recbole_dgrm.reports.run_table import explanation, run_table

    console.print()
    console.print(run_table(record))
    console.print(explanation(record))
    if verdict := of_record(record):
        console.print(f"collapse: {verdict.line}")
    console.print(f"files of this run: {run_dir}")
