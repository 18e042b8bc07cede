"""Fixtures that every test may use."""

import os
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

os.environ.setdefault("OMP_NUM_THREADS", "1")  # also for the processes that tests start: each core has a test already
torch.set_num_threads(1)
warnings.filterwarnings("ignore")


SHARING = ("test_distributed.py", "test_trained_run.py", "test_forged.py")  # an expensive fixture, for all their tests


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow tests first, so that none is left over when the other processes have nothing more to do."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Deal tests one by one to whichever process is free; only the files of ``SHARING`` stay whole."""
    from xdist.scheduler import LoadScopeScheduling  # here, so that -p no:xdist works without it

    class OneByOne(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.split("::")[0]
            return file if file.endswith(SHARING) else nodeid

    return OneByOne(config, log)


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
        return config.writing_to(tmp_path)

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
