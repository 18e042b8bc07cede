"""A finished run on disk, taken up again: its data rebuilt, its best model, to recommend, predict and be evaluated."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.sparse import csr_matrix

from recbole_dgrm.config.consistency import check_scores
from recbole_dgrm.config.layers import load_config, protocol_layer, read_yaml
from recbole_dgrm.data import dataset, loaders
from recbole_dgrm.errors import CheckpointError, DataError, OptionError, UnknownModel
from recbole_dgrm.evaluation import references
from recbole_dgrm.models import registry
from recbole_dgrm.options import option
from recbole_dgrm.records import CHECKPOINT, CONFIG, RECORD, WHERE, read_run
from recbole_dgrm.runs.experiment import untrained
from recbole_dgrm.runs.recommender import Recommender
from recbole_dgrm.system.files import plain
from recbole_dgrm.training.checkpoints import random_state, read_checkpoint, set_random_state
from recbole_dgrm.training.recorded_trainer import RunMixin
from recbole_dgrm.training.trainers import trainer_class

LOG = logging.getLogger(__name__)
TRAINED_WITH = (
    "feedback",
    "eval_args",
    "split_rounding",
    "refit",
)  # keys of a protocol that a trained model is tied to


class Run(Recommender):
    """A finished run: the ``Recommender`` of the users it was trained on.

    Attributes:
        record: what its ``record.json`` holds.
        splits: its data, built again.
    """

    def __init__(self, config, record: dict[str, Any], splits: dataset.Splits, trainer: RunMixin):
        self.record, self.splits = record, splits
        users = splits.train.field2id_token[splits.train.uid_field][1:]
        parts = [splits.triples(part)[:2] for part in ("known", "test")]
        user, item = (np.concatenate(side) for side in zip(*parts, strict=True))
        rated = csr_matrix((np.ones(len(user), bool), (user, item)), (splits.train.user_num, splits.train.item_num))
        super().__init__(config, trainer, trainer.model, users, splits.train, rated)

    def with_ratings(self, ratings: pd.DataFrame) -> Recommender:
        """The same model for users who were not there in training, from their ratings; nothing is trained.

        Args:
            ratings: ``user_id``, ``item_id`` and ``rating``. A user of the run may be among them, who then has these
                ratings only. Unknown items are counted, said and dropped.

        Raises:
            UnknownModel: the model knows the users of its training only.
            DataError: it is no such table, a rating lies outside the scale, or no item is known.
        """
        if not isinstance(ratings, pd.DataFrame) or not {"user_id", "item_id", "rating"} <= set(ratings):
            what = ", ".join(map(str, ratings)) if isinstance(ratings, pd.DataFrame) else type(ratings).__name__
            raise DataError(f"ratings must be a DataFrame with the columns user_id, item_id and rating, not {what}")
        if not getattr(self.model, "takes_new_users", False):
            able = [name for name, model in registry.MODELS.items() if getattr(model, "takes_new_users", False)]
            raise UnknownModel(
                f"{self.config['model']} cannot score users who were not there in training; train it again with their "
                f"ratings in the data, or use a model that reads profiles: {', '.join(able)}"
            )
        ratings = self._usable(ratings)
        users, row = np.unique(ratings["user_id"].to_numpy(str), return_inverse=True)
        column = self.ids("items", ratings["item_id"].astype(str)).numpy()
        shape = len(users) + 1, len(self.items)
        matrix = csr_matrix((ratings["rating"].to_numpy(np.float64), (row + 1, column)), shape)
        model = self.model.with_profiles(matrix)
        return Recommender(self.config, self.trainer, model, users, self.splits.train, matrix)

    def _usable(self, ratings: pd.DataFrame) -> pd.DataFrame:
        """Known items, one rating per pair, within the scale."""
        if not self.model.implicit:
            low, high = self.splits.scale.low, self.splits.scale.high
            outside = ratings[(ratings["rating"] < low) | (ratings["rating"] > high)]
            if len(outside):
                raise DataError(
                    f"{len(outside)} ratings lie outside rating_scale=[{low:g}, {high:g}] of the run, the first: "
                    f"{outside['rating'].iloc[0]:g} of user {outside['user_id'].iloc[0]!r}; correct them"
                )
        n_users = ratings["user_id"].nunique()
        known = ratings[ratings["item_id"].astype(str).isin(self._places["items"])]
        if len(known) == 0:
            raise DataError(f"none of the {ratings['item_id'].nunique()} items that are rated is known to the model")
        if len(known) < len(ratings):
            unknown = ratings.loc[ratings.index.difference(known.index), "item_id"]
            LOG.warning("%d ratings are dropped: the model does not know their %d items, the first %r", len(unknown),
                        unknown.nunique(), unknown.iloc[0])  # fmt: skip
        if lost := n_users - known["user_id"].nunique():
            LOG.warning("%d users have rated no item that the model knows and are left out", lost)
        single = known.drop_duplicates(["user_id", "item_id"])
        if len(single) < len(known):
            LOG.warning("%d rows repeat a user-item pair; the first row of a pair is kept", len(known) - len(single))
        return single

    def evaluate(self, protocol: str | None = None, part: str = "test") -> dict[str, Any]:
        """Score the model again.

        Args:
            protocol: the run's own by default; with it the numbers are those of the record.
            part: ``test``, or ``valid`` where the model has not learnt from it.

        Returns:
            ``model``, ``dataset``, ``protocol``, ``seed``, ``reference``, ``skill``, and the metrics under the part.

        Raises:
            OptionError: the run was made for another split, or the model has learnt from the part.
        """
        if part not in ("test", "valid"):
            raise OptionError(f"part={part!r} is not known; test or valid")
        if part == "valid" and self.config.run.refit:
            raise OptionError(
                "the model of a run with refit=true has learnt from the validation part; what validation said is "
                "'valid' in record.json, and a run with --refit=false can be evaluated on it"
            )
        config = self._under(self.record["protocol"] if protocol is None else protocol)
        trainer = trainer_class(type(self.model))(config, self.model)
        result = dict(trainer.evaluate(loaders.eval_loader(config, self.splits, part)))
        rows = references.reference_rows(config, self.splits, part)
        named = {key: self.record[key] for key in ("model", "dataset", "seed")} | {"protocol": config.run.protocol}
        return {**named, part: result, "reference": rows, "skill": references.skill(result, rows)}

    def _under(self, protocol: str):
        """The run's config with the rules of another protocol."""
        own, other = protocol_layer(self.record["protocol"]), protocol_layer(protocol)
        changes = {key: value for key, value in other.items() if own.get(key) != value}
        tied = [key for key in TRAINED_WITH if key in changes]
        if tied:
            raise OptionError(
                f"protocol={protocol} cannot judge a run of protocol={self.record['protocol']}: the two differ in "
                f"{', '.join(tied)}, so the model has learnt from another split; train under protocol={protocol}"
            )
        check_scores(self.record["model"], changes)
        return self.config.replaced(**changes)


