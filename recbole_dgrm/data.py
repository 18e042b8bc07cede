"""Ratings to loaders: input checks, one split for every model, batches without padding.

RecBole reads and filters the atomic files and cuts the split; this module refuses what RecBole would
quietly repair, makes the split depend on the seed alone, and batches by users.
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
from recbole.data.dataloader import AbstractDataLoader, FullSortEvalDataLoader, UserDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction, cat_interactions
from recbole.data.utils import create_samplers, get_dataloader

from recbole_dgrm import metrics, registry
from recbole_dgrm.errors import DataError
from recbole_dgrm.models.profile import ProfileRecommender

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
        raise DataError(
            f"there is no folder {self.dataset_path}; put the ratings into "
            f"{self.dataset_path}/{self.dataset_name}.inter (recbole-dgrm convert makes it from a CSV) "
            f"or say where they are: --data_path=DIR with DIR/{self.dataset_name}/{self.dataset_name}.inter"
        )

    def _load_inter_feat(self, token: str, dataset_path: str) -> None:
        parts = self.benchmark_filename_list
        names = [f"{token}.inter"] if parts is None else [f"{token}.{part}.inter" for part in parts]
        for name in names:
            self._check_header(Path(dataset_path) / name)
        super()._load_inter_feat(token, dataset_path)
        if len(self.inter_feat) == 0:
            raise DataError(f"{Path(dataset_path) / names[0]} holds no ratings")
        self._check_ids()
        if self.config["feedback"] == "rating":
            self._check_ratings(self.inter_feat[self.config["RATING_FIELD"]])
        self._drop_duplicates()

    def _check_header(self, path: Path) -> None:
        if not path.is_file():
            raise DataError(f"{path} does not exist; RecBole's atomic format wants the ratings there")
        with open(path, encoding=self.config["encoding"] or "utf-8") as lines:
            header = lines.readline().rstrip("\r\n")
        separator = self.config["field_separator"]
        columns = dict(name.rpartition(":")[::2] for name in header.split(separator) if ":" in name)
        needed = {self.uid_field: "token", self.iid_field: "token"}
        if self.config["feedback"] == "rating":
            needed[self.config["RATING_FIELD"]] = "float"
        for name, kind in needed.items():
            if columns.get(name) != kind:
                raise DataError(
                    f"{path} has no column {name}:{kind}; its first line is {header!r} and must name columns as "
                    f"name:type, separated by {separator!r}; other names are set with USER_ID_FIELD, "
                    "ITEM_ID_FIELD, RATING_FIELD"
                )

    def _load_feat(self, filepath, source):
        try:
            return super()._load_feat(filepath, source)
        except ValueError as error:
            raise DataError(f"{filepath}: {_first_bad_row(filepath, self.config) or error}") from error

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

    def build(self) -> list[Dataset]:
        """Train, validation and test part. Of two benchmark files, validation is cut from the first."""
        parts = super().build()
        if len(parts) == 3:
            return parts
        if len(parts) != 2:
            raise DataError(f"benchmark_filename={self.benchmark_filename_list} must name [train, test] or three parts")
        first, test = parts
        first.shuffle()
        ratios = self.config["eval_args"]["split"]["RS"]
        return [*first.split_by_ratio([ratios[0], ratios[1]], group_by=self.uid_field), test]

    def _calcu_split_ids(self, tot: int, ratios: list[float]) -> list[int]:
        if self.config["split_rounding"] == "down":
            return super()._calcu_split_ids(tot, ratios)
        ends = [tot]
        for ratio in reversed(ratios[1:]):  # the last part first; one rating stays for training
            ends.append(max(ends[-1] - ceil(ratio * tot - 1e-9), min(1, tot)))
        return ends[:0:-1]


def _first_bad_row(filepath: str, config) -> str | None:
    """Name the first row whose rating is no number."""
    try:
        table = pd.read_csv(filepath, sep=config["field_separator"], dtype=str, keep_default_na=False)
    except (ValueError, pd.errors.ParserError):
        return None
    name = f"{config['RATING_FIELD']}:float"
    if name not in table:
        return None
    bad = np.flatnonzero(pd.to_numeric(table[name], errors="coerce").isna() & (table[name] != ""))
    return f"the rating in line {bad[0] + 2} is {table[name].iloc[bad[0]]!r}, not a number" if len(bad) else None


class ProfileLoader(AbstractDataLoader):
    """Shuffled batches of users who have training ratings; the padding user has none."""

    def __init__(self, config, dataset):
        self.field = dataset.uid_field
        self.users = torch.unique(dataset.inter_feat[self.field])
        self.sample_size = len(self.users)
        super().__init__(config, dataset, None, shuffle=True)

    def _init_batch_size_and_step(self) -> None:
        self.step = self.config["train_batch_size"]
        self.set_batch_size(self.step)

    def collate_fn(self, index: list[int]) -> Interaction:
        """Users ``(B,)``."""
        return Interaction({self.field: self.users[index]})


def item_rank(dataset: Dataset) -> torch.Tensor:
    """Place of each item ``(n_items,)`` in the order of the data's own ids: by value if they are numbers, else by text.

    RecBole's ids follow the rows of the file, so a tie broken by them would depend on the file's order.
    """
    tokens = pd.Series(dataset.field2id_token[dataset.iid_field][1:])
    numbers = pd.to_numeric(tokens, errors="coerce")
    order = numbers if numbers.notna().all() else tokens.astype(str)
    return torch.as_tensor([0, *order.rank(method="first").astype(int)])


class RatedLoader(AbstractDataLoader):
    """The rated pairs of a part, a batch of users at a time, all pairs of a user together."""

    def __init__(self, config, dataset):
        pairs = dataset.inter_feat
        self.pairs = pairs[torch.argsort(pairs[dataset.uid_field], stable=True)]
        rank = item_rank(dataset)[self.pairs[dataset.iid_field]]
        self.pairs.update(
            Interaction({metrics.ITEM_RANK: rank, config["LABEL_FIELD"]: self.pairs[config["RATING_FIELD"]]})
        )
        self.users, count = torch.unique_consecutive(self.pairs[dataset.uid_field], return_counts=True)
        self.end = torch.cumsum(count, 0)
        self.sample_size = len(count)
        super().__init__(config, dataset, None, shuffle=False)

    def _init_batch_size_and_step(self) -> None:
        self.step = self.config["eval_batch_size"]
        self.set_batch_size(self.step)

    def collate_fn(self, index: list[int]):
        """Pairs of users ``index[0]..index[-1]`` in RecBole's 4-tuple of an evaluation batch."""
        start = self.end[index[0] - 1] if index[0] else 0
        return self.pairs[slice(start, self.end[index[-1]])], None, None, None


