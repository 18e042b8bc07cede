"""``recbole-dgrm export``: the weights of a finished run for other programs."""

from pathlib import Path

from rich.console import Console

from recbole_dgrm.cli.arguments import add_run, make_parser, places


def run(arguments: list[str], console: Console) -> int:
    """Write weights and ids of a finished run."""
    usage = "%(prog)s export --run=RUN --output=FOLDER"
    parser = make_parser("write the weights of a finished run, and the ids of their rows, as plain files", usage, "")
    add_run(parser)
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    given = parser.parse_args(arguments)
    from recbole_dgrm.runs.export import CONTENTS, check_new, export
    from recbole_dgrm.runs.trained_run import load_run
    from recbole_dgrm.system.files import check_writable

    check_new(given.output)
    check_writable(given.output, "output")
    path = export(load_run(given.run, **places(given)), given.output)
    console.print(f"{path} and {CONTENTS} are written")
    return 0
