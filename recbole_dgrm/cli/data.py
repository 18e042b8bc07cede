"""Commands that make data sets."""

from argparse import Namespace
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from recbole_dgrm.cli.command import DATA_PATH, argument, command, names, training_command
from recbole_dgrm.errors import OptionError

PARTS = ("train", "valid", "test")
FIELDS = ("user", "item", "rating", "timestamp")
MADE_IN = argument("--data_path", type=Path, default=DATA_PATH, help="folder for <name>/ (default dataset)")
READING = (
    argument("--sep", help="separator of the CSV (default: guessed)"),
    argument("--encoding", help="of the text: latin-1, cp1252, utf-16, ... (default utf-8)"),
    argument(
        "--columns", type=names, metavar="NAMES", help="of a CSV without a header: user,item,rating,_ (_: not used)"
    ),
    argument("--missing", type=names, metavar="CODES", help='ratings that mean "not rated": 99, or -1,NA'),
    *(argument(f"--{field}", metavar="COLUMN", help=f"column with the {field} (default: guessed)") for field in FIELDS),
)


def reading_of(given: Namespace, below: Any = None) -> Any:
    """How to read a file of ratings: by the options, and for those that are not given by the ``Reading`` ``below``."""
    from recbole_dgrm.data.text_tables import Reading

    fields = {f"{field}_id" if field in ("user", "item") else field: getattr(given, field) for field in FIELDS}
    layout = {"separator": given.sep, "encoding": given.encoding, "columns": given.columns, "missing": given.missing}
    named = {name: value for name, value in layout.items() if value is not None}
    fields = {field: name for field, name in fields.items() if name is not None}
    return replace(below or Reading(), fields=fields, **named)


@command(
    "download NAME [options]",
    argument("name", metavar="NAME", help="ml-100k, ml-1m, ml-10m, ml-20m, ml-latest-small or amazon-apps-for-android"),
    MADE_IN,
    argument("--file", type=Path, metavar="ARCHIVE", help="the archive, if you have downloaded it yourself"),
)
def download(given: Namespace, console: Console) -> None:
    """Download a well-known data set from its publisher.

    The archive is checked by its sha256. Without network, download the archive elsewhere and name it with --file.

    examples:
      recbole-dgrm download ml-1m
      recbole-dgrm download ml-1m --file=Downloads/ml-1m.zip
    """
    from recbole_dgrm.data.download import download, find_source

    source = find_source(given.name)
    path, is_new = download(source, given.data_path, given.file)
    console.print(f"{path} is written" if is_new else f"{path} exists already")
    console.print(f"licence: {source.licence} ({source.page})")
    console.print(training_command(source.name, given.data_path))


@command(
    "convert ratings.csv [options]\n       %(prog)s convert --train=A [--valid=B] --test=C --name=N",
    argument("file", type=Path, nargs="?", help="CSV, JSON, .parquet or .inter; may be .gz, .bz2, .xz or .zip"),
    *(argument(f"--{part}", type=Path, metavar="FILE", help=f"the {part} part of your own split") for part in PARTS),
    argument("--name", help="of the data set (default: the file's name)"),
    MADE_IN,
    *READING,
)
def convert(given: Namespace, console: Console) -> None:
    """Convert a file of ratings, or the files of a split, to RecBole's format."""
    split = {part: path for part in PARTS if (path := getattr(given, part)) is not None}
    if split if given.file else not (given.train and given.test and given.name):
        raise OptionError("give one file of ratings, or a split: --train=A [--valid=B] --test=C --name=N")
    from recbole_dgrm.data.convert import WHOLE, convert

    name = given.file.name.split(".")[0] if given.name is None else given.name
    done = convert(split or {WHOLE: given.file}, given.data_path, name, reading_of(given))
    for line in [*done.lines, f"{', '.join(map(str, done.files))} and {name}.yaml are written; train with"]:
        console.print(line)
    console.print(training_command(name, given.data_path))
