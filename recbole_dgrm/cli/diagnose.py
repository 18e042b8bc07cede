"""``recbole-dgrm diagnose``: does a model's training collapse, when, and how does one see it."""

from pathlib import Path

from rich.console import Console

from recbole_dgrm.cli.arguments import key_values, make_parser

EPILOG = """\
Any config key may be set for all models as --key=value. --models takes names, "all" for every model of ours, or rows as
in the plan of a benchmark: --models='[DGRM, {model: CFGAN, label: CFGAN ZR, config: {negatives: ZR}}]'
RecBole's models join by their recommendation lists. Called again, it goes on: what is finished stays.

examples:
  %(prog)s diagnose --models=DGRM,CFGAN --dataset=ml-100k
  %(prog)s diagnose --models=DGRM --dataset=ml-100k --fixed_steps=[5,1]
  %(prog)s diagnose --models=all --dataset=mine --epochs=30 --every=2
"""


def run(arguments: list[str], console: Console) -> int:
    """Watch the training of some models and report on mode collapse."""
    usage = "%(prog)s diagnose --models=M,N --dataset=D [--every=5] [--any_config_key=value ...]"
    parser = make_parser("watch what models predict while they train; report on mode collapse", usage, EPILOG)
    parser.add_argument("--models", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--every", type=int, default=5, help="epochs between looks (default 5)")
    parser.add_argument("--epochs", type=int, default=60, help="of each training, none stops early (default 60)")
    parser.add_argument("--seeds", default="[2020]", help="each is another split and training (default [2020])")
    parser.add_argument("--fixed_steps", default="[]", help="train DGRM with these t only, too (appendix B: [5,1])")
    parser.add_argument("--output_dir", type=Path, help="default runs/diagnose/<dataset>")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time (default 1)")
    parser.add_argument(
        "--threads", type=int, help="CPU threads of each run (default: the cores, shared among workers)"
    )
    parser.add_argument("--retry", action="store_true", help="make failed and diverged runs again")
    named, others = parser.parse_known_args(arguments)
    for key in ("every", "epochs", "workers"):
        if getattr(named, key) < 1:
            parser.error(f"--{key}={getattr(named, key)} must be at least 1")
    from recbole_dgrm.benchmarks import watch
    from recbole_dgrm.cli.display import Board, benchmark_summary
    from recbole_dgrm.config.layers import parse_line, parse_value
    from recbole_dgrm.reports.collapse_report import write_diagnosis

    config = parse_line(key_values(others, parser))
    config |= {key: getattr(named, key) for key in ("every", "epochs", "output_dir", "threads")}
    config |= {"seeds": parse_value(named.seeds), "fixed_steps": parse_value(named.fixed_steps) or []}
    made = watch.prepare(parse_value(named.models, "models"), named.dataset, **config)
    with Board(console) as board:
        state = made.run(named.workers, None, named.retry, board.show)
    console.print(benchmark_summary(state))
    found = write_diagnosis(made.folder)
    for name, verdict in found.verdicts.items():
        console.print(f"{name}: {verdict}")
    console.print(f"report: {found.path}")
    return 0 if state.count("finished") == len(made.runs) else 1
