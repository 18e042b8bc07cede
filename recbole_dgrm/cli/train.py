"""``recbole-dgrm --model=M --dataset=D``: one run."""

import json
from pathlib import Path
from typing import Any

from rich.console import Console

from recbole_dgrm.cli.arguments import config_paths, key_values, make_parser

USAGE = "%(prog)s --model=M --dataset=D [--any_config_key=value ...]"


def run(arguments: list[str], console: Console) -> int:
    """Train, validate, test and save one model."""
    parser = make_parser("train, validate, test and save one model", USAGE)
    parser.add_argument("--model", help="DGRM, DGRMPlus, or a general recommender of RecBole by its name")
    parser.add_argument(
        "--dataset", help="ml-100k comes with RecBole; others lie in <data_path>/<dataset>/<dataset>.inter"
    )
    parser.add_argument("--protocol", help="rated (default) | full | table3 | eq23: how models are compared")
    parser.add_argument("--seed", help="of the split, of training and of prediction noise (default 2020)")
    parser.add_argument("--output_dir", help="every run makes a directory of its own in here (default runs)")
    parser.add_argument(
        "--config_files", action="append", default=[], metavar="YAML",
        help='a YAML file, or several: "a.yaml b.yaml"; may be given again, later files win',
    )  # fmt: skip
    parser.add_argument("--data_path", help="folder that holds <dataset>/ (default dataset)")
    parser.add_argument("--device", help="cpu | cuda | auto (default)")
    parser.add_argument(
        "--resume", type=Path, metavar="RUN", help="continue a stopped run from its directory; takes no other option"
    )
    named, others = parser.parse_known_args(arguments)
    given = {key: value for key, value in vars(named).items() if value is not None}
    if not all(map(str.strip, given["config_files"])):
        parser.error("--config_files names no file; leave it out")
    files, resume = list(config_paths(given.pop("config_files"))), given.pop("resume", None)
    if resume and (given or files or others):
        parser.error("--resume takes everything from the run directory; leave the other options out")
    from recbole_dgrm.config.layers import load_config, parse_line
    from recbole_dgrm.runs import experiment
    from recbole_dgrm.system import distributed  # torch and RecBole load slowly; --help need not wait for them

    if resume:
        made = experiment.resume(resume, show_progress=True)
    else:
        config = load_config(files, command_line=parse_line({**given, **key_values(others, parser)}))
        made = experiment.run_one(config, show_progress=True)
    return show(console, *made) if distributed.first() else 0


def show(console: Console, record: Any, run_dir: Path) -> int:
    """The table of a finished run."""
    from recbole_dgrm.cli.display import explanation, result_table
    from recbole_dgrm.evaluation.collapse import of_record
    from recbole_dgrm.runs.experiment import RECORD

    content = json.loads((run_dir / RECORD).read_text(encoding="utf-8"))
    console.print()
    console.print(result_table(content))
    console.print(explanation(content), highlight=False, soft_wrap=True)
    if verdict := of_record(content):
        console.print(f"collapse: {verdict.line}", highlight=False, soft_wrap=True)
    console.print(f"files of this run: {run_dir}", highlight=False, soft_wrap=True)
    return 0
