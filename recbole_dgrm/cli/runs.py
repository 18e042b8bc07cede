"""Commands that make a run, or use a finished one."""

import csv
from argparse import Namespace
from collections.abc import Collection
from pathlib import Path
from time import monotonic
from typing import Any

from rich.console import Console

from recbole_dgrm.cli.command import argument, command, config_paths, number
from recbole_dgrm.cli.data import READING, reading_of
from recbole_dgrm.errors import OptionError

CONFIG_FILES = argument(
    "--config_files",
    action="append",
    default=[],
    metavar="YAML",
    help='a YAML file of keys, or several: "a.yaml b.yaml"; can be repeated, later files override earlier ones',
)
RUN = (
    argument("--run", type=Path, required=True, help="directory of a finished run"),
    argument("--data_path", help="folder of <dataset>/, if the data has moved"),
    argument("--device", help="cpu | cuda | auto (default: the run's)"),
)


def keys_of(given: Namespace, *names: str) -> dict[str, Any]:
    """Those of the options ``names`` that were given."""
    return {name: value for name in names if (value := getattr(given, name)) is not None}


def _loaded(given: Namespace) -> Any:
    from recbole_dgrm.runs.trained_run import load_run

    return load_run(given.run, **keys_of(given, "data_path", "device"))


@command(
    "--model=M --dataset=D [--any_config_key=value ...]",
    CONFIG_FILES,
    argument("--resume", type=Path, metavar="RUN", help="continue a stopped run from its directory; no other option"),
    takes_keys=True,
)
def train(given: Namespace, console: Console) -> None:
    """Train, validate, test and save one model.

    keys that most runs need:
      --model=M         DGRM, DGRMPlus, a general recommender of RecBole by its name, or mypackage.linear:Linear
      --dataset=D       ml-100k comes with RecBole; others are in <data_path>/<dataset>/<dataset>.inter
      --data_path=DIR   folder of <dataset>/ (default dataset)
      --protocol=P      rated (default) | temporal | full | table3 | eq23: how models are compared
      --seed=N          of the split, of training and of prediction noise (default 2020)
      --output_dir=DIR  folder in which every run makes its own directory (default runs)
      --device=D        cpu | cuda | auto (default)

    Any key of properties/*.yaml, of the model's YAML file or of RecBole may follow as --key=value. Values are read as
    YAML: --epochs=50 --topk=[5,10] --generator_hidden=[256,256] --fixed_step=~
    Names, paths and other texts are not changed: --dataset=007 --user_inter_num_interval=[5,inf)

    examples:
      recbole-dgrm --model=DGRM --dataset=ml-100k
      recbole-dgrm --model=DGRMPlus --dataset=ml-1m --data_path=data --seed=2021
      recbole-dgrm --resume=runs/DGRM-ml-100k-rated-2020-...
    """
    files = config_paths(given.config_files)
    if given.resume and (given.keys or files):
        raise OptionError("--resume reads all keys from the run directory; leave the other options out")
    from dataclasses import asdict

    from recbole_dgrm.config.layers import load_config
    from recbole_dgrm.evaluation.collapse import of_record
    from recbole_dgrm.reports.run_table import explanation, run_table
    from recbole_dgrm.runs import experiment
    from recbole_dgrm.system import distributed
    from recbole_dgrm.system.files import plain

    if given.resume:
        made, run_dir = experiment.resume(given.resume, show_progress=True)
    else:
        config = load_config(files, command_line=given.keys)
        made, run_dir = experiment.run_one(config, show_progress=True)
    if not distributed.is_main_process():
        return
    record = plain(asdict(made))
    for each in ("", run_table(record), explanation(record)):
        console.print(each)
    if verdict := of_record(record):
        console.print(f"collapse: {verdict.line}")
    console.print(f"files of this run: {run_dir}")


@command(
    "recommend --run=RUN --output=FILE [options]",
    *RUN,
    argument("--output", type=Path, required=True, help="a .csv, .parquet or .jsonl; an existing file is replaced"),
    argument("--users", default="all", help='all (default), a,b,"c,d", or a file with an id per line'),
    argument("--topk", type=number, default=10, help="items per user (default 10)"),
    argument(
        "--exclude",
        default="seen",
        choices=("seen", "none"),
        help="seen (default): items that the user has rated in any part of the data, including the test part | none",
    ),
    argument("--deviations", action="store_true", help="add the standard deviation of each rating (BMF, DGRM, ...)"),
    argument("--ratings", type=Path, metavar="FILE", help="recommend to the users of these ratings, perhaps new ones"),
    *READING,
)
def recommend(given: Namespace, console: Console) -> None:
    """Recommend items to users.

    The columns are user, rank, item, score and, if the model predicts ratings, predicted_rating: the score clipped to
    the rating scale. --ratings is read as convert has read the data set, unless there are options such as --sep and
    --user. --deviations adds the column deviation: the standard deviation of each predicted rating. Items with equal
    scores are in the order of their ids.

    examples:
      recbole-dgrm recommend --run=runs/DGRMPlus-ml-100k-... --output=lists.csv
      recbole-dgrm recommend --run=runs/DGRMPlus-ml-100k-... --users=196,186 --topk=5 --output=lists.jsonl
      recbole-dgrm recommend --run=runs/DGRMPlus-ml-100k-... --ratings=new.csv --output=new.parquet
    """
    from recbole_dgrm.cli.display import duration, frame_table
    from recbole_dgrm.data.convert import described
    from recbole_dgrm.runs.export import check_table, write_table

    check_table(given.output)
    source = run = _loaded(given)
    if given.ratings:  # by default with the layout of the data set's source files
        made = described(Path(run.config["data_path"]) / f"{run.config['dataset']}.yaml")
        source = run.with_ratings(given.ratings, reading_of(given, made))
    users = list(source.users) if given.users == "all" else _users(given.users, set(source.users))
    start = monotonic()
    lists = source.recommend(users, given.topk, given.exclude, given.deviations)
    write_table(given.output, lists)
    first = lists[lists["user"] == users[0]].drop(columns="user")
    console.print(frame_table(first, f"user {users[0]}"))
    what = f"{len(set(users)):,} users, at most {given.topk} items each, in {duration(monotonic() - start)}"
    console.print(f"{what}: {given.output}\n{run.about(lists)}")


def _users(text: str, known: Collection[str]) -> list[str]:
    """External ids from a file (one per line) or the command line; blanks around unknown ids are removed."""
    path = Path(text)
    words = path.read_text(encoding="utf-8-sig").split("\n") if path.is_file() else next(csv.reader([text]))
    return [word if word in known else word.strip() for word in words if word.strip()]


@command(
    "evaluate --run=RUN [options]",
    *RUN,
    argument("--protocol", help="rated | table3 | eq23, for a run with one of them (default: the run's own)"),
)
def evaluate(given: Namespace, console: Console) -> None:
    """Evaluate a finished run on the test part again, under its own or another protocol."""
    from recbole_dgrm.reports.run_table import explanation, run_table

    run = _loaded(given)
    record = run.record | run.evaluate(given.protocol)
    for each in (run_table(record), explanation(record)):
        console.print(each)


@command(
    "export --run=RUN --output=FOLDER [options]",
    *RUN,
    argument("--output", type=Path, required=True, help="a new folder"),
)
def export(given: Namespace, console: Console) -> None:
    """Export the weights of a finished run with the ids of their rows."""
    from recbole_dgrm.runs.export import CONTENTS, check_new

    check_new(given.output)
    console.print(f"{_loaded(given).export(given.output)} and {CONTENTS} are written")
