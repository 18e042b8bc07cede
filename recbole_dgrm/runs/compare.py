"""Comparison with models of other libraries: ``split`` exports a split, ``compare`` evaluates predictions for it.

``compare`` evaluates each file of predictions as our own models are evaluated, and writes a run directory for it, which
reports can read.
"""

import hashlib
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from narwhals.stable.v2.typing import IntoFrame
from numpy.typing import NDArray
from pydantic import NonNegativeFloat

from recbole_dgrm import records
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.config.values import read_yaml
from recbole_dgrm.data import dataset
from recbole_dgrm.data.atomic_files import source_hash
from recbole_dgrm.data.convert import run_keys
from recbole_dgrm.data.ratings import PAIR, Ratings, read_ratings
from recbole_dgrm.data.splits import PARTS, Splits, build_splits
from recbole_dgrm.errors import DataError, OptionError
from recbole_dgrm.evaluation import collector, references, selection
from recbole_dgrm.evaluation.collector import Evaluator, RatedPredictions
from recbole_dgrm.models import registry
from recbole_dgrm.options import check, check_known, check_name, option
from recbole_dgrm.reports.benchmark_report import Report, write_report
from recbole_dgrm.reports.statistics import read_plan
from recbole_dgrm.runs.export import check_new
from recbole_dgrm.runs.run_files import add_references
from recbole_dgrm.start import __version__
from recbole_dgrm.system.environment import own_version
from recbole_dgrm.system.files import check_writable, write_folder, write_json, writing
from recbole_dgrm.system.turns import turn

SPLIT = "split.json"
BASIS = "MF"  # a config must name a model; the split is the same for all models
COMPARED = "compared"  # folder in the folder of a split


@turn()
def split(
    data: str | pd.DataFrame, folder: Path | str, *, config_files: Iterable[Path | str] | Path | str = (), **keys: Any
) -> Path:
    """Write a split into a new folder: ``train.csv``, ``valid.csv``, ``test.csv``, ``split.json`` and ``config.yaml``.

    ``split.json`` describes the split and names the metric for early stopping and tuning. ``config.yaml`` has the keys
    of the split, so that a model of ours can be trained on the same split with ``config_files``.

    Args:
        data: the name of a data set, or a DataFrame of ratings; as in ``train``.
        folder: the folder to make; it must not exist.
        keys: any config key except ``model``, such as ``seed=2021``.

    Returns:
        The folder.

    Raises:
        OptionError: the folder exists, or the protocol ranks all items.
        DataError: the data cannot be used.
    """
    write_split(split_config(config_files, run_keys(keys.get("model", BASIS), data, keys)), Path(folder))
    return Path(folder)


def split_config(config_files: Iterable[Path | str] | Path | str, keys: dict[str, Any]) -> Any:
    """The config of a split; ``keys`` are config keys of the command line or of a call."""
    if (model := keys.get("model", BASIS)) != BASIS:
        raise OptionError(f"model={model}: a split has no model; leave the key out")
    return load_config(config_files, command_line={**keys, "model": BASIS})


def write_split(config, folder: Path) -> dict[str, Any]:
    """Write the split of ``config``, whole or not at all; returns the content of ``split.json``.

    The columns are ``user``, ``item``, ``rating`` and, if the data has times, ``timestamp``; ids are those of the data.
    """
    _check_labeled(config)
    check_new(folder)
    whole = dataset.RatingDataset(config)
    times = None  # the exact times by user-item pair; the parts of a split have them in float32
    if whole.time_field in whole.inter_feat:
        times = whole.inter_feat.set_index([whole.uid_field, whole.iid_field])[whole.time_field]
    splits = build_splits(config, dataset=whole)
    selects = selection.with_chosen_metric(config, splits)[0]["valid_metric"]
    about = {"recbole_dgrm": __version__, **splits.described(), "selects": selects}

    def write(partial: Path) -> None:
        for part in PARTS:
            _table(splits, part, times).to_csv(partial / f"{part}.csv", index=False)
        records.write_config(partial, keys_without_model(config))
        write_json(partial / SPLIT, about)

    write_folder(folder, write)
    return about


