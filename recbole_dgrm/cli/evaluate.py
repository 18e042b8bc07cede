"""``recbole-dgrm evaluate``: the score of a finished run, again or by other rules."""

from pathlib import Path

from rich.console import Console

from recbole_dgrm.cli.arguments import add_run, make_parser, places


def run(arguments: list[str], console: Console) -> int:
    """Score a finished run again."""
    parser = make_parser("score a finished run again", "%(prog)s evaluate --run=RUN [options]", "")
    add_run(parser)
    parser.add_argument("--protocol", help="rated | table3 | eq23 for a run of one of them (default: the run's own)")
    parser.add_argument("--part", default="test", choices=("test", "valid"), help="valid needs a run without refit")
    parser.add_argument("--output", type=Path, metavar="JSON", help="write the numbers, too (default: print only)")
    given = parser.parse_args(arguments)
    if given.output and not given.output.parent.is_dir():
        parser.error(f"--output={given.output}: there is no folder {given.output.parent}")
    from recbole_dgrm.reports.run_table import explanation, run_table
    from recbole_dgrm.runs.export import write_scores
    from recbole_dgrm.runs.trained_run import load_run

    saved = load_run(given.run, **places(given))
    found = saved.evaluate(given.protocol, given.part)
    shown = saved.record | found
    console.print(run_table(shown, given.part))
    console.print(explanation(shown, given.part))
    if given.output:
        write_scores(given.output, given.run, given.part, found)
    return 0
