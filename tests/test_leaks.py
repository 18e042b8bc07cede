"""No number of the test part reaches a model, and of the validation part only the choice of the epoch.

Trainings on data sets that differ in one part alone must leave the same.
"""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import ratings_of
from recbole.model import general_recommender

from recbole_dgrm.compat.config import Config
from recbole_dgrm.data import loaders
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.errors import DataError, OptionError
from recbole_dgrm.models.registry import MODELS
from recbole_dgrm.records import CHECKPOINT
from recbole_dgrm.runs.experiment import run_one
from recbole_dgrm.runs.trial import Trial
from recbole_dgrm.testing.small import small_config
from recbole_dgrm.training.checkpoints import read_checkpoint

N_USERS, N_ITEMS, LEVELS = 24, 25, 5
SHARES = {"train": 0.4, "valid": 0.05, "test": 0.05}
PARTS = {"benchmark_filename": list(SHARES)}
POPULAR = {"train_neg_sample_args": {"distribution": "popularity", "sample_num": 1}}
KEYS = {("MF", "full"): {"unrated_weight": 0.1}}
NOT_TRAINED = {"NCL", "RaCT", "Random"}  # they need another library, the weights of a run before, and nothing
OF_RECBOLE = [
    name
    for name, kind in vars(general_recommender).items()
    if isinstance(kind, type) and name not in NOT_TRAINED.union(MODELS)
]
QUICK = [("MF", protocol, {}) for protocol in ("eq23", "table3", "rated", "temporal", "full")]
QUICK += [("BPR", "temporal", {}), ("BPR", "full", {}), ("BPR", "full", POPULAR), ("Pop", "full", {})]
OTHERS = [(model, protocol, {}) for model in MODELS for protocol in ("rated", "full") if model != "MF"]
OTHERS.remove(("BMF", "full", {}))  # a model of ratings
OTHERS += [("DGRM", "temporal", {}), ("NCF", "full", POPULAR)]


def parts(changed: str = "") -> dict[str, pd.DataFrame]:
    """Ratings by part; of the ``changed`` part the pairs, ratings and times are others, of the same users and items.

    Every user, item and level occurs in each training part, so that numbers of ids and the scale are the same.
    """
    rng = np.random.default_rng(0)
    cells = rng.permutation(N_USERS * N_ITEMS)
    first = np.arange(N_USERS * N_ITEMS).reshape(N_USERS, N_ITEMS)[np.arange(N_USERS), np.arange(N_USERS) % N_ITEMS]
    cells = np.concatenate([first, cells[~np.isin(cells, first)]])
    ends = np.cumsum([int(share * len(cells)) for share in SHARES.values()])
    tables, free = {}, cells[ends[-1] :]
    for number, (name, cell) in enumerate(zip(SHARES, np.split(cells, ends)[:-1], strict=True)):
        if name == changed:
            rng = np.random.default_rng(1)
            cell = rng.permutation(free)[: len(cell)]
        user, item = np.divmod(cell, N_ITEMS)
        rating = rng.permutation(np.arange(len(cell)) % LEVELS + 1.0)
        time = 1000 * number + np.sort(rng.choice(1000, len(cell), replace=False)) + 1e9
        tables[name] = pd.DataFrame({"user_id": user, "item_id": item, "rating": rating, "timestamp": time})
    return tables


def write(folder: Path, tables: dict[str, pd.DataFrame], whole: bool = False) -> Path:
    """A ``data_path`` with the data set ``set`` in three files, or in one."""
    (folder / "set").mkdir(parents=True)
    header = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    files = {"": pd.concat(tables.values())} if whole else {f".{name}": table for name, table in tables.items()}
    for name, table in files.items():
        table.to_csv(folder / "set" / f"set{name}.inter", sep="\t", index=False, header=header)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Callable[..., Path]:
    """``data(changed, whole)``: a ``data_path`` whose data set differs from that of ``data()`` in one part."""

    @cache
    def make(changed: str = "", whole: bool = False) -> Path:
        return write(tmp_path_factory.mktemp("data"), parts(changed), whole)

    return make


