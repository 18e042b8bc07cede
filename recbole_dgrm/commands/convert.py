"""``recbole-dgrm convert``: ratings into RecBole's format."""

from pathlib import Path

from rich.console import Console

from recbole_dgrm.arguments import make_parser


def run(arguments: list[str], console: Console) -> int:
    """Turn a CSV of ratings into RecBole's format."""
    parser = make_parser(
        "turn a CSV of ratings into RecBole's atomic format", "%(prog)s convert ratings.csv [options]", ""
    )
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
