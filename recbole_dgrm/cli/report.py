"""``recbole-dgrm report``: what a folder of runs says."""

from pathlib import Path

from rich.console import Console

from recbole_dgrm.cli.arguments import make_parser


def run(arguments: list[str], console: Console) -> int:
    """Tables and figures of the runs in a folder."""
    parser = make_parser("tables and figures of the runs below a folder", "%(prog)s report FOLDER [options]", "")
    parser.add_argument("folder", type=Path, help="any folder of runs, for example runs or runs/smoke")
    parser.add_argument("--baseline", help="label that the others are tested against (default: the plan's)")
    parser.add_argument("--output_dir", type=Path, help="where the report is written (default: the folder)")
    given = parser.parse_args(arguments)
    from recbole_dgrm.reports.benchmark_report import write_report
    from recbole_dgrm.system.files import check_writable

    if given.output_dir:
        check_writable(given.output_dir)
    written = write_report(given.folder, given.output_dir or given.folder, given.baseline)
    console.print(f"report: {written}")
    return 0
