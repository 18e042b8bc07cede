"""The command that checks the installation."""

from argparse import Namespace
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from recbole_dgrm.cli.command import argument, command

STYLES = {"works": "green", "limited": "yellow", "does not work": "bold red"}


@command(
    "doctor [--output_dir=DIR]",
    argument("--output_dir", type=Path, default=Path("runs"), help="folder for runs (default runs)"),
)
def doctor(given: Namespace, console: Console) -> int:
    """Check what works on this machine, what is limited, and what to do about it."""
    from recbole_dgrm.cli.checks import FAILS, examine

    rows = list(examine(given.output_dir))
    table = Table(title="what works here", title_justify="left")
    for name in ("what", "result", "state", "cure"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(row.what, Text(row.result), Text(row.state, STYLES[row.state]), Text(row.cure))
    console.print(table)
    failed = [row.what for row in rows if row.state == FAILS]
    console.print(f"does not work: {', '.join(failed)}" if failed else "nothing essential is missing")
    return 1 if failed else 0
