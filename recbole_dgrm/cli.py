"""The command line: ``recbole-dgrm`` and ``python run_recbole_dgrm.py``."""

import argparse
import json
import logging
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


COMMANDS = {"train": train, "convert": convert}


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
    from recbole_dgrm.report import explanation, result_table

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
