"""Small data sets, configs and models, with which a training takes seconds."""

import csv
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from recbole_dgrm.compat.config import Config
from recbole_dgrm.config.layers import load_config
from recbole_dgrm.data.splits import Splits, build_splits
from recbole_dgrm.evaluation import selection
from recbole_dgrm.models import registry
from recbole_dgrm.options import RunOptions

SMALL = {
    "generator_hidden": [16],
    "critic_hidden": [8],
    "discriminator_hidden": [8],
    "dims_dnn": [16],
    "n_negatives": 3,
    "record_items": 4,
    "latent_size": 4,
    "burn_in": 1,
    "blend_sweeps": 17,
    "blend_factors": 2,
    "train_batch_size": 8,
    "epochs": 2,
    "eval_step": 1,
    "device": "cpu",
    "checkpoint_interval": 0,
}  # a config gets those keys that its model has


def write_ratings(folder: Path, name: str, table: pd.DataFrame) -> Path:
    """Write ``table`` (user_id, item_id, rating, timestamp) to ``folder/name/name.inter``; returns the file."""
    path = folder / name / f"{name}.inter"
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    table.to_csv(path, sep="\t", index=False, header=names[: table.shape[1]], quoting=csv.QUOTE_NONE)
    return path


def checkerboard(n_users: int = 40, n_items: int = 30, share: float = 0.6) -> pd.DataFrame:
    """Two kinds of users and of items: a user rates items of the same kind with 5 and others with 1.

    Only a random ``share`` of these ratings is in the table.
    """
    rng = np.random.default_rng(0)
    user, item = np.divmod(np.arange(n_users * n_items), n_items)
    given = rng.random(len(user)) < share
    rating = np.where(user % 2 == item % 2, 5.0, 1.0)
    return pd.DataFrame({"user_id": user, "item_id": item, "rating": rating})[given].reset_index(drop=True)


def random_ratings(n_users: int = 30, n_items: int = 25, share: float = 0.5, seed: int = 0) -> pd.DataFrame:
    """Ratings from 1 to 5 that are independent of user and item."""
    rng = np.random.default_rng(seed)
    user, item = np.divmod(np.flatnonzero(rng.random(n_users * n_items) < share), n_items)
    return pd.DataFrame({"user_id": user, "item_id": item, "rating": rng.integers(1, 6, len(user)).astype(float)})


def write_small_sets(folder: Path) -> Path:
    """Make ``folder`` a ``data_path`` with the sets ``board`` (a checkerboard) and ``noise`` (random ratings)."""
    write_ratings(folder, "board", checkerboard())
    write_ratings(folder, "noise", random_ratings())
    return folder


def small_config(
    data_path: Path, folder: Path, /, model: str = "DGRM", dataset: str = "noise", **overrides: Any
) -> Config:
    """The config of a small run that reads from ``data_path`` and writes into ``folder``."""
    own = {field.name for field in fields(RunOptions)}
    if registry.declares_options(model):
        own |= {field.name for field in fields(registry.model_class(model).Options)}
    small = {key: value for key, value in SMALL.items() if key in own}
    given = {"data_path": str(data_path), "output_dir": str(folder / "runs"), **small, **overrides}
    return load_config(config_dict={"model": model, "dataset": dataset, **given}).writing_to(folder)


def untrained_model(config: Config) -> tuple[Config, Splits, Any]:
    """The config, its splits and an untrained model."""
    splits = build_splits(config)
    config, _ = selection.with_chosen_metric(config, splits)
    torch.manual_seed(config["seed"])
    return config, splits, registry.model_class(config["model"])(config, splits.train)
