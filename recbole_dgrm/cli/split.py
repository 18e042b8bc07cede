"""``recbole-dgrm split``: a split as plain files, for models of other libraries."""

from pathlib import Path

from rich.console import Console

from recbole_dgrm.cli.arguments import config_paths, key_values, make_parser
from recbole_dgrm.options import option

EPILOG = """\
Writes train.csv, valid.csv and test.csv (user, item, rating and, where the data has it, timestamp) and split.json.
Learn from train.csv, select on valid.csv, predict each row of test.csv; then: recbole-dgrm compare.
Any config key that is not of a model may follow as --key=value.

examples:
  %(prog)s split --dataset=ml-100k --output=split
  %(prog)s split --dataset=ml-1m --data_path=data --protocol=table3 --seed=2021 --output=split-2021
"""


def run(arguments: list[str], console: Console) -> int:
    """Write the parts of a split."""
    usage = "%(prog)s split --dataset=D --output=FOLDER [--any_config_key=value ...]"
    parser = make_parser("write the parts of a split as CSV, for models of other libraries", usage, EPILOG)
    parser.add_argument("--dataset", help="ml-100k comes with RecBole; others lie in <data_path>/<dataset>/")
    parser.add_argument("--output", type=Path, required=True, help="a new folder")
    parser.add_argument("--protocol", help="rated (default) | table3 | eq23: how models are compared")
    parser.add_argument("--seed", help="of the split (default 2020)")
    parser.add_argument("--data_path", help="folder that holds <dataset>/ (default dataset)")
    files_help = "a YAML file of keys, or several; later files win"
    parser.add_argument("--config_files", action="append", default=[], metavar="YAML", help=files_help)
    named, others = parser.parse_known_args(arguments)
    given = {key: value for key, value in vars(named).items() if value is not None}
    folder, files = given.pop("output"), list(config_paths(given.pop("config_files")))
    keys = {**given, **key_values(others, parser)}
    if "model" in keys:
        parser.error(f"--model={keys['model']}: a split has no model; leave it out")
    from recbole_dgrm.config.layers import load_config
    from recbole_dgrm.config.values import parse_line
    from recbole_dgrm.runs.split_folder import BASIS, write_split

    about = write_split(load_config(files, command_line={**parse_line(keys), "model": BASIS}), folder)
    sizes = ", ".join(f"{about[f'n_{part}']:,} to {verb}" for part, verb in VERBS.items())
    console.print(f"{folder}: {sizes}; fingerprint {about['fingerprint']}; {about['selects']} selects on valid.csv")
    console.print("predict each row of test.csv into a file with the columns user, item and prediction, then")
    console.print(f"  recbole-dgrm compare {option('split', folder)} predictions.csv")
    return 0


VERBS = {"train": "learn from", "valid": "select on", "test": "predict"}
