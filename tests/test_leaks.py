"""No number of the test part reaches a model, and of the validation part only the choice of the epoch.

Each test trains twice, on data sets that differ in one part alone, and compares all that the trainings leave.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from recbole_dgrm.compat.config import Config
from recbole_dgrm.errors import DataError, OptionError
from recbole_dgrm.models.registry import MODELS
from recbole_dgrm.records import CHECKPOINT
from recbole_dgrm.runs.experiment import run_one, validate_one
from recbole_dgrm.testing.small import small_config
from recbole_dgrm.training.checkpoints import read_checkpoint

N_USERS, N_ITEMS, LEVELS = 24, 25, 5
SHARES = {"train": 0.4, "valid": 0.05, "test": 0.05}
PARTS = {"benchmark_filename": list(SHARES)}
POPULAR = {"train_neg_sample_args": {"distribution": "popularity", "sample_num": 1}}
PROTOCOLS = ("rated", "eq23", "table3", "temporal", "full")
FAST = ("MF", "DGRM", "BPR", "Pop")
OF_RECBOLE = (
    "ADMMSLIM AsymKNN BPR CDAE ConvNCF DGCF DiffRec DMF EASE ENMF FISM GCMC ItemKNN LDiffRec LightGCN LINE MacridVAE "
    "MultiDAE MultiVAE NAIS NCEPLRec NCL NeuMF NGCF NNCF Pop RaCT Random RecVAE SGL SimpleX SLIMElastic SpectralCF"
).split()


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


@pytest.fixture
def configs(tmp_path) -> Callable[..., list[Config]]:
    """``configs(changed, model, protocol, **keys)``: two configs, of data that differ in the ``changed`` part."""

    def make(changed: str, model: str, protocol: str = "rated", **keys: Any) -> list[Config]:
        whole = protocol == "temporal"
        folders = [write(tmp_path / (name or "same"), parts(name), whole) for name in ("", changed)]
        if (model, protocol) == ("MF", "full"):
            keys = {"unrated_weight": 0.1, **keys}
        given = {"protocol": protocol, **({} if whole else PARTS), **keys}
        return [small_config(folder, folder / "out", model, "set", **given) for folder in folders]

    return make


def flat(value: Any, name: str = "") -> dict[str, Any]:
    """The leaves of nested mappings and lists by their paths."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
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
        same = torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key]
        assert same or value != value, key


def of(models, keys: list[tuple[str, dict[str, Any]]]) -> list:
    """Parameters ``(model, protocol, keys)``; all but the fast models are slow."""
    marks = {model: () if model in FAST else (pytest.mark.slow,) for model in models}
    return [
        pytest.param(model, protocol, more, marks=marks[model], id=f"{model}-{protocol}-{'popular' if more else 'plain'}")
        for model in models
        for protocol, more in keys
    ]


CASES = [
    *of(MODELS, [(protocol, {}) for protocol in PROTOCOLS]),
    *of(["NCF"], [("full", POPULAR)]),
    *of([model for model in OF_RECBOLE if model not in MODELS], [("full", {}), ("full", POPULAR), ("temporal", {})]),
]


@pytest.mark.parametrize(("model", "protocol", "keys"), CASES)
def test_the_test_part_reaches_no_weight(model, protocol, keys, configs):
    one, other = (left(run_one(config)[1]) for config in configs("test", model, protocol, **keys))
    assert_equal(one, other)
