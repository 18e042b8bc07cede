"""``recbole-dgrm download``: a well-known data set from its publisher."""

from pathlib import Path

from rich.console import Console

from recbole_dgrm.cli.arguments import DATA_PATH, make_parser, training_of

EPILOG = """\
The archive is checked by its sha256. Without network fetch the archive elsewhere and name it with --file.

examples:
  %(prog)s download ml-1m
  %(prog)s download ml-1m --file=Downloads/ml-1m.zip
"""


def run(arguments: list[str], console: Console) -> int:
    """Fetch a data set and lay it out in RecBole's format."""
    parser = make_parser("fetch a well-known data set", "%(prog)s download NAME [options]", EPILOG)
    parser.add_argument(
        "name", metavar="NAME", help="ml-100k, ml-1m, ml-10m, ml-20m, ml-latest-small or amazon-apps-for-android"
    )
    parser.add_argument("--data_path", type=Path, default=DATA_PATH, help="where NAME/ is made (default dataset)")
    parser.add_argument("--file", type=Path, metavar="ARCHIVE", help="the archive, fetched by hand")
    given = parser.parse_args(arguments)
    from recbole_dgrm.data.download import download, find_source

    source = find_source(given.name)
    path, is_new = download(source, given.data_path, given.file)
    console.print(f"{path} is written" if is_new else f"{path} is there already")
    console.print(f"licence: {source.licence} ({source.page})")
    console.print(training_of(source.name, given.data_path))
    return 0