def load_run(path: Path | str, **where: Any) -> Run:
    """A finished run, ready to recommend, predict and be evaluated.

    Args:
        path: its directory.
        where: ``data_path`` if the data has moved, ``device`` if it is another.

    Raises:
        CheckpointError: it is no finished run, or the checkpoint is not of its model.
        DataError: the data has changed since.
    """
    if not isinstance(path, (str, Path)):
        raise CheckpointError(f"a run is named by the path of its directory, and {path!r} is none")
    path = Path(path)
    saved = read_run(path)
    if saved is None or not (path / CONFIG).is_file():
        raise CheckpointError(f"{path} is not a run directory: it has no record.json with a {CONFIG}")
    if not saved.finished:
        raise CheckpointError(f"the run in {path} is not finished but {saved.record['status']}; go on with "
                              f"{option('resume', path)}")  # fmt: skip
    saved.need("data fingerprint")
    _check_config(path, saved.record["config"])
    config = load_config([path / CONFIG], where).writing_to(path)
    state = read_checkpoint(path / CHECKPOINT, config["device"])
    splits = dataset.build(config)
    if splits.fingerprint() != saved.record["data"]["fingerprint"]:
        raise DataError(
            f"the data of {config['dataset']} has changed since the run in {path} was made: its ids would name other "
            "rows of the model; put the old data back (--data_path=DIR) or train again"
        )
    with _random_state_kept():
        trainer, _, _ = untrained(config, splits, references.training_part(config))
    trainer.load(state, best=True)
    return Run(config, saved.record, splits, trainer)


def _check_config(path: Path, recorded: dict[str, Any]) -> None:
    """Whether ``config.yaml`` still is what the run was made with."""
    given = plain(read_yaml(path / CONFIG))
    changed = [key for key in sorted({*given, *recorded} - set(WHERE)) if given.get(key) != recorded.get(key)]
    if changed:
        raise CheckpointError(
            f"{path / CONFIG} is not that of the run: it has {changed[0]}={given.get(changed[0])}, and {RECORD} "
            f"{recorded.get(changed[0])}; put the old value back, or make a run of its own with --config_files"
        )


@contextmanager
def _random_state_kept() -> Iterator[None]:
    """Random numbers of the caller go on as if none were drawn inside."""
    unused = torch.Generator()
    state = random_state(unused)
    try:
        yield
    finally:
        set_random_state(state, unused)
