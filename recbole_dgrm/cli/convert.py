"""``recbole-dgrm convert``: ratings into RecBole's format."""

from pathlib import Path

from rich.console import Console

from recbole_dgrm.cli.arguments import DATA_PATH, add_reading, make_parser, reading_of, training_of

PARTS = ("train", "valid", "test")


def run(arguments: list[str], console: Console) -> int:
    """Turn a file of ratings, or the files of a split, into RecBole's format."""
    usage = "%(prog)s convert ratings.csv [options]\n       %(prog)s convert --train=A [--valid=B] --test=C --name=N"
    parser = make_parser("turn CSV, JSON lines or Parquet into RecBole's atomic format", usage, "")
    file_help = "CSV, JSON (an array of objects, or one a line), .parquet or .inter; may be .gz, .bz2, .xz or .zip"
    parser.add_argument("file", type=Path, nargs="?", help=file_help)
    for part in PARTS:
        parser.add_argument(f"--{part}", type=Path, metavar="FILE", help=f"the {part} part of a split that is given")
    parser.add_argument("--name", help="of the data set (default: the file's name)")
    parser.add_argument("--data_path", type=Path, default=DATA_PATH, help="where <name>/ is made (default dataset)")
    add_reading(parser)
    given = parser.parse_args(arguments)
    split = {part: path for part in PARTS if (path := getattr(given, part)) is not None}
    if (given.file is None) == (not split):
        parser.error("give one file of ratings, or the files of a split: --train=A --valid=B --test=C")
    if split and not (given.train and given.test and given.name):
        parser.error("a split needs --train, --test and --name; without --valid, validation is cut from training")
    from recbole_dgrm.data.convert import WHOLE, convert

    name = given.file.name.split(".")[0] if given.name is None else given.name
    done = convert(split or {WHOLE: given.file}, given.data_path, name, reading_of(given))
    for line in [*done.lines, f"{', '.join(map(str, done.files))} and {name}.yaml are written; train with"]:
        console.print(line)
    console.print(training_of(name, given.data_path))
    return 0
