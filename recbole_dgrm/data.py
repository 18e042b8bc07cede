"""Ratings in: input checks, and one split for every model.

RecBole reads and filters the atomic files and cuts the split; this module refuses what RecBole would
quietly repair and makes the split depend on the seed alone.
"""

import hashlib
import logging
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from recbole.data.dataset import Dataset
from recbole.data.interaction import cat_interactions

from recbole_dgrm.columns import check_columns
from recbole_dgrm.errors import DataError
from recbole_dgrm.options import RATINGS

LOG = logging.getLogger(__name__)


class RatingDataset(Dataset):
    """RecBole's Dataset with the input checked and the parts of a split sized as ``split_rounding`` says.

    Attributes:
        notes: what was changed or noticed in the input, in sentences.
    """

    def _get_preset(self) -> None:
        super()._get_preset()
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """Keep a sentence about the input and show it."""
        self.notes.append(text)
        LOG.warning("%s: %s", self.dataset_name, text)

    def _download(self) -> None:
        check_source(self.config)  # says what is missing; RecBole would fetch from addresses that are gone

    def _load_inter_feat(self, token: str, dataset_path: str) -> None:
        check_source(self.config)
        super()._load_inter_feat(token, dataset_path)
        if len(self.inter_feat) == 0:
            raise DataError(f"{source_files(self.config)[0]} holds no ratings")
        self._check_ids()
        if self.config["feedback"] == "rating":
            self._check_ratings(self.inter_feat[self.config["RATING_FIELD"]])
        self._drop_duplicates()

    def _load_feat(self, filepath, source):
        try:
            table = super()._load_feat(filepath, source)
        except Exception as error:  # whatever pandas stumbles over, it is the file that cannot be read
            raise DataError(f"{filepath}: {_first_bad_row(filepath, self.config) or error}") from error
        if table is not None and not isinstance(table.index, pd.RangeIndex):  # pandas would shift the columns
            raise DataError(f"{filepath}: its rows have more fields than its first line names")
        return table

    def _check_ids(self) -> None:
        for name in (self.uid_field, self.iid_field):
            missing = np.flatnonzero(self.inter_feat[name].isna())
            if len(missing):
                raise DataError(f"{len(missing)} rows have no {name}, the first in line {missing[0] + 2}")

    def _check_ratings(self, rating: pd.Series) -> None:
        bad = np.flatnonzero(~np.isfinite(rating))
        if len(bad):
            raise DataError(
                f"{len(bad)} ratings are missing or infinite, the first in line {bad[0] + 2}; remove these rows"
            )
        huge = np.flatnonzero((rating < RATINGS.low) | (rating > RATINGS.high))
        if len(huge):
            raise DataError(
                f"{len(huge)} ratings are out of range, the first in line {huge[0] + 2}: {rating.iloc[huge[0]]:g}; "
                f"allowed: {RATINGS}"
            )
        if self.config["rating_scale"] is None:
            self.config["rating_scale"] = [float(rating.min()), float(rating.max())]
            self.note(f"rating_scale is taken from the data: {self.config['rating_scale']}")
        low, high = self.config["rating_scale"]
        outside = np.flatnonzero((rating < low) | (rating > high))
        if len(outside):
            raise DataError(
                f"{len(outside)} ratings lie outside rating_scale=[{low:g}, {high:g}], the first in line "
                f"{outside[0] + 2}: {rating.iloc[outside[0]]:g}; correct the data or the scale"
            )
        if low == high:
            raise DataError(
                f"all ratings are {low:g}: there is nothing to learn; for implicit data use --protocol=full"
            )
        if self.config["rating_step"] is None:
            self.config["rating_step"] = float(np.diff(np.unique(rating)).min())
            self.note(f"rating_step is taken from the data: {self.config['rating_step']:g}")
        if self.config["rating_threshold"] is None:
            self.config["rating_threshold"] = (low + high) / 2

    def _drop_duplicates(self) -> None:
        repeated = self.inter_feat.duplicated([self.uid_field, self.iid_field], keep="first").to_numpy()
        if not repeated.any():
            return
        self.note(f"{repeated.sum()} rows repeat a user-item pair and are dropped; the first row of a pair is kept")
        if self.benchmark_filename_list is not None:
            ends = np.cumsum(self.file_size_list)
            kept = np.concatenate([[0], np.cumsum(~repeated)])
            self.file_size_list = np.diff(kept[[0, *ends]]).tolist()
        self.inter_feat = self.inter_feat[~repeated].reset_index(drop=True)

    def build(self, with_test: bool = True) -> list[Dataset]:
        """Train, validation and, if asked, test part. Files without validation have it cut from the first."""
        wanted = 3 if with_test else 2
        parts = super().build()
        if self.benchmark_filename_list is None or len(parts) == wanted:
            return parts[:wanted]
        if len(parts) != wanted - 1:
            raise DataError(f"benchmark_filename={self.benchmark_filename_list} must name [train, test] or three parts")
        first, *test = parts
        first.shuffle()
        ratios = self.config["eval_args"]["split"]["RS"]
        return [*first.split_by_ratio([ratios[0], ratios[1]], group_by=self.uid_field), *test]

    def _calcu_split_ids(self, tot: int, ratios: list[float]) -> list[int]:
        if self.config["split_rounding"] == "down":
            return super()._calcu_split_ids(tot, ratios)
        ends = [tot]
        for ratio in reversed(ratios[1:]):  # the last part first; one rating stays for training
            ends.append(max(ends[-1] - ceil(ratio * tot - 1e-9), min(1, tot)))
        return ends[:0:-1]


