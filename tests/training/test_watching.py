"""What docs/watching.md says of Weights & Biases, with a module in its place that keeps what it is given."""

import sys
from types import SimpleNamespace

import pytest
import torch.utils.tensorboard.writer as tensorboard

import recbole_dgrm as rd

STAND_IN = '''
"""Weights & Biases, as far as RecBole calls it."""
from types import SimpleNamespace

run, logged, given = None, [], {}


def init(project, config):
    global run
    run = SimpleNamespace(summary={})
    given.update(project=project, config=config)


def define_metric(name, step_metric): ...


def log(values, commit):
    logged.append(values)
'''


@pytest.fixture
def wandb(tmp_path, monkeypatch):
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "wandb.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path / "modules")
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    import wandb

    yield wandb
    sys.modules.pop("wandb")


@pytest.fixture
def keys(ratings_path, tmp_path):
    return {"data_path": str(ratings_path), "output_dir": str(tmp_path / "runs"), "device": "cpu", "epochs": 2}


def test_recboles_logger_gets_losses_validation_and_the_test(wandb, keys):
    run = rd.train("ICDAE", "noise", log_wandb=True, wandb_project="ratings", refit=False, **keys)
    assert wandb.given["project"] == "ratings"
    trained = [values for values in wandb.logged if any(key.startswith("train/") for key in values)]
    validated = [values for values in wandb.logged if "valid/ratedndcg@5" in values]
    assert len(trained) == len(validated) == 2
    for name, value in run.record["test"].items():
        assert wandb.run.summary[f"eval/{name}"] == pytest.approx(value)


def test_events_go_through_the_writer_that_is_synced(keys, monkeypatch):
    """``sync_tensorboard`` replaces the class that TensorBoard's writers write with, wherever it was imported."""
    seen = []

    class Synced(tensorboard.EventFileWriter):
        def add_event(self, event):
            seen.append(SimpleNamespace(folder=self.get_logdir(), names=[value.tag for value in event.summary.value]))
            super().add_event(event)

    monkeypatch.setattr(tensorboard, "EventFileWriter", Synced)
    rd.train("ICDAE", "noise", **keys)
    for stage, wanted in {"select": {"valid/ratedndcg@5", "valid/rmse"}, "refit": set()}.items():
        names = {name for event in seen if str(event.folder).endswith(f"events/{stage}") for name in event.names}
        assert names >= wanted, stage
        assert any("loss" in name for name in names), stage
