"""Reading the command line: what several commands share."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from recbole_dgrm.options import check_known, option
from recbole_dgrm.start import __version__

DATA_PATH = Path("dataset")
LONGEST_PART = 255  # bytes of a name between two slashes that file systems take
EPILOG = """\
Any key of properties/*.yaml, of the model's YAML file or of RecBole may follow as --key=value; values are
read as YAML: --epochs=50 --topk=[5,10] --generator_hidden=[256,256] --fixed_step=~
Names, paths and other texts stay as they are typed: --dataset=007 --user_inter_num_interval=[5,inf)

examples:
  %(prog)s --model=DGRM --dataset=ml-100k
  %(prog)s --model=DGRMPlus --dataset=ml-1m --data_path=data --seed=2021
  %(prog)s --model=BPR --dataset=ml-100k --protocol=full
  %(prog)s --resume=runs/DGRM-ml-100k-rated-2020-...
  %(prog)s download ml-1m
  %(prog)s convert ratings.csv --name=mine
  %(prog)s tune --model=MF --dataset=ml-100k --trials=20
  %(prog)s benchmark --config=smoke
  %(prog)s diagnose --models=DGRM,CFGAN --dataset=ml-100k
  %(prog)s report runs/smoke
  %(prog)s split --dataset=ml-100k --output=split
  %(prog)s compare --split=split a.csv b.csv
  %(prog)s recommend --run=runs/DGRMPlus-ml-100k-... --output=lists.csv
  %(prog)s evaluate --run=runs/DGRMPlus-ml-100k-... --protocol=table3
  %(prog)s export --run=runs/DGRMPlus-ml-100k-... --output=model
  %(prog)s doctor
"""


class _Once(argparse._StoreAction):
    """Stores a value and refuses an option that is given twice, of which argparse would silently take the last."""

    given = False

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        if self.given:
            parser.error(f"{option} is given twice")
        self.given = bool(option)
        super().__call__(parser, namespace, values, option)


class _Parser(argparse.ArgumentParser):
    """Accepts options by their full names only, and each of them once."""

    def __init__(self, description: str, usage: str, epilog: str):
        super().__init__(_program(), usage, description, epilog, allow_abbrev=False)
        self.formatter_class = argparse.RawDescriptionHelpFormatter
        self.register("action", None, _Once)
        self.register("type", Path, _path)

    def parse_known_args(self, *arguments: Any) -> tuple[argparse.Namespace, list[str]]:  # type: ignore[override]
        """Parse the options, and tell someone at a terminal that the libraries, which load slowly, are next."""
        parsed = super().parse_known_args(*arguments)
        if sys.stderr.isatty():
            print(f"recbole-dgrm {__version__}: loading libraries", file=sys.stderr, flush=True)
        return parsed

    def parse_args(self, arguments: Sequence[str]) -> argparse.Namespace:  # type: ignore[override]
        """Parse the options of a command that takes no config keys."""
        given, others = self.parse_known_args(arguments)
        known = [name for name in self._option_string_actions if name.startswith("--")]
        check_known("unknown option", (word.partition("=")[0] for word in others), known)
        return given


def _program() -> str:
    """The name of the program as the user typed it."""
    name = Path(sys.argv[0]).name
    if name == "__main__.py":
        return "python -m recbole_dgrm"
    return f"python {name}" if name.endswith(".py") else name


def make_parser(description: str, usage: str, epilog: str = EPILOG) -> argparse.ArgumentParser:
    """The parser of one command."""
    return _Parser(description, usage, epilog)


def _path(text: str) -> Path:
    if not text.strip():  # of an empty text Path makes the working directory
        raise argparse.ArgumentTypeError("the path is empty; name one, or leave the option out")
    if any(len(os.fsencode(part)) > LONGEST_PART for part in Path(text).parts):
        raise argparse.ArgumentTypeError(f"a part of the path is longer than {LONGEST_PART} bytes; shorten it")
    return Path(text)


def config_paths(values: Sequence[str]) -> Iterator[Path]:
    """The files that ``--config_files`` names: each value is a path, or several with blanks between them.

    Of a value with blanks the longest beginnings that are files are taken, so that a path may have blanks, too.
    """
    for value in values:
        words = value.split(" ")
        while words:
            n = next((n for n in range(len(words), 0, -1) if Path(" ".join(words[:n])).is_file()), 1)
            if name := " ".join(words[:n]):
                yield Path(name)
            del words[:n]


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a finished run and where its data and device are now."""
    parser.add_argument("--run", type=Path, required=True, help="directory of a finished run")
    parser.add_argument("--data_path", help="folder that holds <dataset>/, if the data has moved since")
    parser.add_argument("--device", help="cpu | cuda | auto (default: the run's)")


def places(given: argparse.Namespace) -> dict[str, str]:
    """The new places of a run's data and device, as far as they were given."""
    return {key: value for key in ("data_path", "device") if (value := getattr(given, key)) is not None}


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how ratings are read from a file."""
    parser.add_argument("--sep", help="separator of the CSV (default: guessed)")
    parser.add_argument("--encoding", help="of the text: latin-1, cp1252, utf-16, ... (default utf-8)")
    columns_help = "of a CSV without a header: user,item,rating,timestamp, with _ for one that is not wanted"
    parser.add_argument("--columns", metavar="NAMES", help=columns_help)
    parser.add_argument("--missing", metavar="CODES", help='ratings that mean "not rated": 99, or -1,NA')
    for field in ("user", "item", "rating", "timestamp"):
        parser.add_argument(f"--{field}", metavar="COLUMN", help=f"column with the {field} (default: guessed)")


def reading_of(given: argparse.Namespace, below: Any = None) -> Any:
    """How to read a file of ratings: as the options say, and where they say nothing, as the ``Reading`` ``below``."""
    from recbole_dgrm.data.text_tables import Reading

    below = below or Reading()
    columns, missing = below.columns, below.missing
    if given.columns is not None:
        columns = tuple(name.strip() for name in given.columns.split(",")) if given.columns else ()
    if given.missing is not None:
        missing = tuple(given.missing.split(","))
    fields = {"user_id": given.user, "item_id": given.item, "rating": given.rating, "timestamp": given.timestamp}
    fields = {name: column for name, column in fields.items() if column is not None}
    return Reading(
        fields, given.sep or below.separator, given.encoding or below.encoding, columns, missing, below.usual
    )


def key_values(others: list[str], parser: argparse.ArgumentParser) -> dict[str, str]:
    """``--key=value`` and ``--key value``; a value may contain ``=``."""
    pairs: dict[str, str] = {}
    rest = iter(others)
    value: str | None
    for word in rest:
        key, equals, value = word.removeprefix("--").partition("=")
        if not word.startswith("--") or not key:
            parser.error(f"{word!r} is not understood; options are written --key=value")
        if not equals and ((value := next(rest, None)) is None or value.startswith("--")):
            parser.error(f"--{key} has no value; write --{key}=value")
        if key in pairs:
            parser.error(f"--{key} is given twice")
        pairs[key] = value
    return pairs


def training_of(dataset: str, data_path: Path) -> str:
    """The command that trains on a data set that has just been made."""
    where = "" if data_path == DATA_PATH else f" {option('data_path', data_path)}"
    return f"  recbole-dgrm --model=DGRMPlus {option('dataset', dataset)}{where}"
