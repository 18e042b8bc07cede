"""Small data sets and configs, and what several tests do."""

import csv
import time
from pathlib import Path

import numpy as np
import pandas as pd

import recbole_dgrm

ROOT = Path(recbole_dgrm.__file__).parent.parent
SMALL = {
    "generator_hidden": [16],
    "critic_hidden": [8],
    "discriminator_hidden": [8],
    "dims_dnn": [16],
    "n_negatives": 3,
    "record_items": 4,
    "latent_size": 4,
    "train_batch_size": 8,
    "epochs": 2,
    "eval_step": 1,
    "device": "cpu",
    "checkpoint_interval": 0,
}


def write_ratings(folder: Path, name: str, table: pd.DataFrame) -> Path:
    """Lay ``table`` (user_id, item_id, rating, timestamp) out as ``folder/name/name.inter``; returns the file."""
    path = folder / name / f"{name}.inter"
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ["user_id:token", "item_id:token", "rating:float", "timestamp:float"]
    table.to_csv(path, sep="\t", index=False, header=names[: table.shape[1]], quoting=csv.QUOTE_NONE)
    return path


def checkerboard(n_users: int = 40, n_items: int = 30, share: float = 0.6) -> pd.DataFrame:
    """Two kinds of users and of items: like meets like with 5, else 1. What is not given is known."""
    rng = np.random.default_rng(0)
    user, item = np.divmod(np.arange(n_users * n_items), n_items)
    given = rng.random(len(user)) < share
    rating = np.where(user % 2 == item % 2, 5.0, 1.0)
    return pd.DataFrame({"user_id": user, "item_id": item, "rating": rating})[given].reset_index(drop=True)


def random_ratings(n_users: int = 30, n_items: int = 25, share: float = 0.5, seed: int = 0) -> pd.DataFrame:
    """Independent ratings 1..5."""
    rng = np.random.default_rng(seed)
    user, item = np.divmod(np.flatnonzero(rng.random(n_users * n_items) < share), n_items)
    return pd.DataFrame({"user_id": user, "item_id": item, "rating": rng.integers(1, 6, len(user)).astype(float)})


def wait_for(condition, seconds: float = 90):
    """What ``condition()`` returns as soon as it is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)
    return found
