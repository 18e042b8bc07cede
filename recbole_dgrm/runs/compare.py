"""Predictions of any library, judged as our own runs are: each becomes a run directory that a report reads."""

import hashlib
import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from narwhals.stable.v2.typing import IntoFrame

from recbole_dgrm.data import loaders
from recbole_dgrm.data.atomic_files import source_hash
from recbole_dgrm.data.ratings import PAIR, Ratings, read_ratings
from recbole_dgrm.data.splits import Splits
from recbole_dgrm.errors import DataError, OptionError
from recbole_dgrm.evaluation import collector, references
from recbole_dgrm.evaluation.collector import Evaluator, RatedPredictions
from recbole_dgrm.options import check_known, check_name
from recbole_dgrm.records import JUDGED, PER_USER, RECORD, RunRecord, find_runs, new_record, read_run, write_vectors
from recbole_dgrm.reports.benchmark_report import Report, write_report
from recbole_dgrm.reports.statistics import read_plan
from recbole_dgrm.runs.split_folder import judged_keys, read_split
from recbole_dgrm.system.environment import own_version
from recbole_dgrm.system.files import check_writable, write_folder, write_json, writing
from recbole_dgrm.system.turns import turn

LOG = logging.getLogger(__name__)
COMPARED = "compared"  # folder within that of a split
LONGEST_S = 1e9


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
    """Judge predictions for the test part of a split as our own models are judged, and write the report.

    Every row of predictions becomes a run directory in ``output``. Rows of other splits, and runs of our own on the
    same splits, may lie there too: the report is about all of them. A row that is there already is replaced.

    Args:
        split: a folder that ``split`` has made.
        predictions: label to a file, or a DataFrame, with a user, item and prediction for every row of ``test.csv``.
        output: where rows and report are written; ``compared`` in the folder of the split by default.
        baseline: label that the others are tested against; by default that of a plan in ``output``, or the first.
        seconds: label to how long the training took.
        data_path: where the data is, if it has moved.

    Raises:
        OptionError: a label or a number of seconds cannot be used.
        DataError: predictions are missing, or are for other pairs, or the data has changed.
    """
    split, seconds = Path(split), dict(seconds or {})
    output = split / COMPARED if output is None else Path(output)
    _check(predictions, seconds)
    check_writable(output, "output")
    called = "the DataFrame {}".format
    tables = {label: read_ratings(given, None, "prediction", called(label)) for label, given in predictions.items()}
    config, splits = read_split(split, **({} if data_path is None else {"data_path": str(data_path)}))
    _check_folder(output, config, splits)
    test = _Test.of(config, splits)
    scores = {label: test.scores(read) for label, read in tables.items()}
    for label, score in scores.items():
        record, vectors = test.judged(label, score, seconds.get(label))
        record.environment["predictions"] = Path(tables[label].source).name
        _write(output / _name(record), record, vectors)
    if baseline is None and not read_plan(output).get("baseline"):
        baseline = next(iter(predictions))
    return Report(write_report(output, output, baseline))


def _check(predictions: Mapping[str, Any], seconds: Mapping[str, float]) -> None:
    if not predictions:
        raise OptionError("there are no predictions to judge; name a file of them")
    for label in predictions:
        check_name("label", label)
    check_known("seconds: there are no predictions called", seconds, predictions)
    for label, value in seconds.items():
        if not 0 <= value <= LONGEST_S:
            raise OptionError(f"seconds={label}:{value} must be from 0 to {LONGEST_S:g}")


def _check_folder(output: Path, config, splits: Splits) -> None:
    """Check that no run in ``output`` saw another split of the same data set, protocol and seed."""
    own = {key: config.given[key] for key in ("dataset", "protocol", "seed")}
    for run in find_runs(output) if output.is_dir() else []:
        seen = run.record["data"].get("fingerprint", splits.fingerprint())
        if all(run.record[key] == value for key, value in own.items()) and seen != splits.fingerprint():
            raise DataError(
                f"{run.path} saw another split ({seen}) than this one ({splits.fingerprint()}) of "
                f"{config['dataset']}, seed {config.run.seed}; choose another --output"
            )