def source_files(config) -> list[Path]:
    """The ``.inter`` files of the data set of ``config``."""
    folder, name, parts = Path(config["data_path"]), config["dataset"], config["benchmark_filename"]
    names = [f"{name}.inter"] if parts is None else [f"{name}.{part}.inter" for part in parts]
    return [folder / file for file in names]


def source_hash(config) -> str:
    """Hash of the bytes of the source files, which with the config determine the split; cheap beside building it."""
    digest = hashlib.sha256()
    for path in source_files(config):
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def check_source(config) -> None:
    """Whether the files are there and name the columns that are needed.

    Raises:
        DataError: what is missing and where it belongs.
    """
    folder, name = Path(config["data_path"]), config["dataset"]
    if not folder.is_dir():
        raise DataError(
            f"there is no folder {folder}; put the ratings into {folder}/{name}.inter (recbole-dgrm convert makes it "
            "from a table, recbole-dgrm download fetches well-known ones) or say where they are: "
            f"--data_path=DIR with DIR/{name}/{name}.inter"
        )
    for path in source_files(config):
        check_columns(config, _check_header(path, config))


def _check_header(path: Path, config) -> dict[str, str]:
    """Name to type of the columns of a file."""
    if not path.is_file():
        raise DataError(f"{path} does not exist; RecBole's atomic format wants the ratings there")
    try:
        with open(path, encoding="utf-8") as lines:
            header = lines.readline().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is no text in UTF-8: {error}; save it in UTF-8") from None
    separator = config["field_separator"]
    columns = dict(name.rpartition(":")[::2] for name in header.split(separator) if ":" in name)
    needed = {config["USER_ID_FIELD"]: "token", config["ITEM_ID_FIELD"]: "token"}
    if config["feedback"] == "rating":
        needed[config["RATING_FIELD"]] = "float"
    for name, kind in needed.items():
        if columns.get(name) != kind:
            raise DataError(
                f"{path} has no column {name}:{kind}; its first line is {header!r} and must name columns as "
                f"name:type, separated by {separator!r}; other names are set with USER_ID_FIELD, "
                "ITEM_ID_FIELD, RATING_FIELD"
            )
    return columns


def _first_bad_row(filepath: str, config) -> str | None:
    """Name the first row whose rating is no number."""
    try:
        table = pd.read_csv(filepath, sep=config["field_separator"], dtype=str, keep_default_na=False)
    except Exception:  # the caller has the reason
        return None
    name = f"{config['RATING_FIELD']}:float"
    if name not in table:
        return None
    bad = np.flatnonzero(pd.to_numeric(table[name], errors="coerce").isna() & (table[name] != ""))
    return f"the rating in line {bad[0] + 2} is {table[name].iloc[bad[0]]!r}, not a number" if len(bad) else None


@dataclass
class Splits:
    """The parts of one data set, the same for every model with the same seed.

    Attributes:
        known: training and validation together, for the refit.
        test: None where it was not asked for.
        notes: sentences about the input.
    """

    train: Dataset
    valid: Dataset
    known: Dataset
    test: Dataset | None
    notes: list[str] = field(default_factory=list)

    def triples(self, part: str) -> tuple[NDArray, NDArray, NDArray]:
        """``user, item, rating`` of a part, each ``(n,)``; rating is 1 where the data has none."""
        dataset = getattr(self, part)
        inter, name = dataset.inter_feat, dataset.config["RATING_FIELD"]
        user, item = inter[dataset.uid_field].numpy(), inter[dataset.iid_field].numpy()
        return user, item, inter[name].double().numpy() if name in inter.columns else np.ones(len(user))

    def fingerprint(self) -> str:
        """Hash of the split: which pair with which rating lies in which part, whatever the row order."""
        digest = hashlib.sha256()
        for part in self._parts():
            user, item, rating = self.triples(part)
            order = np.lexsort((item, user))
            for column in (user, item, rating):
                digest.update(np.ascontiguousarray(column[order]).tobytes())
            digest.update(part.encode())
        return digest.hexdigest()[:16]

    def sizes(self) -> dict[str, int]:
        """Users and items without padding, and ratings per part."""
        return {
            "n_users": self.train.user_num - 1,
            "n_items": self.train.item_num - 1,
            **{f"n_{part}": len(getattr(self, part)) for part in self._parts()},
        }

    def _parts(self) -> list[str]:
        return ["train", "valid"] if self.test is None else ["train", "valid", "test"]


def build(config, with_test: bool = True) -> Splits:
    """Read, check and split the data set of ``config``; the split depends on the seed alone.

    Args:
        with_test: without it the test part is dropped as soon as it is cut, and a test file is not opened.

    Raises:
        DataError: the input cannot be used.
    """
    if not with_test and config["benchmark_filename"]:
        config["benchmark_filename"] = config["benchmark_filename"][:-1]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        try:
            dataset = RatingDataset(config)
        except ValueError as error:
            if "feat is empty" in str(error):
                raise DataError(f"no rating of {config['dataset']} is left; loosen the filters (val_interval, "
                                "user_inter_num_interval, item_inter_num_interval)") from error  # fmt: skip
            raise
        parts = dict(zip(("train", "valid", "test"), dataset.build(with_test), strict=False))
    for name, part in parts.items():
        if len(part) == 0:
            raise DataError(f"the {name} part of {config['dataset']} is empty: too few ratings for the split "
                            f"{config['eval_args']['split']}")  # fmt: skip
    if test := parts.get("test"):
        without = dataset.user_num - 1 - len(torch.unique(test.inter_feat[dataset.uid_field]))
        if without:
            dataset.note(f"{without} users have no test items and are not evaluated")
    known = dataset.copy(cat_interactions([parts["train"].inter_feat, parts["valid"].inter_feat]))
    return Splits(parts["train"], parts["valid"], known, test, dataset.notes)
