"""A finished run, loaded from disk with its data and its best model, for recommendations, predictions, evaluation."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from narwhals.stable.v2.typing import IntoFrame
from scipy.sparse import csr_matrix

from recbole_dgrm.config.evaluation_keys import check_scores
from recbole_dgrm.config.layers import load_config, protocol_layer
from recbole_dgrm.config.values import read_yaml
from recbole_dgrm.data import loaders
from recbole_dgrm.data.convert import run_keys
from recbole_dgrm.data.ratings import Ratings, read_ratings
from recbole_dgrm.data.splits import Splits, build_splits, training_part
from recbole_dgrm.data.text_tables import Reading
from recbole_dgrm.errors import CheckpointError, DataError, OptionError, UnknownModel
from recbole_dgrm.evaluation import references
from recbole_dgrm.evaluation.lists import Lists, described
from recbole_dgrm.identity import RECORD, changed_key
from recbole_dgrm.models import registry
from recbole_dgrm.options import option
from recbole_dgrm.records import CHECKPOINT, CONFIG, PREDICTIONS_ONLY, TRIAL, read_run
from recbole_dgrm.reports import run_table
from recbole_dgrm.reports.table_repr import Evaluation
from recbole_dgrm.runs import experiment
from recbole_dgrm.runs.experiment import untrained
from recbole_dgrm.runs.export import export
from recbole_dgrm.runs.recommender import Recommender
from recbole_dgrm.system.files import plain
from recbole_dgrm.system.turns import turn, usual_settings
from recbole_dgrm.training.checkpoints import read_checkpoint
from recbole_dgrm.training.trainers import trainer_class

LOG = logging.getLogger(__name__)
TRAINED_WITH = ("feedback", "eval_args", "split_rounding", "known_share", "refit")  # keys that training depends on


class TrainedRun(Recommender):
    """A finished run: a ``Recommender`` for the users of its data. ``print`` and notebooks show its result table.

    Attributes:
        record: the content of its ``record.json``.
        splits: its split of the data, made again.
    """

    def __init__(self, config, record: dict[str, Any], splits: Splits, model):
        self.record, self.splits = record, splits
        users = splits.train.field2id_token[splits.train.uid_field][1:]
        parts = [splits.triples(part)[:2] for part in ("known", "test")]
        user, item = (np.concatenate(side) for side in zip(*parts, strict=True))
        rated = csr_matrix((np.ones(len(user), bool), (user, item)), (splits.train.user_num, splits.train.item_num))
        super().__init__(config, model, users, splits.train, rated)

    def __repr__(self) -> str:
        return run_table.as_text(self.record)

    def _repr_html_(self) -> str:
        return run_table.as_html(self.record)

    @usual_settings()
    def with_ratings(self, ratings: IntoFrame | Path | str, reading: Reading | None = None) -> Recommender:
        """The same model for other users, from their ratings; nothing is trained.

        Args:
            ratings: a DataFrame or a file with ``user_id``, ``item_id`` and ``rating``, or other usual names of these
                columns; it is checked as by ``convert``. A user of the run may be among the users, and then has only
                these ratings. Ratings of items that the model does not know are dropped, with a warning.
            reading: how to read a file; see ``recbole_dgrm.data.text_tables.Reading``.

        Raises:
            UnknownModel: the model can score only the users that it was trained on.
            DataError: a column is missing, a value cannot be used, a rating lies outside the scale, or no item is
                known.
        """
        read = read_ratings(ratings, reading)
        if not getattr(self.model, "takes_new_users", False):
            able = [name for name, model in registry.MODELS.items() if getattr(model, "takes_new_users", False)]
            what = f"{self.config['model']}{' with orientation=item' if self.config['orientation'] == 'item' else ''}"
            raise UnknownModel(
                f"{what} cannot score users that it was not trained on; train it again with their "
                f"ratings in the data, or use a model that can: {', '.join(able)}"
            )
        if not self.model.implicit:
            self._check_scale(read)
        table = self._known(read.table)
        users, row = np.unique(table["user_id"].to_numpy(str), return_inverse=True)
        column = self.ids("items", table["item_id"]).numpy()
        shape = len(users) + 1, len(self.items)
        matrix = csr_matrix((table["rating"].to_numpy(np.float64), (row + 1, column)), shape)
        return Recommender(self.config, self.model.with_profiles(matrix), users, self.splits.train, matrix)

    def _check_scale(self, read: Ratings) -> None:
        low, high, table = self.splits.scale.low, self.splits.scale.high, read.table
        if (outside := ~table["rating"].between(low, high)).any():
            first = table[outside].iloc[0]
            place = f"{table.index.name} {table.index[outside][0]}: {first['rating']:g} of user {first['user_id']!r}"
            raise DataError(
                f"{read.source}: {outside.sum()} ratings lie outside rating_scale=[{low:g}, {high:g}] of the run, the "
                f"first in {place}; correct them"
            )

    def _known(self, ratings: pd.DataFrame) -> pd.DataFrame:
        """The ratings of items that the model knows, one per user-item pair; warns if others are dropped."""
        is_known = ratings["item_id"].isin(self._positions["items"])
        known, unknown = ratings[is_known], ratings.loc[~is_known, "item_id"]
        if len(known) == 0:
            raise DataError(f"the model knows none of the {unknown.nunique()} rated items")
        if len(unknown):
            lost = ratings["user_id"].nunique() - known["user_id"].nunique()
            text = (
                "%d ratings of %d items that the model does not know are dropped, the first %r; %d users have no other"
            )
            LOG.warning(text, len(unknown), unknown.nunique(), unknown.iloc[0], lost)
        single = known.drop_duplicates(["user_id", "item_id"])
        if repeated := len(known) - len(single):
            LOG.warning("%d rows repeat a user-item pair; the first row of a pair is used", repeated)
        return single

    @turn()
    def evaluate(self, protocol: str | None = None) -> Evaluation:
        """Evaluate the model on the test part again.

        Args:
            protocol: name of a protocol; by default that of the run, which gives the numbers of the record.

        Returns:
            A dict with the keys ``model``, ``dataset``, ``protocol``, ``seed``, ``test``, ``reference``, ``skill`` and
            ``resolution`` of the record; ``print`` and notebooks show it as a table.

        Raises:
            OptionError: the protocol needs another split than that of the run.
        """
        config = self._under(self.record["protocol"] if protocol is None else protocol)
        trainer = trainer_class(type(self.model))(config, self.model)
        result = dict(trainer.evaluate(loaders.eval_loader(config, self.splits, "test")))
        reference = references.measure(config, self.splits)
        named = {key: self.record[key] for key in ("model", "dataset", "seed")} | {"protocol": config.run.protocol}
        skill, resolution = references.skill(result, reference.rows), {"test": reference.resolution}
        rows = {"test": result, "reference": reference.rows, "skill": skill, "resolution": resolution}
        return Evaluation(named | rows)

    def about(self, lists: pd.DataFrame) -> str:
        """A line with the coverage, Gini index, novelty and diversity of the lists that ``recommend`` returned.

        Popularity and similarity are those in training + validation, see ``recbole_dgrm.evaluation.lists``.
        """
        if lists.empty:
            return "the lists are empty"
        items = np.zeros((lists["user"].nunique(), lists["rank"].max()), np.intp)  # 0 fills up shorter lists
        items[pd.factorize(lists["user"])[0], lists["rank"] - 1] = self.ids("items", lists["item"]).numpy()
        return described(Lists(items, self.splits.known.inter_matrix(form="csr")))

    @usual_settings()
    def export(self, folder: Path | str) -> Path:
        """Write the weights and the ids of their rows into a new folder; see ``recbole_dgrm.runs.export.export``."""
        return export(self, Path(folder))

    def _under(self, protocol: str):
        """The config of the run under another protocol."""
        own, other = protocol_layer(self.record["protocol"]), protocol_layer(protocol)
        changes = {key: value for key, value in other.items() if own.get(key) != value}
        tied = [key for key in TRAINED_WITH if key in changes]
        if tied:
            raise OptionError(
                f"protocol={protocol} cannot evaluate a run of protocol={self.record['protocol']}: the two differ in "
                f"{', '.join(tied)}, so the model was trained on another split; train under protocol={protocol}"
            )
        check_scores(self.config.model_class, changes)
        return self.config.replaced(**changes)


@turn()
def load_run(path: Path | str, **where: Any) -> TrainedRun:
    """Load a finished run, to recommend, predict and evaluate again.

    Args:
        path: the directory of the run.
        where: ``data_path`` if the data has moved, ``device`` to use another device.

    Raises:
        CheckpointError: the directory has no finished run, or the checkpoint is of another model.
        DataError: the data has changed since the run was made.
    """
    path = Path(path)
    saved = read_run(path)
    if saved and saved.record["model"] == PREDICTIONS_ONLY:
        raise CheckpointError(f"{path} has only the predictions of another program, and no model to load")
    if saved is None or not (path / CONFIG).is_file():
        raise CheckpointError(f"{path} is not a run directory: it has no record.json with a {CONFIG}")
    if (path / TRIAL).exists():
        raise CheckpointError(
            f"{path} is a trial of a search, and a trial is never tested; train a run with its {CONFIG}"
        )
    if not saved.finished:
        status = f"not finished but {saved.record['status']}"
        raise CheckpointError(f"the run in {path} is {status}; continue with {option('resume', path)}")
    saved.need("data fingerprint")
    given = plain(read_yaml(path / CONFIG))
    if key := changed_key(given, saved.record["config"]):
        raise CheckpointError(
            f"{path / CONFIG} has changed since the run was made: it has {key}={given.get(key)}, {RECORD} has "
            f"{saved.record['config'].get(key)}; put the old value back, or train a new run with --config_files"
        )
    config = load_config([path / CONFIG], where).writing_to(path)
    state = read_checkpoint(path / CHECKPOINT, config["device"])
    splits = build_splits(config)
    if splits.fingerprint() != saved.record["data"]["fingerprint"]:
        raise DataError(
            f"the data of {config['dataset']} has changed since the run in {path} was made, so its ids no longer match "
            "the rows of the model; put the old data back (--data_path=DIR) or train again"
        )
    trainer, _, _ = untrained(config, splits, training_part(config))
    trainer.load(state, best=True)
    return TrainedRun(config, saved.record, splits, trainer.model)


@turn()
def train(
    model: str,
    data: str | IntoFrame,
    *,
    config_files: Iterable[Path | str] | Path | str = (),
    show_progress: bool = False,
    **keys: Any,
) -> TrainedRun:
    """Train, validate and test a model.

    Args:
        model: a name as in ``--model``: ours, one of RecBole's, or ``mypackage.linear:Linear``.
        data: the name of a data set, or a DataFrame of ratings with the columns user, item, rating and perhaps
            timestamp, of pandas, polars or another library that narwhals supports. A DataFrame is written to
            ``<output_dir>/data/``, so that the run can be loaded again later. Results are DataFrames of pandas.
        config_files: YAML files; later ones override earlier ones.
        show_progress: show progress bars on the terminal.
        keys: any config key, such as ``seed=2021`` or ``output_dir="runs"``.

    Returns:
        The finished run, with its record and its best model.

    Raises:
        UserError: something cannot be used; the message has the remedy.
    """
    config = load_config(config_files, run_keys(model, data, keys))
    _, path = experiment.run_one(config, show_progress=show_progress)
    return load_run(path)


def resume(path: Path | str, show_progress: bool = False) -> TrainedRun:
    """Continue a run that was stopped, from its last checkpoint; nothing is trained if it is finished.

    Raises:
        CheckpointError: ``path`` is not the directory of a run.
    """
    experiment.resume(Path(path), show_progress)
    return load_run(path)