class RankingLoader(FullSortEvalDataLoader):
    """RecBole's full-ranking loader, batched by users instead of users x items."""

    @property
    def users(self) -> torch.Tensor:
        """The evaluated users, in order."""
        return self.uid_list

    def _init_batch_size_and_step(self) -> None:
        self.step = self.config["eval_batch_size"]
        self.set_batch_size(self.step * self._dataset.item_num)


@dataclass
class Splits:
    """The parts of one data set, the same for every model with the same seed.

    Attributes:
        known: training and validation together, for the refit.
        notes: sentences about the input.
    """

    train: Dataset
    valid: Dataset
    known: Dataset
    test: Dataset
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
        for part in ("train", "valid", "test"):
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
            **{f"n_{part}": len(getattr(self, part)) for part in ("train", "valid", "test")},
        }


def build(config) -> Splits:
    """Read, check and split the data set of ``config``; the split depends on the seed alone.

    Raises:
        DataError: the input cannot be used.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config["seed"])
        try:
            dataset = RatingDataset(config)
        except ValueError as error:
            if "feat is empty" in str(error):
                raise DataError(f"no rating of {config['dataset']} is left; loosen the filters (val_interval, "
                                "user_inter_num_interval, item_inter_num_interval)") from error  # fmt: skip
            raise
        train, valid, test = dataset.build()
    for name, part in [("train", train), ("valid", valid), ("test", test)]:
        if len(part) == 0:
            raise DataError(f"the {name} part of {config['dataset']} is empty: too few ratings for the split "
                            f"{config['eval_args']['split']}")  # fmt: skip
    without = dataset.user_num - 1 - len(torch.unique(test.inter_feat[dataset.uid_field]))
    if without:
        dataset.note(f"{without} users have no test items and are not evaluated")
    known = dataset.copy(cat_interactions([train.inter_feat, valid.inter_feat]))
    return Splits(train, valid, known, test, dataset.notes)


def train_loader(config, splits: Splits, part: str):
    """Batches to learn from: users for models of whole profiles, ours or RecBole's; else RecBole's own loader."""
    dataset = getattr(splits, part)
    loader = get_dataloader(config, "train")
    profiles = issubclass(registry.model_class(config["model"]), ProfileRecommender)
    if profiles or loader is UserDataLoader:  # RecBole's has the padding user in it: a false all-zero row
        return ProfileLoader(config, dataset)
    sampler, _, _ = create_samplers(config, dataset, [dataset, splits.valid, splits.test])
    return loader(config, dataset, sampler, shuffle=config["shuffle"])


def eval_loader(config, splits: Splits, part: str):
    """Batches to evaluate on, by users; ``part`` is ``valid`` or ``test``."""
    dataset = getattr(splits, part)
    if config["eval_args"]["mode"][part] == "labeled":
        return RatedLoader(config, dataset)
    if config["eval_args"]["mode"][part] != "full":
        raise DataError(f"eval_args: mode {config['eval_args']['mode']} is not supported; labeled or full")
    _, *samplers = create_samplers(config, dataset, [splits.train, splits.valid, splits.test])
    sampler = dict(zip(("valid", "test"), samplers, strict=True))[part]
    return RankingLoader(config, dataset, sampler, shuffle=False)
