"""``recbole-dgrm recommend``: lists of items for users, from a finished run."""

import csv
from collections.abc import Collection
from pathlib import Path
from time import monotonic

from rich.console import Console

from recbole_dgrm.cli.arguments import add_reading, add_run, make_parser, places, reading_of

ALL = "all"
EPILOG = """\
The columns are user, rank, item, score and, where the model predicts ratings, predicted_rating: the score within the
rating scale. --ratings are read as convert has read the data set, unless options such as --sep and --user say
otherwise. With --deviations there is deviation, too: how sure the model is, a standard deviation in ratings. Items
of one score stand in the order of their ids.

examples:
  %(prog)s recommend --run=runs/DGRMPlus-ml-100k-... --output=lists.csv
  %(prog)s recommend --run=runs/DGRMPlus-ml-100k-... --users=196,186 --topk=5 --output=lists.jsonl
  %(prog)s recommend --run=runs/DGRMPlus-ml-100k-... --ratings=new.csv --output=new.parquet
"""


def run(arguments: list[str], console: Console) -> int:
    """Write recommendation lists."""
    parser = make_parser("recommend items to users", "%(prog)s recommend --run=RUN --output=FILE [options]", EPILOG)
    add_run(parser)
    parser.add_argument("--output", type=Path, required=True, help="the file to write; one that exists is replaced")
    parser.add_argument("--users", default=ALL, help='all (default), a,b,"c,d", or a file with an id per line')
    parser.add_argument("--topk", type=int, default=10, help="items per user (default 10)")
    exclude_help = "seen (default): items that the user has rated anywhere in the data, the test part too | none"
    parser.add_argument("--exclude", default="seen", choices=("seen", "none"), help=exclude_help)
    parser.add_argument("--format", choices=("csv", "parquet", "jsonl"), help="default: by the ending of --output")
    deviations_help = "add the standard deviation of each rating; the model must know it, as BMF and DGRM do"
    parser.add_argument("--deviations", action="store_true", help=deviations_help)
    ratings_help = "ratings (user, item, rating) of users to recommend to, who need not have been there in training"
    parser.add_argument("--ratings", type=Path, metavar="FILE", help=ratings_help)
    add_reading(parser)
    given = parser.parse_args(arguments)
    if given.topk < 1:
        parser.error(f"--topk={given.topk} must be at least 1")
    if not given.output.parent.is_dir():
        parser.error(f"--output={given.output}: there is no folder {given.output.parent}")
    from recbole_dgrm.cli.display import duration, list_table
    from recbole_dgrm.data.convert import described
    from recbole_dgrm.runs.export import table_format, write_lists
    from recbole_dgrm.runs.trained_run import Recommender, load_run

    kind = table_format(given.output, given.format)
    run = load_run(given.run, **places(given))
    source: Recommender = run
    if given.ratings:  # a file of the layout that the data set was made of
        made = described(Path(run.config["data_path"]) / f"{run.config['dataset']}.yaml")
        source = run.with_ratings(given.ratings, reading_of(given, made))
    users = list(dict.fromkeys(source.users if given.users == ALL else _users(given.users, set(source.users))))
    start = monotonic()
    first, lists = write_lists(source, users, given.topk, given.exclude, given.output, kind, given.deviations)
    seconds = duration(monotonic() - start)
    console.print(list_table(first, users[0]))
    console.print(f"{len(users):,} users, at most {given.topk} items each, in {seconds}: {given.output}")
    console.print(run.about(lists))
    return 0


def _users(text: str, known: Collection[str]) -> list[str]:
    """External ids from a file (one per line) or the command line, without blanks around them unless ``known`` so."""
    path = Path(text)
    words = path.read_text(encoding="utf-8-sig").split("\n") if path.is_file() else next(csv.reader([text]))
    return [word if word in known else word.strip() for word in words if word.strip()]
