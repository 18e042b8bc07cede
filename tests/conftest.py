"""Fixtures that every test may use."""

import warnings
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from helpers import SMALL, checkerboard, random_ratings, write_ratings

from recbole_dgrm.config.layers import load_config
from recbole_dgrm.data import dataset as datasets
from recbole_dgrm.models import registry
from recbole_dgrm.options import RunOptions

torch.set_num_threads(1)
warnings.filterwarnings("ignore")


@pytest.fixture(scope="session")
def ratings_path(tmp_path_factory) -> Path:
    """A ``data_path`` with the sets ``board`` (checkerboard) and ``noise`` (random ratings)."""
    folder = tmp_path_factory.mktemp("data")
    write_ratings(folder, "board", checkerboard())
    write_ratings(folder, "noise", random_ratings())
    return folder


@pytest.fixture
def make_config(ratings_path, tmp_path):
    """``make_config(model, dataset, **overrides)``: a small config that writes below ``tmp_path``."""

    def make(model: str = "DGRM", dataset: str = "noise", **overrides):
        own = {field.name for field in fields(RunOptions)}
        if model in registry.MODELS:
            own |= {field.name for field in fields(registry.MODELS[model].Options)}
        small = {key: value for key, value in SMALL.items() if key in own}
        given = {"data_path": str(ratings_path), "output_dir": str(tmp_path / "runs"), **small, **overrides}
        config = load_config(config_dict={"model": model, "dataset": dataset, **given})
        config["checkpoint_dir"] = str(tmp_path)
        return config

    return make


@pytest.fixture
def make_model(make_config):
    """``make_model(model, dataset, **overrides)``: config, splits and an untrained model."""

    def make(*args, **overrides):
        config = make_config(*args, **overrides)
        splits = datasets.build(config)
        torch.manual_seed(config["seed"])
        return config, splits, registry.model_class(config["model"])(config, splits.train)

    return make
