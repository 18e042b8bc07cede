"""Batches for training and evaluation, without RecBole's padding user and item."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from recbole.data.dataloader import AbstractDataLoader, FullSortEvalDataLoader, UserDataLoader
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.data.utils import get_dataloader
from recbole.sampler.sampler import AbstractSampler, RepeatableSampler, Sampler
from recbole.utils import InputType

from recbole_dgrm.data import ITEM_RANK
from recbole_dgrm.data.rating_scale import RatingScale
from recbole_dgrm.errors import DataError
from recbole_dgrm.system import distributed

if TYPE_CHECKING:
    from recbole_dgrm.data.splits import Splits

STEPS = 24  # with train_batch_size=auto, about so many batches per pass over the profiles
FEWEST, MOST = 256, 1024  # and so many profiles per batch


class ProfileLoader(AbstractDataLoader):
    """Shuffled batches of the users (``orientation: item``: items) with ratings, ``train_batch_size`` per process."""

    def __init__(self, config, dataset):
        self.field = dataset.iid_field if config["orientation"] == "item" else dataset.uid_field
        self.rows = torch.unique(dataset.inter_feat[self.field])
        self.n_ratings = len(dataset)
        self.sample_size = len(self.rows)
        super().__init__(config, dataset, None, shuffle=True)

    def _init_batch_size_and_step(self) -> None:
        given = self.config.run.train_batch_size
        self.step = rows_per_step(len(self.rows)) if given == "auto" else given * distributed.world_size()
        self.set_batch_size(self.step)

    def collate_fn(self, index: list[int]) -> Interaction:
        """The ids ``(B,)`` of a batch."""
        return Interaction({self.field: self.rows[index]})


def rows_per_step(n_rows: int) -> int:
    """The number of profiles in a batch of all processes, if it is ``auto``: a power of two from 256 to 1024.

    Larger batches are faster per profile, and smaller ones learn more per pass: see ``docs/results/decisions.md``.
    """
    return int(np.clip(1 << round(np.log2(max(1, n_rows / STEPS))), FEWEST, MOST))


def item_rank(dataset: Dataset) -> torch.Tensor:
    """Rank of each item ``(n_items,)`` by its external id: by value if all ids are numbers, else as text.

    RecBole's ids follow the rows of the file, so a tie broken by them would depend on the order of the file.
    """
    tokens = pd.Series(dataset.field2id_token[dataset.iid_field][1:])
    numbers = pd.to_numeric(tokens, errors="coerce")
    order = numbers if numbers.notna().all() else tokens.astype(str)
    return torch.as_tensor([0, *order.rank(method="first").astype(int)])


class _ByUser:
    """Mixin of evaluation loaders, whose batches are of ``eval_batch_size`` of the part's ``users``."""

    known: sp.csr_matrix | None = None  # the pairs of the earlier parts, for full ranking

    @property
    def scale(self) -> RatingScale | None:
        return self._dataset.scale

    def _init_batch_size_and_step(self) -> None:
        self.step = self.config.run.eval_batch_size
        self.set_batch_size(self.step)


class RatedLoader(_ByUser, AbstractDataLoader):
    """The rated pairs of a part, in batches of users; all pairs of a user are in one batch."""

    def __init__(self, config, dataset):
        pairs = dataset.inter_feat
        self.pairs = pairs.rows(torch.argsort(pairs[dataset.uid_field], stable=True))
        rank = item_rank(dataset)[self.pairs[dataset.iid_field]]
        self.pairs.update(Interaction({ITEM_RANK: rank, config["LABEL_FIELD"]: self.pairs[config["RATING_FIELD"]]}))
        self.users, count = torch.unique_consecutive(self.pairs[dataset.uid_field], return_counts=True)
        self.end = torch.cumsum(count, 0)
        self.sample_size = len(count)
        super().__init__(config, dataset, None, shuffle=False)

    def collate_fn(self, index: list[int]):
        """The pairs of users ``index[0]..index[-1]`` as RecBole's 4-tuple of an evaluation batch."""
        start = self.end[index[0] - 1] if index[0] else 0
        return self.pairs[slice(start, self.end[index[-1]])], None, None, None


