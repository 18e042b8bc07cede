"""``recbole-dgrm convert``: ratings into RecBole's format."""

from pathlib import Path

from rich.console import Console

from recbole_dgrm.cli.arguments import DATA_PATH, make_parser, training_of

PARTS = ("train", "valid", "test")


def run(arguments: list[str], console: Console) -> int:
    """Turn a file of ratings, or the files of a split, into RecBole's format."""
    usage = "%(prog)s convert ratings.csv [options]\n       %(prog)s convert --train=A [--valid=B] --test=C --name=N"
    parser = make_parser("turn CSV, JSON lines or Parquet into RecBole's atomic format", usage, "")
    file_help = "CSV, .json (an array of objects, or one a line; both may be .gz), or .parquet"
    parser.add_argument("file", type=Path, nargs="?", help=file_help)
    for part in PARTS:
        parser.add_argument(f"--{part}", type=Path, metavar="FILE", help=f"the {part} part of a split that is given")
    parser.add_argument("--name", help="of the data set (default: the file's name)")
    parser.add_argument("--data_path", type=Path, default=DATA_PATH, help="where <name>/ is made (default dataset)")
    parser.add_argument("--sep", help="separator of the CSV (default: guessed)")
    parser.add_argument("--encoding", default="utf-8", help="of the text: latin-1, cp1252, utf-16, ... (default utf-8)")
    columns_help = "of a CSV without a header: user,item,rating,timestamp, with _ for one that is not wanted"
    parser.add_argument("--columns", metavar="NAMES", help=columns_help)
    parser.add_argument("--missing", metavar="CODES", help='ratings that mean "not rated": 99, or -1,NA')
    for field in ("user", "item", "rating", "timestamp"):
        parser.add_argument(f"--{field}", metavar="COLUMN", help=f"column with the {field} (default: guessed)")
    given = parser.parse_args(arguments)
    split = {part: path for part in PARTS if (path := getattr(given, part)) is not None}
    if (given.file is None) == (not split):
        parser.error("give one file of ratings, or the files of a split: --train=A --valid=B --test=C")
    if split and not (given.train and given.test and given.name):
        parser.error("a split needs --train, --test and --name; without --valid, validation is cut from training")
    from recbole_dgrm.data.convert import WHOLE, convert
    from recbole_dgrm.data.rating_files import Reading
    from recbole_dgrm.data.tables import Layout

    columns = {"user_id": given.user, "item_id": given.item, "rating": given.rating, "timestamp": given.timestamp}
    name = given.file.name.split(".")[0] if given.name is None else given.name
    chosen = {field: column for field, column in columns.items() if column is not None}
    names = tuple(column.strip() for column in given.columns.split(",")) if given.columns else ()
    missing = tuple(given.missing.split(",")) if given.missing is not None else ()
    reading = Reading(chosen, Layout(given.sep, given.encoding, names), missing)
    done = convert(split or {WHOLE: given.file}, given.data_path, name, reading)
    for line in [*done.lines, f"{', '.join(map(str, done.files))} and {name}.yaml are written; train with"]:
        console.print(line)
    console.print(training_of(name, given.data_path))
    return 0
