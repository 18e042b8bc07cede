"""``recbole-dgrm compare``: predictions of any library in the same report as our own models."""

from pathlib import Path

from rich.console import Console

from recbole_dgrm.cli.arguments import make_parser

EPILOG = """\
A file has the columns user, item and prediction and a row for each row of test.csv, in any order. Its name without
ending is the label of its row. Splits of other seeds are added to the same --output, one call for each.

examples:
  %(prog)s compare --split=split svd.csv als.csv
  %(prog)s compare --split=split-2021 2021/svd.csv 2021/als.csv --output=results --baseline=als
  %(prog)s compare --split=split svd.csv --seconds=svd:12.5 --output=runs/smoke
"""


def run(arguments: list[str], console: Console) -> int:
    """Judge files of predictions and write the report."""
    parser = make_parser(
        "judge predictions of any library", "%(prog)s compare --split=FOLDER FILE ... [options]", EPILOG
    )
    parser.add_argument("files", type=Path, nargs="+", metavar="FILE", help="CSV, JSON lines or Parquet of predictions")
    parser.add_argument("--split", type=Path, required=True, help="folder that recbole-dgrm split has written")
    output_help = (
        "folder of rows and report; may hold rows of other splits and runs of our own (default SPLIT/compared)"
    )
    parser.add_argument("--output", type=Path, help=output_help)
    parser.add_argument("--baseline", help="label that the others are tested against (default: the first file)")
    parser.add_argument("--seconds", help="how long trainings took: LABEL:12.5,LABEL:3", default="")
    parser.add_argument("--data_path", help="folder that holds <dataset>/, if the data has moved since")
    given = parser.parse_args(arguments)
    files = {file.name.split(".")[0]: file for file in given.files}
    if len(files) < len(given.files):
        alike = next(file for file in given.files if file not in files.values())
        parser.error(f"{alike} is named as another file is; a file's name is the label of its row: rename one")
    seconds = {}
    for pair in filter(None, given.seconds.split(",")):
        label, _, number = pair.rpartition(":")
        try:
            seconds[label] = float(number)
        except ValueError:
            parser.error(f"--seconds={given.seconds} is not understood; write LABEL:12.5,LABEL:3")
    from recbole_dgrm.cli.display import means_tables
    from recbole_dgrm.runs.compare import compare

    places = {"output": given.output, "baseline": given.baseline, "data_path": given.data_path}
    report = compare(given.split, files, seconds=seconds, **places)
    for table in means_tables(report.table()):
        console.print(table)
    console.print(f"with tests, resolution and figures: {report.path}")
    return 0