class RankingLoader(_ByUser, FullSortEvalDataLoader):
    """Full ranking in batches of users; RecBole's own loader has a Python set per user and batches of users x items.

    The pairs of ``dataset`` are the positives; the items of earlier parts are not candidates.
    """

    def __init__(self, config, dataset):
        self.field = dataset.uid_field
        self.positives = _pairs(dataset)
        self.known = sum(_pairs(part) for part in dataset.before).sign()
        self.history = self.known - self.known.multiply(self.positives)
        self.history.eliminate_zeros()
        self.users = torch.as_tensor(np.flatnonzero(np.diff(self.positives.indptr)))
        self.sample_size = len(self.users)
        AbstractDataLoader.__init__(self, config, dataset, None, shuffle=False)

    def _init_batch_size_and_step(self) -> None:
        super()._init_batch_size_and_step()
        self.set_batch_size(self.step * self._dataset.item_num)

    def collate_fn(self, index: list[int]):
        """The users ``(B,)``, and rows and items of their history and of their positives."""
        users = self.users[index]
        found = [matrix[users.numpy()].nonzero() for matrix in (self.history, self.positives)]
        history, positives = (tuple(map(torch.as_tensor, pairs)) for pairs in found)
        return Interaction({self.field: users}), history, *positives


def _pairs(dataset: Dataset) -> sp.csr_matrix:
    """A sparse matrix ``(n_users, n_items)`` with 1 for each pair of the data set."""
    return dataset.inter_matrix(form="csr").sign()


def train_loader(config, splits: "Splits", part: str):
    """Training batches of ``part``."""
    if config.run.refit:  # so that an error of the refit is raised before the first training
        _check_negatives(config, splits.known)
    return batches_of(config, getattr(splits, part))


def batches_of(config, dataset: Dataset):
    """Training batches: profiles for models of whole profiles, ours or RecBole's; else RecBole's own loader."""
    loader = get_dataloader(config, "train")
    if _takes_profiles(config):
        return ProfileLoader(config, dataset)  # RecBole's loader also trains on the padding user
    return loader(config, dataset, _negatives(config, dataset), shuffle=config["shuffle"])


def _takes_profiles(config) -> bool:
    return config["MODEL_INPUT_TYPE"] == InputType.LISTWISE or get_dataloader(config, "train") is UserDataLoader


def _negatives(config, dataset: Dataset) -> AbstractSampler | None:
    """The sampler of negative items, which uses only ``dataset``; None if the config has no negative sampling.

    RecBole's ``create_samplers`` would also count the popularity of items in the validation and test parts.
    """
    args = config["train_neg_sample_args"]
    if args["distribution"] == "none":
        return None
    _check_negatives(config, dataset)
    kind = RepeatableSampler if config["repeatable"] else Sampler
    return kind("train", dataset, args["distribution"], args["alpha"]).set_phase("train")


def _check_negatives(config, dataset: Dataset) -> None:
    """Check that each user has an item left to sample as a negative; otherwise RecBole would search endlessly."""
    distribution = config["train_neg_sample_args"]["distribution"]
    if distribution == "none" or _takes_profiles(config):
        return
    rated = _pairs(dataset)
    popular = distribution == "popularity"
    candidates = len(np.unique(rated.indices)) if popular else dataset.item_num - 1
    most = 1 if config["repeatable"] else np.diff(rated.indptr).max()
    if most == candidates:
        raise DataError(
            f"for {config['model']} RecBole samples items that a user has not rated, and some users of "
            f"{config['dataset']} have rated all {candidates}{' that have a rating in training' if popular else ''}; "
            f"leave these users out with --user_inter_num_interval='[0,{candidates - 1}]', or use a model of ours"
        )


def eval_loader(config, splits: "Splits", part: str):
    """Evaluation batches of users; ``part`` is ``valid`` or ``test``."""
    return evaluated(config, getattr(splits, part), part)


def evaluated(config, dataset: Dataset, part: str):
    """Evaluation batches of users for a part of the data set: its rated pairs, or all unseen items to rank."""
    return (RatedLoader if config["eval_args"]["mode"][part] == "labeled" else RankingLoader)(config, dataset)
