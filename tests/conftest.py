"""Fixtures that every test may use."""

import os
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch

from recbole_dgrm.testing.small import small_config, untrained_model, write_small_sets

os.environ.setdefault("OMP_NUM_THREADS", "1")  # also for the processes that tests start: each core has a test already
torch.set_num_threads(1)
warnings.filterwarnings("ignore")


# an expensive fixture, for all their tests
SHARING = ("test_cluster.py", "test_distributed.py", "test_trained_run.py", "test_threads.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow tests first, so that none is left over when the other processes have nothing more to do."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Deal tests one by one to whichever process is free; the files of ``SHARING`` and classes stay whole."""
    from xdist.scheduler import LoadScopeScheduling  # here, so that -p no:xdist works without it

    class OneByOne(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, *inner = nodeid.split("::")
            if file.endswith(SHARING):
                return file
            return f"{file}::{inner[0]}" if len(inner) > 1 else nodeid

    return OneByOne(config, log)


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
