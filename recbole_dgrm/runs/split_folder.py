"""A split as plain files, so that models of other libraries learn from it and are judged as ours are."""

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from recbole_dgrm.config.layers import load_config
from recbole_dgrm.config.values import read_yaml
from recbole_dgrm.data import dataset
from recbole_dgrm.data.convert import run_keys
from recbole_dgrm.data.splits import PARTS, Splits, build_splits
from recbole_dgrm.errors import DataError, OptionError
from recbole_dgrm.evaluation import selection
from recbole_dgrm.models import registry
from recbole_dgrm.options import option
from recbole_dgrm.records import CONFIG, read_json, write_config
from recbole_dgrm.runs.export import check_new
from recbole_dgrm.start import __version__
from recbole_dgrm.system.files import check_writable, write_folder, write_json
from recbole_dgrm.system.turns import turn

LOG = logging.getLogger(__name__)
SPLIT = "split.json"
BASIS = "MF"  # every config names a model; the split is the same for all


@turn()
def split(
    data: str | pd.DataFrame, folder: Path | str, *, config_files: Iterable[Path | str] | Path | str = (), **keys: Any
) -> Path:
    """Write a split into a new folder: ``train.csv``, ``valid.csv``, ``test.csv``, ``split.json`` and ``config.yaml``.

    ``split.json`` says what the split is, and by which metric the protocol selects; ``config.yaml`` has its keys, so
    that a model of ours can be trained on the same split with ``config_files``.

    Args:
        data: the name of a data set, or a DataFrame of ratings; as in ``train``.
        folder: a new one.
        keys: any config key but ``model``, such as ``seed=2021``.

    Returns:
        The folder.

    Raises:
        OptionError: the folder exists, or the protocol ranks all items.
        DataError: the data cannot be used.
    """
    if "model" in keys:
        raise OptionError(f"model={keys['model']}: a split has no model; leave it out")
    write_split(load_config(config_files, run_keys(BASIS, data, keys)), Path(folder))
    return Path(folder)


def write_split(config, folder: Path) -> dict[str, Any]:
    """Write the split of ``config``, whole or not at all; returns the content of ``split.json``.

    The columns are ``user``, ``item``, ``rating`` and, where the data has times, ``timestamp``; ids are the data's own.

    Raises:
        OptionError: see ``split``.
    """
    check_labeled(config)
    check_new(folder)
    check_writable(folder, "output")
    whole = dataset.RatingDataset(config)
    times = _times(whole)
    splits = build_splits(config, dataset=whole)
    selects = selection.settled(config, splits)[0]["valid_metric"]
    about = {"recbole_dgrm": __version__, **splits.described(), "selects": selects}

    def write(partial: Path) -> None:
        for part in PARTS:
            _table(splits, part, times).to_csv(partial / f"{part}.csv", index=False)
        write_config(partial, judged_keys(config))
        write_json(partial / SPLIT, about)

    write_folder(folder, write)
    return about


def read_split(folder: Path, **where: Any) -> tuple[Any, Splits]:
    """The config of a split, and the split, made again from the data.

    Args:
        where: ``data_path`` if the data has moved.

    Raises:
        DataError: the folder holds no split, or the data has changed.
    """
    path = folder / SPLIT
    if not path.is_file():
        made = f"recbole-dgrm split --dataset=D {option('output', folder)}"
        raise DataError(f"{folder} holds no split: it has no {SPLIT}; make one with {made}")
    about = read_json(path, "the description of a split", "make the split again", ["fingerprint"])
    config = load_config(folder / CONFIG, {"model": BASIS, **where})
    check_labeled(config)
    splits = build_splits(config)
    if (found := splits.fingerprint()) != about["fingerprint"]:
        raise DataError(
            f"the data of {config['dataset']} now gives another split ({found}) than that in {folder} "
            f"({about['fingerprint']}); put the old data back (--data_path=DIR) or make the split again"
        )
    return config, splits


def check_labeled(config) -> None:
    """Refuse a protocol that ranks all items, which predictions of test pairs cannot answer."""
    if config["eval_args"]["mode"]["test"] != "labeled":
        raise OptionError(
            f"protocol={config.run.protocol} ranks all items that a user has not seen, and predictions for the test "
            "pairs do not say how; take rated, table3 or eq23"
        )


def judged_keys(config) -> dict[str, Any]:
    """The keys of a config without those of a model."""
    own = {"model", *read_yaml(registry.defaults_file(BASIS))}
    return {key: value for key, value in config.given.items() if key not in own}


def _times(whole: dataset.RatingDataset) -> pd.Series | None:
    """The times of user-item pairs as the data has them; the parts of a split hold them in float32."""
    if whole.time_field not in whole.inter_feat:
        return None
    return whole.inter_feat.set_index([whole.uid_field, whole.iid_field])[whole.time_field]


def _table(splits: Splits, part: str, times: pd.Series | None) -> pd.DataFrame:
    user, item, _ = splits.triples(part)
    of_part = getattr(splits, part)
    names = [of_part.field2id_token[field] for field in (of_part.uid_field, of_part.iid_field)]
    rating = of_part.inter_feat[of_part.config["RATING_FIELD"]].numpy()  # in float32, whose shortest text is 3.7
    table = pd.DataFrame({"user": names[0][user], "item": names[1][item], "rating": rating})
    if times is not None:
        time = times.loc[pd.MultiIndex.from_arrays([user, item])].to_numpy()
        table["timestamp"] = time.astype("int64") if (time % 1 == 0).all() else time
    return table
