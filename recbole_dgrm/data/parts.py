"""The rows of the parts of a split: which they are, in which order, and how they are kept.

RecBole's own functions for this loop over the ratings. The rows and their order are the same.
"""

from collections.abc import Callable
from itertools import pairwise
from math import ceil
from typing import Any

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from recbole.data.dataset import Dataset
from recbole.data.interaction import Interaction
from recbole.utils import FeatureType

from recbole_dgrm.errors import DataError
from recbole_dgrm.system.turns import OwnRandomness

NARROW = {FeatureType.TOKEN: np.int32, FeatureType.FLOAT: np.float32}
Rows = NDArray[np.int32]  # the numbers of rows


class Table(Interaction):
    """An Interaction that keeps ids as int32; whoever takes ids out gets int64, as from RecBole's."""

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, str):
            return _wide(self.interaction[index])
        index = torch.from_numpy(index) if isinstance(index, np.ndarray) else index
        return Interaction({name: _wide(column[index]) for name, column in self.interaction.items()})

    def rows(self, index: slice | torch.Tensor) -> "Table":
        """A table with these rows, which shares memory with this one if they are a slice."""
        return Table({name: column[index] for name, column in self.interaction.items()})


def _wide(column: torch.Tensor) -> torch.Tensor:
    return column.long() if column.dtype == torch.int32 else column


def split_rows(
    rows: Rows, group: NDArray, ends: Callable[[int], list[int]], counted: NDArray[np.bool_] | None = None
) -> list[Rows]:
    """Split the rows of each group into parts.

    Args:
        rows: the rows ``(n,)`` in the order in which those of a group fill its parts.
        group: the group of each of ``rows``, ``(n,)``.
        ends: maps the number of a group's rows to the ends of all its parts but the last.
        counted: mask of the ``rows`` that this number counts; by default all.

    Returns:
        The rows of each part: group by group, in the order in which the groups occur first.
    """
    code = pd.factorize(group)[0].astype(np.int32)
    del group  # every array counts here, where most memory is needed
    size = np.bincount(code)
    sizes, place = np.unique(np.bincount(code, counted, len(size)).astype(int), return_inverse=True)
    by_group = by_code(code, len(size))
    within = np.arange(len(rows), dtype=np.int32)
    within -= np.repeat((np.cumsum(size) - size).astype(np.int32), size)
    part = np.zeros(len(rows), np.int8)
    bounds = np.array([ends(number) for number in sizes.tolist()], np.int32).T
    for end in bounds:
        part += within >= np.repeat(end[place], size)
    return [rows[by_group[part == number]] for number in range(len(bounds) + 1)]


def by_code(code: NDArray[np.int32], n_codes: int) -> Rows:
    """The places ``(n,)`` of a stable sort by ``code``, by counting: the transpose of a matrix with one entry a row."""
    n_rows = len(code)
    ones, begin = np.ones(n_rows, np.int8), np.arange(n_rows + 1, dtype=np.int32)
    return sp.csr_matrix((ones, code, begin), (n_rows, n_codes)).tocsc().indices


def has_repeats(user: NDArray, item: NDArray) -> bool:
    """Whether a pair of ids occurs more than once."""
    key = user.astype(np.int64)
    key *= int(item.max(initial=0)) + 1
    key += item
    key.sort()
    return bool((key[1:] == key[:-1]).any())