@dataclass(frozen=True)
class _Test:
    """The test part of a split, in the order in which our own models score it, and what stands beside every result."""

    config: Any
    splits: Splits
    pairs: tuple[np.ndarray, ...]  # user, item, rank of the item, rating
    references: references.References
    about: dict[str, Any]

    @classmethod
    def of(cls, config, splits: Splits) -> "_Test":
        batches = [batch for batch, *_ in loaders.eval_loader(config, splits, "test")]
        fields = (config["USER_ID_FIELD"], config["ITEM_ID_FIELD"], loaders.ITEM_RANK, config["RATING_FIELD"])
        pairs = tuple(torch.cat([batch[field] for batch in batches]).numpy() for field in fields)
        about = {"source": source_hash(config), **splits.described()}
        return cls(config, splits, pairs, references.measure(config, splits), about)

    def scores(self, read: Ratings) -> np.ndarray:
        """The prediction ``(n,)`` of each pair, in the precision in which our models are judged.

        Raises:
            DataError: a pair has no prediction, or several, or one is for another pair.
        """
        (user, item, *_), part = self.pairs, self.splits.test
        names = [part.field2id_token[field] for field in (part.uid_field, part.iid_field)]
        row, column = (
            pd.Index(ids[1:]).get_indexer(read.table[field]) + 1 for ids, field in zip(names, PAIR, strict=True)
        )
        given, wanted = pd.Index(row * part.item_num + column), pd.Index(user * part.item_num + item)
        _refuse(read, ~given.isin(wanted) | (row == 0) | (column == 0), "are not in the test part")
        _refuse(read, given.duplicated(), "are there twice")
        place = given.get_indexer(wanted)
        if (missing := place < 0).any():
            first = int(np.argmax(missing))
            pair = f"user {str(names[0][user[first]])!r} and item {str(names[1][item[first]])!r}"
            raise DataError(
                f"{read.source} has no prediction for {missing.sum():,} of {len(wanted):,} test pairs, "
                f"the first {pair}; every row of test.csv needs one"
            )
        return read.table["prediction"].to_numpy(np.float32)[place]

    def judged(self, label: str, score: np.ndarray, seconds: float | None) -> tuple[RunRecord, dict[str, np.ndarray]]:
        """The record of these predictions, and the metrics of each user."""
        user, _, rank, rating = self.pairs
        rule = collector.rated_protocol(self.config, self.splits.scale)
        evaluator = Evaluator(self.config)
        record = new_record({**judged_keys(self.config), "model": JUDGED}, label)
        record.hash = hashlib.sha256(score.tobytes()).hexdigest()[:16]
        record.test = references.evaluated(
            evaluator, RatedPredictions(user, rank, score, rating, rule, self.splits.scale)
        )
        record.data, record.reference = self.about, self.references.rows
        record.resolution = {"test": self.references.resolution}
        record.skill = references.skill(record.test, record.reference)
        record.timing = {} if seconds is None else {"train_s": float(seconds)}
        record.environment = {**own_version(), "numpy": np.__version__}
        record.status = "finished"
        users = np.unique(user)
        tokens = self.splits.test.id2token(self.splits.test.uid_field, users)
        return record, {"user": np.asarray(tokens, dtype=str), **evaluator.per_user, **self.references.vectors(users)}


def _refuse(read: Ratings, bad: np.ndarray, said: str) -> None:
    if bad.any():
        first = int(np.argmax(bad))
        (user, item), places = (read.table[field].iloc[first][:80] for field in PAIR), read.table.index
        raise DataError(
            f"{read.source}: {bad.sum():,} pairs {said}, the first in {places.name} {places[first]}: user {user!r}, "
            f"item {item!r}; one row for each row of test.csv is expected, and no other"
        )


def _name(record: RunRecord) -> str:
    """The directory of a row: the same for the same label and split."""
    label = re.sub(r"[^\w.+-]+", "_", record.label)
    marked = label if label == record.label else f"{label}-{hashlib.sha256(record.label.encode()).hexdigest()[:6]}"
    return f"{marked}-{record.dataset}-{record.protocol}-{record.seed}"


def _write(path: Path, record: RunRecord, vectors: Mapping[str, np.ndarray]) -> None:
    """Write the directory of a row, whole or not at all, in place of an older one of the same row."""
    if path.exists():
        if (old := read_run(path)) is None or old.record["model"] != JUDGED:
            raise DataError(f"{path} is there and holds no predictions; choose another --output or move it away")
        LOG.info("%s is judged again", path)
        with writing(path):
            shutil.rmtree(path)

    def write(partial: Path) -> None:
        write_vectors(partial / PER_USER, vectors)
        write_json(partial / RECORD, asdict(record))

    write_folder(path, write)