def read_split(folder: Path, **where: Any) -> tuple[Any, Splits]:
    """The config of a split, and the split, made again from the data; ``where`` is its ``data_path``."""
    path = folder / SPLIT
    if not path.is_file():
        command = f"recbole-dgrm split --dataset=D {option('output', folder)}"
        raise DataError(f"{folder} has no {SPLIT}, so it is not the folder of a split; make one with {command}")
    about = records.read_json(path, "the description of a split", "make the split again", ["fingerprint"])
    config = load_config(folder / records.CONFIG, {"model": BASIS, **where})
    _check_labeled(config)
    splits = build_splits(config)
    if (fingerprint := splits.fingerprint()) != about["fingerprint"]:
        raise DataError(
            f"the data of {config['dataset']} has changed: its split ({fingerprint}) is no longer that in {folder} "
            f"({about['fingerprint']}); put the old data back (--data_path=DIR) or make the split again"
        )
    return config, splits


def keys_without_model(config) -> dict[str, Any]:
    """The keys of a config that are not a model's own."""
    own = {"model", *read_yaml(registry.defaults_file(BASIS))}
    return {key: value for key, value in config.given.items() if key not in own}


def _check_labeled(config) -> None:
    if config["eval_args"]["mode"]["test"] != "labeled":
        raise OptionError(
            f"protocol={config.run.protocol} ranks all items that a user has not seen, which needs more than "
            "predictions for the test pairs; use rated, table3 or eq23"
        )


def _table(splits: Splits, part: str, times: pd.Series | None) -> pd.DataFrame:
    user, item, _ = splits.triples(part)
    of_part = getattr(splits, part)
    names = [of_part.field2id_token[field] for field in (of_part.uid_field, of_part.iid_field)]
    rating = of_part.inter_feat[of_part.config["RATING_FIELD"]].numpy()  # float32, so that 3.7 is written as 3.7
    table = pd.DataFrame({"user": names[0][user], "item": names[1][item], "rating": rating})
    if times is not None:
        time = times.loc[pd.MultiIndex.from_arrays([user, item])].to_numpy()
        table["timestamp"] = time.astype("int64") if (time % 1 == 0).all() else time
    return table


@turn()
def compare(
    split: Path | str,
    predictions: Mapping[str, Path | str | IntoFrame],
    *,
    output: Path | str | None = None,
    baseline: str | None = None,
    seconds: Mapping[str, float] | None = None,
    data_path: Path | str | None = None,
) -> Report:
    """Evaluate predictions for the test part of a split as our own models are evaluated, and write the report.

    Each entry of ``predictions`` becomes a run directory in ``output``, which is a row of the report. The folder may
    also have rows of other splits and runs of our own models on the same splits; the report has all of them. An
    existing row with the same label and split is replaced.

    Args:
        split: a folder that ``split`` has made.
        predictions: label to a file or a DataFrame, with a user, item and prediction for every row of ``test.csv``.
        output: folder for the rows and the report; ``compared`` in the folder of the split by default.
        baseline: label of the row that the others are tested against; by default that of a plan in ``output``, or the
            first one.
        seconds: label to the training time in seconds.
        data_path: the folder of the data, if it has moved.

    Raises:
        OptionError: a label or a number of seconds cannot be used.
        DataError: predictions are missing, or are for other pairs, or the data has changed.
    """
    split, seconds = Path(split), dict(seconds or {})
    output = split / COMPARED if output is None else Path(output)
    if not predictions:
        raise OptionError("there are no predictions to evaluate; name a file of them")
    check_known("seconds: there are no predictions called", seconds, predictions)
    for label in predictions:
        check_name("label", label)
        check(f"seconds of {label}", seconds.get(label, 0), NonNegativeFloat)
    check_writable(output, "output")
    name = "the DataFrame {}".format
    tables = {label: read_ratings(each, None, "prediction", name(label)) for label, each in predictions.items()}
    config, splits = read_split(split, **({} if data_path is None else {"data_path": str(data_path)}))
    _check_folder(output, config, splits)
    test = _Test(config, splits)
    scores = {label: test.scores(table) for label, table in tables.items()}
    for label, score in scores.items():
        record, vectors = test.evaluated(label, score)
        record.timing = {"train_s": float(seconds[label])} if label in seconds else {}
        record.environment["predictions"] = Path(tables[label].source).name
        _write(output, record, vectors)
    if baseline is None and not read_plan(output).get("baseline"):
        baseline = next(iter(predictions))
    return Report(write_report(output, output, baseline))


