"""Fixtures that every test may use."""

import warnings
from functools import partial
from pathlib import Path

import pytest
import torch

from recbole_dgrm.testing.small import small_config, untrained_model, write_small_sets

torch.set_num_threads(1)
warnings.filterwarnings("ignore")


def pytest_itemcollected(item):
    """The contract marks nothing: to those who test models of their own our marks are unknown."""
    if getattr(item, "originalname", "") == "test_it_learns_the_checkerboard":
        item.add_marker("slow")


@pytest.fixture(scope="session")
def ratings_path(tmp_path_factory) -> Path:
    """A ``data_path`` with the sets ``board`` (checkerboard) and ``noise`` (random ratings)."""
    return write_small_sets(tmp_path_factory.mktemp("data"))


@pytest.fixture
def make_config(ratings_path, tmp_path):
    """``make_config(model, dataset, **overrides)``: a small config that writes below ``tmp_path``."""
    return partial(small_config, ratings_path, tmp_path)


@pytest.fixture
def make_model(make_config):
    """``make_model(model, dataset, **overrides)``: config, splits and an untrained model."""
    return lambda *args, **overrides: untrained_model(make_config(*args, **overrides))
