"""The data set of a run, read and checked, and its split, which is the same for every model.

RecBole filters and splits the ratings. This module reads the files, raises errors for faults that RecBole would repair
silently, and makes the split depend only on the seed.
"""

import logging
from pathlib import Path

import numpy as np
import pandas as pd
from recbole.utils import FeatureSource, FeatureType

from recbole_dgrm.data.atomic_files import check_source, column_types, source_files
from recbole_dgrm.data.parts import SplitDataset, has_repeats
from recbole_dgrm.data.rating_scale import RatingScale, find_scale, without_noise
from recbole_dgrm.data.tables import read_file
from recbole_dgrm.data.text_tables import Reading
from recbole_dgrm.data.timeline import PARTS, cut, cuts_timeline
from recbole_dgrm.data.values import ids, joined, numbers, rated, refuse
from recbole_dgrm.errors import DataError, UserError

LOG = logging.getLogger(__name__)
COUNTED = "user_inter_num_interval", "item_inter_num_interval"
UNFILTERED = (None, "[0,inf)")  # the allowed filters on numbers of ratings if the split is given as files


class RatingDataset(SplitDataset):
    """RecBole's Dataset, except that it reads files exactly, checks them, and rounds parts by ``split_rounding``.

    Attributes:
        notes: sentences about changes of the input, and about what is unusual in it.
        scale: the scale of the ratings; None if feedback is implicit.
        before: for a part of a split, the parts before it; their items are not candidates of a full ranking.
    """

    def __init__(self, config):
        check_source(config)
        try:
            super().__init__(config)
        except UserError:
            raise
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            what = f"{config['dataset']} with this configuration: {type(error).__name__}: {error}"
            raise DataError(f"RecBole cannot load {what}") from error

    def _get_preset(self) -> None:
        super()._get_preset()
        self.notes: list[str] = []
        self.scale: RatingScale | None = None
        self.before: list[SplitDataset] = []

    def note(self, text: str) -> None:
        """Add a sentence about the input to ``notes`` and log it."""
        self.notes.append(text)
        LOG.warning("%s: %s", self.dataset_name, text)

    # Reading

    def _load_inter_feat(self, token: str, dataset_path: str) -> None:
        files = source_files(self.config)
        tables = [self._load_feat(str(path), FeatureSource.INTERACTION) for path in files]
        self._part = np.repeat(np.arange(len(files), dtype=np.int8), list(map(len, tables)))
        table = joined(tables) if len(tables) > 1 else tables.pop()
        self._lines, self.inter_feat = table.index, table.reset_index(drop=True)
        if table.empty:
            raise DataError(f"{files[0]} has no ratings")

    def _load_feat(self, filepath, source):
        """Read the columns of a file that the config selects, and register them; None if it selects none."""
        load, unload = self._get_load_and_unload_col(source)
        kinds = {name: FeatureType(kind) for name, kind in column_types(Path(filepath), self.config).items()}
        wanted = (set(kinds) if load is None else load) - (unload or set())
        kinds = {name: kind for name, kind in kinds.items() if name in wanted}
        if not kinds:
            return None
        floats = [name for name, kind in kinds.items() if kind == FeatureType.FLOAT]
        reading = Reading(separator=self.config["field_separator"], encoding=self.config["encoding"])
        table = read_file(Path(filepath), reading, lambda _: {name: name for name in kinds}, floats)
        is_inter = source == FeatureSource.INTERACTION
        checked = self._checked(table, filepath) if is_inter else {}
        for name, kind in kinds.items():
            self.field2source[name], self.field2type[name], self.field2seqlen[name] = source, kind, 1
            if name in checked:
                table[name] = checked[name]
            elif name in floats:
                number, missing = numbers(table[name])
                bad = np.isnan(number) if is_inter else np.isnan(number) & ~missing
                remedy = "; correct these rows, or leave the column out (load_col)"
                refuse(table[name], bad, filepath, f"values of {name} are not numbers", remedy)
                table[name] = number
            elif kind != FeatureType.TOKEN:
                make = float if kind == FeatureType.FLOAT_SEQ else str
                cells = table[name].astype(object).where(table[name].notna(), "")
                parts = (cell.split(self.config["seq_separator"]) for cell in cells)
                most = (self.config["seq_len"] or {}).get(name)
                table[name] = [np.array([make(part) for part in cell if part][:most]) for cell in parts]
                self.field2seqlen[name] = max(map(len, table[name]), default=0)
            if kind in (FeatureType.FLOAT, FeatureType.FLOAT_SEQ):
                self.field2bucketnum[name] = 2
        return table if is_inter else table.reset_index(drop=True)

    def _checked(self, table: pd.DataFrame, filepath: str) -> dict[str, pd.Series]:
        """The users, items, ratings and times that a run needs, checked like ratings from any other source."""
        checked = {name: ids(table[name], filepath) for name in (self.uid_field, self.iid_field)}
        if self.config.run.feedback == "rating":
            rating = self.config["RATING_FIELD"]
            checked[rating] = rated(table[rating], filepath)
        if self.config["eval_args"]["order"] == "TO":
            missing = ~np.isfinite(numbers(table[self.time_field])[0])
            remedy = "; remove these rows, or set order: RO"
            refuse(table[self.time_field], missing, filepath, f"rows have no {self.time_field}", remedy, is_shown=False)
        return checked

    def _load_user_or_item_feat(self, token, dataset_path, source, field_name):
        """Leave out users and items without ratings, which would otherwise get ids and be candidates."""
        feat = super()._load_user_or_item_feat(token, dataset_path, source, field_name)
        field = getattr(self, field_name)
        if feat is None:
            return None
        return feat[feat[field].isin(self.inter_feat[field].cat.categories)].reset_index(drop=True)

    # Filtering, which RecBole skips if the split is given as files

    def _data_processing(self) -> None:
        """Filter also a split that is given as files, but not by numbers of ratings, which would need the test file."""
        given, self.benchmark_filename_list = self.benchmark_filename_list, None
        for key in COUNTED:
            if given and self.config[key] not in UNFILTERED:
                raise DataError(
                    f"{key}={self.config[key]} would count ratings in all files of the given split, "
                    f"benchmark_filename={self.config['benchmark_filename']}; filter before you split, or leave it out"
                )
        super()._data_processing()
        self.benchmark_filename_list = given

    def _remove_duplication(self) -> None:
        """Keep one row per user-item pair and part, and drop pairs that an earlier part has, too."""
        feat, pair = self.inter_feat, [self.uid_field, self.iid_field]
        if not has_repeats(*(feat[name].cat.codes.to_numpy() for name in pair)):
            return
        keep, by_time = self.config["rm_dup_inter"] or "first", ""
        in_order = feat[feat.duplicated(pair, keep=False)].assign(part=lambda rows: self._part[rows.index])
        if self.config["rm_dup_inter"] and self.time_field in feat:
            in_order, by_time = in_order.sort_values(self.time_field, kind="stable"), f" by {self.time_field}"
        repeated = in_order.duplicated([*pair, "part"], keep=keep)
        if repeated.any():
            rule = f"the {keep}{by_time} row of a pair is kept"
            self.note(f"{repeated.sum():,} rows repeat a user-item pair and are dropped; {rule}")
        left = in_order[~repeated].sort_index()
        leaked = left[left.duplicated(pair)]
        for part, count in leaked["part"].value_counts().sort_index().items():
            name = source_files(self.config)[part].name
            self.note(f"a leak: {count:,} pairs of {name} are also in an earlier file; they are left out of {name}")
        self.inter_feat = feat[~feat.index.isin(in_order.index[repeated].union(leaked.index))]

    def _filter_inter_by_user_or_item(self) -> None:
        if self.user_feat is not None or self.item_feat is not None:
            super()._filter_inter_by_user_or_item()  # it copies all ratings

    def _filter_by_inter_num(self) -> None:
        """Filter by numbers of ratings; if the timeline is cut, by those in training, whose users and items stay."""
        args, is_filtered = self.config["eval_args"], any(self.config[key] not in UNFILTERED for key in COUNTED)
        if not cuts_timeline(args):
            if is_filtered:
                super()._filter_by_inter_num()
            return
        feat, fields = self.inter_feat, (self.uid_field, self.iid_field)
        part, (first, second) = cut(feat[self.time_field].to_numpy(), args["split"]["RS"], self.time_field)
        self.note(f"training ends before {self.time_field}={first:.17g}, the test begins with {second:.17g}")
        self._part[feat.index] = part
        train = self.inter_feat = feat[part == 0].copy()
        if is_filtered:
            super()._filter_by_inter_num()
        known = [np.bincount(train[field].cat.codes, minlength=len(feat[field].cat.categories)) > 0 for field in fields]
        new = [~mask[feat[field].cat.codes] for mask, field in zip(known, fields, strict=True)]
        stays = feat.index.isin(train.index) | ((part > 0) & ~new[0] & ~new[1])
        for number, name in enumerate(PARTS[1:], 1):
            later = part == number
            if lost := int((later & ~stays).sum()):
                users, items = (feat.loc[later & one, field].nunique() for one, field in zip(new, fields, strict=True))
                left_out = f"{lost:,} of {later.sum():,} ratings of {name} are left out"
                self.note(f"{left_out}: {users:,} users and {items:,} items have no rating in training")
        self.inter_feat = feat[stays].copy()
        for side, name, mask in zip((self.user_feat, self.item_feat), fields, known, strict=True):
            if side is not None:
                side.drop(side.index[~side[name].isin(feat[name].cat.categories[mask])], inplace=True)

    def _reset_index(self) -> None:
        """Find the rating scale of the remaining ratings; this is RecBole's last step of filtering."""
        if len(self.inter_feat) == 0:
            filters = ", ".join(("val_interval", *COUNTED))
            raise DataError(f"no rating of {self.dataset_name} is left; loosen the filters ({filters})")
        rows = self.inter_feat.index
        self._kept = self._part if len(rows) == len(self._part) else self._part[rows]
        n_parts = len(PARTS if cuts_timeline(self.config["eval_args"]) else source_files(self.config))
        self.file_size_list = np.bincount(self._kept, minlength=n_parts).tolist()
        if self.config.run.feedback == "rating":
            run, rating = self.config.run, self.inter_feat[self.config["RATING_FIELD"]].to_numpy()
            declared = run.rating_scale, run.rating_step, run.rating_threshold
            past = None if n_parts == 1 else self._kept == 0
            self.scale = find_scale(rating, *declared, lambda index: self._place(rows[index]), self.note, past)
            self.inter_feat[self.config["RATING_FIELD"]] = without_noise(rating, self.scale)
        super()._reset_index()

    def _place(self, row: int) -> str:
        """The line of a loaded row, and its file if there are several files."""
        files, line = source_files(self.config), f"line {self._lines[row]}"
        return line if len(files) == 1 else f"{line} of {files[self._part[row]].name}"

    def _remap(self, remap_list):
        """Number the ids in the order of their first rows, like RecBole, but as categories and into int32."""
        if any(kind != FeatureType.TOKEN for *_, kind in remap_list):
            super()._remap(remap_list)
        elif remap_list:
            columns = [feat[field].astype("category") for feat, field, _ in remap_list]
            code, found = pd.factorize(joined(column.to_frame("id") for column in columns)["id"])
            tokens = np.array(["[PAD]", *found])
            code = np.split((code + 1).astype(np.int32), np.cumsum([len(column) for column in columns])[:-1])
            for (feat, field, _), part in zip(remap_list, code, strict=True):
                self.field2id_token.setdefault(field, tokens)
                self.field2token_id.setdefault(field, {token: place for place, token in enumerate(tokens)})
                feat[field] = part