def _check_folder(output: Path, config, splits: Splits) -> None:
    """Check that no run in ``output`` used another split of the same data set, protocol and seed."""
    own = {key: config.given[key] for key in ("dataset", "protocol", "seed")}
    for run in records.find_runs(output) if output.is_dir() else []:
        other = run.record["data"].get("fingerprint", splits.fingerprint())
        if all(run.record[key] == value for key, value in own.items()) and other != splits.fingerprint():
            raise DataError(
                f"{run.path} used another split ({other}) than this one ({splits.fingerprint()}) of "
                f"{config['dataset']}, seed {config.run.seed}; choose another --output"
            )


class _Test:
    """The test part of a split, with its pairs in the order in which our own models score them."""

    def __init__(self, config, splits: Splits):
        self.config, self.splits = config, splits
        self.pairs = references.rated_pairs(config, splits, "test")
        self.references = references.measure(config, splits)
        self.about = {"source": source_hash(config), **splits.described()}

    def scores(self, read: Ratings) -> NDArray[np.float32]:
        """The prediction ``(n,)`` of each pair, in float32 like the scores of our models."""
        (user, item, *_), part = self.pairs, self.splits.test
        wanted = pd.MultiIndex.from_arrays([part.id2token(part.uid_field, user), part.id2token(part.iid_field, item)])
        given = pd.MultiIndex.from_arrays([read.table[field].astype(object) for field in PAIR])
        _refuse(read, ~given.isin(wanted), "are not in the test part")
        _refuse(read, given.duplicated(), "occur twice")
        place = given.get_indexer(wanted)
        if (missing := place < 0).any():
            first_user, first_item = map(str, wanted[np.argmax(missing)])
            raise DataError(
                f"{read.source} has no prediction for {missing.sum():,} of {len(wanted):,} test pairs, the first user "
                f"{first_user!r} and item {first_item!r}; every row of test.csv needs one"
            )
        return read.table["prediction"].to_numpy(np.float32)[place]

    def evaluated(self, label: str, score: NDArray[np.float32]) -> tuple[records.RunRecord, dict[str, NDArray]]:
        """The record of predictions ``score`` ``(n,)``, and the metrics of each user."""
        user, _, rank, rating = self.pairs
        rule, scale = collector.rated_protocol(self.config, self.splits.scale), self.splits.scale
        evaluator, users = Evaluator(self.config), np.unique(user)
        record = records.new_record({**keys_without_model(self.config), "model": records.PREDICTIONS_ONLY}, label)
        record.hash = hashlib.sha256(score.tobytes()).hexdigest()[:16]
        record.test = references.evaluated(evaluator, RatedPredictions(user, rank, score, rating, rule, scale))
        record.unclipped = evaluator.unclipped
        record.data, record.environment = self.about, {**own_version(), "numpy": np.__version__}
        vectors = evaluator.per_user | add_references(record, self.references, users)
        record.status = "finished"
        tokens = self.splits.test.id2token(self.splits.test.uid_field, users)
        return record, {"user": np.asarray(tokens, dtype=str), **vectors}


def _refuse(read: Ratings, wrong: NDArray[np.bool_], problem: str) -> None:
    if wrong.any():
        first = int(np.argmax(wrong))
        (user, item), places = (read.table[field].iloc[first][:80] for field in PAIR), read.table.index
        raise DataError(
            f"{read.source}: {wrong.sum():,} pairs {problem}, the first in {places.name} {places[first]}: user "
            f"{user!r}, item {item!r}; one row for each row of test.csv is expected, and no other"
        )


def _write(output: Path, record: records.RunRecord, vectors: Mapping[str, NDArray]) -> None:
    """Write the directory of a row, whole or not at all; it replaces an older one of the same label and split."""
    label = re.sub(r"[^\w.+-]+", "_", record.label)
    if label != record.label:
        label += f"-{hashlib.sha256(record.label.encode()).hexdigest()[:6]}"
    path = output / f"{label}-{record.dataset}-{record.protocol}-{record.seed}"
    if path.exists():
        if (old := records.read_run(path)) is None or old.record["model"] != records.PREDICTIONS_ONLY:
            raise DataError(f"{path} exists and is not a row of predictions; choose another --output or move it away")
        with writing(path):
            shutil.rmtree(path)

    def write(partial: Path) -> None:
        records.write_vectors(partial / records.PER_USER, vectors)
        write_json(partial / records.RECORD, asdict(record))

    write_folder(path, write)
