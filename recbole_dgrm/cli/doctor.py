"""``recbole-dgrm doctor``: what of the package works here."""

from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recbole_dgrm.cli.arguments import make_parser

STYLES = {"works": "green", "limited": "yellow", "does not work": "bold red"}


def run(arguments: list[str], console: Console) -> int:
    """Look at libraries, hardware, folders and data; 1 if something does not work."""
    usage = "%(prog)s doctor [--output_dir=DIR]"
    parser = make_parser("say what works here, what is limited, and what to do about it", usage, "")
    parser.add_argument("--output_dir", type=Path, default=Path("runs"), help="where runs would go (default runs)")
    given = parser.parse_args(arguments)
    from recbole_dgrm.cli.checks import FAILS, examine

    rows = list(examine(given.output_dir))
    table = Table(title="what works here", title_justify="left")
    for name in ("what", "found", "state", "cure"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row.what, Text(row.found), Text(row.state, STYLES[row.state]), Text(row.cure))
    console.print(table)
    failed = [row.what for row in rows if row.state == FAILS]
    console.print(f"does not work: {', '.join(failed)}" if failed else "nothing essential is missing")
    return 1 if failed else 0