@pytest.fixture
def config(data, tmp_path) -> Callable[..., Config]:
    """``config(changed, model, protocol, **keys)``: the config of a small run on ``data(changed)``."""

    def make(changed: str, model: str, protocol: str = "rated", **keys: Any) -> Config:
        whole = protocol == "temporal"
        batch = {} if model in MODELS else {"train_batch_size": 64}
        given = {"protocol": protocol, **({} if whole else PARTS), **KEYS.get((model, protocol), {}), **batch, **keys}
        return small_config(data(changed, whole), tmp_path, model, "set", **given)

    return make


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """The leaves of nested mappings and sequences by their paths."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, (list, tuple)) else None
    if pairs is None:
        return {name: value}
    return {place: leaf for key, part in pairs for place, leaf in flat(part, f"{name}/{key}").items()}


def left(path: Path, *fields: str) -> dict[str, Any]:
    """Some fields of the checkpoint in a directory, all but the fingerprint of the data by default."""
    state = read_checkpoint(path / CHECKPOINT, torch.device("cpu"))
    state["note"].pop("fingerprint")
    return flat({field: state[field] for field in fields or state})


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    assert any(isinstance(value, torch.Tensor) and value.numel() for value in one.values())
    for key, value in one.items():
        np.testing.assert_array_equal(value, other[key], key)


def left_by(config: Config, *fields: str) -> dict[str, Any]:
    """What a trial of a search leaves, which ends before the test."""
    return left(run_one(config, trial=Trial({}, {}))[1], *fields)


@pytest.mark.parametrize(
    ("model", "protocol", "keys"),
    [*QUICK, *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS)],
    ids=lambda value: value if isinstance(value, str) else "-".join(value),
)
def test_neither_the_test_part_nor_the_validation_part_reaches_a_weight(model, protocol, keys, config):
    """A search, which does not read the test part, leaves what a run with another test part leaves.

    The validation part does not change the last weights after a fixed number of epochs, except for what the models
    choose by it: the share of DGRMPlus, and the epoch from which PRGAN goes on, as its paper has it.
    """
    keys = {"refit": False, "stopping_step": 100, **keys}
    path = run_one(config("", model, protocol, **keys))[1]
    assert_equal(left(path), left_by(config("test", model, protocol, **keys)))
    if model != "PRGAN":
        last = "state_dict", "other", "optimizer", "random"
        found = [left(path, *last), left_by(config("valid", model, protocol, **keys), *last)]
        for weights in found:
            weights.pop("/state_dict/share", None)
        assert_equal(*found)


@pytest.mark.parametrize("model", ["MF", pytest.param("DGRMPlus", marks=pytest.mark.slow)])
def test_the_test_part_reaches_no_weight_of_the_refit(model, config):
    assert_equal(*(left(run_one(config(changed, model, refit=True))[1]) for changed in ("", "test")))


@pytest.mark.slow
@pytest.mark.parametrize("model", OF_RECBOLE)
def test_the_test_part_reaches_no_weight_of_a_model_of_recbole(model, config):
    keys = {**POPULAR, "epochs": 1, "refit": False}
    path = run_one(config("", model, "full", **keys))[1]
    assert_equal(left(path), left_by(config("test", model, "full", **keys)))


def test_ratings_of_the_test_part_of_one_file_reach_no_weight(tmp_path):
    table = pd.concat(parts().values(), ignore_index=True)
    folders = [write(tmp_path / "same", {"": table}, whole=True)]
    splits = build_splits(small_config(folders[0], tmp_path, "MF", "set"))
    pairs = pd.MultiIndex.from_frame(table[["user_id", "item_id"]].astype(str))
    table["rating"] = table["rating"].where(~pairs.isin(list(ratings_of(splits, "test"))), 1 + table["rating"] % LEVELS)
    folders.append(write(tmp_path / "test", {"": table}, whole=True))
    assert_equal(*(left(run_one(small_config(folder, folder / "out", "MF", "set"))[1]) for folder in folders))


def test_ratings_that_lack_a_number_are_refused_where_it_would_be_a_mean_of_all_parts(tmp_path):
    tables = parts()
    tables["train"].loc[::5, "rating"] = np.nan
    folder = write(tmp_path, tables)
    config = small_config(folder, folder / "out", "DMF", "set", protocol="full", inter_matrix_type="rating", **PARTS)
    with pytest.raises(DataError, match=r"values of rating are not numbers, .* leave the column out \(load_col\)"):
        build_splits(config)


def test_the_bins_of_a_continuous_scale_are_those_of_the_training_file(tmp_path):
    scales = []
    for shift in (0, 1):
        tables = {part: table.assign(rating=np.linspace(1, 5, len(table))) for part, table in parts().items()}
        tables["test"]["rating"] = tables["test"]["rating"].clip(1 + shift, 5)
        folder = write(tmp_path / str(shift), tables)
        scales.append(build_splits(small_config(folder, folder / "out", "MF", "set", **PARTS)).scale)
    assert scales[0].continuous
    assert scales[0] == scales[1]


def test_popular_negatives_are_drawn_by_the_training_part_alone(config):
    """Each item by its training ratings, and none that a user has rated there."""
    given = config("", "BPR", "full", **POPULAR)
    splits = build_splits(given)
    sampler = loaders.train_loader(given, splits, "train")._sampler
    user, item, _ = splits.triples("train")
    count = np.bincount(item, minlength=N_ITEMS + 1)
    drawn = np.bincount(sampler.sampling(200_000), minlength=N_ITEMS + 1)
    np.testing.assert_allclose(drawn / drawn.sum(), count / count.sum(), atol=0.005)
    assert all(sampler.used_ids[one] == set(item[user == one]) for one in range(1, N_USERS + 1))


@pytest.mark.parametrize("keys", [{}, POPULAR])
def test_a_user_for_whom_no_negative_is_left_is_an_error_before_the_training(keys, tmp_path):
    """Of the items that can be drawn: with popular negatives those that have a rating in training."""
    every, tables = (N_ITEMS if not keys else 20), parts()
    tables["train"] = pd.DataFrame({"user_id": 0, "item_id": np.arange(every), "rating": 3.0, "timestamp": 1e9})
    folder = write(tmp_path / "set", tables)
    config = small_config(folder, tmp_path, "BPR", "set", protocol="full", **PARTS, **keys)
    with pytest.raises(DataError, match=rf"have rated all {every}\b.*leave these users out"):
        run_one(config)


def test_what_the_refit_cannot_draw_is_an_error_before_the_first_training(tmp_path):
    tables = parts()
    rest = np.setdiff1d(np.arange(N_ITEMS), tables["train"].query("user_id == 0")["item_id"])
    tables["valid"] = pd.DataFrame({"user_id": 0, "item_id": rest, "rating": 3.0, "timestamp": 1e9})
    folder = write(tmp_path / "set", tables)
    config = small_config(folder, tmp_path, "BPR", "set", protocol="full", refit=True, **PARTS)
    with pytest.raises(DataError, match=f"have rated all {N_ITEMS};"):
        run_one(config, tmp_path / "run")
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    "keys",
    [{"normalize_all": True}, {"normalize_field": ["timestamp"]}, {"discretization": {"timestamp": {"method": "ED"}}}],
)
def test_a_key_that_would_measure_numbers_of_all_parts_is_refused(keys, config):
    with pytest.raises(OptionError, match=next(iter(keys))):
        config("", "MF", **keys)