class SplitDataset(Dataset):
    """RecBole's Dataset, split without loops over ratings and rounded by ``split_rounding``."""

    before: "list[SplitDataset]"
    file_size_list: list[int]
    note: Callable[[str], None]
    _kept: NDArray[np.int8]  # the part of each rating, if the timeline is cut or the split is given as files

    def build(self, with_test: bool = True) -> list[Any]:
        """The training, validation and, ``with_test``, test parts; without a validation file it is split from training.

        The split depends only on the seed of the config. All parts are slices of one table.
        """
        given, sizes = self.benchmark_filename_list, self.file_size_list
        wanted, rows = 3 if with_test else 2, np.arange(len(self.inter_feat), dtype=np.int32)
        if self.config["eval_args"]["order"] == "TO":
            rows = np.lexsort((self.inter_feat[self.time_field], self._kept)).astype(np.int32)
        parts = np.split(rows, np.cumsum(sizes)[:-1])
        del rows
        with OwnRandomness(self.config.run.seed):
            if len(parts) < wanted:
                if given is not None and len(parts) != wanted - 1:
                    raise DataError(f"benchmark_filename={given} must name two parts, [train, test], or three")
                parts = [*self._split(parts.pop(0), given is not None), *parts]
            parts = [*self._thinned(parts[:2]), *parts[2:wanted]]
        self._order, ends = np.concatenate(parts), np.cumsum([0, *map(len, parts)])
        self._change_feat_format()
        del self._order
        self._drop_unused_col()
        built: list[Any] = []
        for start, end in pairwise(ends.tolist()):
            part = self.copy(self.inter_feat.rows(slice(start, end)))
            part.before = built[:]
            built.append(part)
        return built

    def _split(self, rows: Rows, only_valid: bool) -> list[Rows]:
        """Split the rows as ``eval_args`` say; ``only_valid`` splits validation from training within each user."""
        args = self.config["eval_args"]
        ((way, shares),) = args["split"].items()
        if args["order"] == "RO":
            rows = torch.randperm(len(rows)).numpy().astype(np.int32)  # they are the first rows
        user = self.inter_feat[self.uid_field].to_numpy()
        if way == "LS":  # one rating of each user for the test, one for validation, if there is one more
            return split_rows(rows, user[rows], lambda size: [size - min(2, size - 1), size - min(1, size - 1)])
        shares = shares[:2] if only_valid else shares
        shares = [share / sum(shares) for share in shares]
        if way == "TS":
            time = self.inter_feat[self.time_field].to_numpy(np.float32)[rows]  # as RecBole compares them
            past = time <= np.percentile(time, 100 * (1 - shares[-1]))
            before = shares[0] / (1 - shares[2])
            return split_rows(rows, user[rows], lambda size: [int(size * before), size], past)
        if not only_valid and args["group_by"] != "user":
            user = np.zeros(len(rows), np.int8)
        return split_rows(rows, user[rows], lambda size: self._calcu_split_ids(size, shares))

    def _dataframe_to_interaction(self, data: pd.DataFrame) -> Any:
        """The ratings as a table in the order of the parts; features as RecBole has them."""
        if data is not self.inter_feat:
            return super()._dataframe_to_interaction(data)
        columns, order = {}, torch.from_numpy(self._order)
        for name in [*data]:
            column, kind = data.pop(name), NARROW.get(self.field2type[name])
            if kind is None or name in self.config["numerical_features"]:
                columns[name] = super()._dataframe_to_interaction(column.to_frame())[name][order.long()]
            else:
                columns[name] = torch.from_numpy(column.to_numpy(kind, copy=True)).index_select(0, order)
        return Table(columns)

    def inter_matrix(self, form: str = "coo", value_field: str | None = None) -> Any:
        """RecBole's matrix of the ratings ``(n_users, n_items)``, without a copy of the ids."""
        column = self.inter_feat.numpy()
        value = np.ones(len(self)) if value_field is None else column[value_field]
        pair = column[self.uid_field], column[self.iid_field]
        return sp.coo_matrix((value, pair), (self.user_num, self.item_num)).asformat(form)

    def _thinned(self, parts: list[Rows]) -> list[Rows]:
        """The rows of training and validation with ``known_share`` of each user's; larger shares include smaller."""
        share = self.config.run.known_share
        if share == 1:
            return parts
        user, thinner = self.inter_feat[self.uid_field].to_numpy(), list[Rows]()
        for part in parts:
            order = np.argsort(torch.rand(len(part)).numpy(), kind="stable").astype(np.int32)
            kept = split_rows(order, user[part][order], lambda size: [ceil(share * size - 1e-9)])[0]
            thinner.append(part[np.sort(kept)])
        left, all_rows = (sum(map(len, several)) for several in (thinner, parts))
        self.note(f"known_share={share:g} keeps {left:,} of the {all_rows:,} ratings of training and validation")
        return thinner

    def _calcu_split_ids(self, tot: int, ratios: list[float]) -> list[int]:
        if self.config.run.split_rounding == "down":
            return super()._calcu_split_ids(tot, ratios)
        ends = [tot]
        for ratio in reversed(ratios[1:]):  # the last part first; at least one rating is for training
            ends.append(max(ends[-1] - ceil(ratio * tot - 1e-9), min(1, tot)))
        return ends[:0:-1]
