"""Scripts made of RecBole's own functions, after ``register``."""

import logging
import pickle

import pytest
import recbole.config
import torch
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

from recbole_dgrm import plugin
from recbole_dgrm.compat.config import Config
from recbole_dgrm.data.loaders import ProfileLoader, RankingLoader, RatedLoader
from recbole_dgrm.errors import DataError, OptionError
from recbole_dgrm.models import registry
from recbole_dgrm.runs.experiment import run_one
from recbole_dgrm.training.trainers import trainer_class

OURS = [name for name in registry.MODELS if name != "DiffRec"]  # that of RecBole stays RecBole's there
FULL = {"metrics": ["NDCG"], "topk": [3], "valid_metric": "NDCG@3", "epochs": 2}


@pytest.fixture(autouse=True)
def registered(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["script.py"])
    monkeypatch.setattr(recbole.config.Config, "__init__", recbole.config.Config.__init__)
    plugin.register()
    plugin.register()


def script(config):
    """What RecBole's quick start does; the loaders, the trainer and the result of the test."""
    init_seed(config["seed"], config["reproducibility"])
    parts = data_preparation(config, create_dataset(config))
    model = get_model(config["model"])(config, parts[0].dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    trainer.fit(parts[0], parts[1], show_progress=False)
    return parts, trainer, trainer.evaluate(parts[2], show_progress=False)


def keys(ratings_path, **more):
    return {"data_path": str(ratings_path), "output_dir": "runs", "epochs": 2, "dataset": "board", **more}


def test_recbole_finds_our_models_trainers_and_metrics_by_name():
    from recbole.evaluator import metrics_dict

    for name in OURS:
        assert get_model(name) is registry.MODELS[name]
        assert get_trainer(get_model(name).type, name) is trainer_class(get_model(name))
    assert get_model("DiffRec").__module__.startswith("recbole.")
    assert registry.model_class("DiffRec") is registry.MODELS["DiffRec"]
    assert {"ratedrecall", "ratedndcg", "ratingkl"} <= set(metrics_dict)


@pytest.mark.parametrize("name", OURS)
def test_a_script_runs_our_models_with_our_loaders(name, ratings_path):
    given = keys(ratings_path, protocol="rated", valid_metric="RMSE")
    if name == "BMF":
        given |= {"burn_in": 1, "eval_step": 2}
    (train, valid, test), trainer, result = script(recbole.config.Config(model=name, config_dict=given))
    assert isinstance(trainer, trainer_class(registry.MODELS[name]))
    assert isinstance(valid, RatedLoader)
    assert isinstance(test, RatedLoader)
    assert isinstance(train, ProfileLoader) == (name != "NCF")
    assert 0 < result["rmse"] < 4


@pytest.mark.parametrize("name", ["DGRM", "MF", "NCF"])
def test_a_script_ranks_all_items_by_default(name, ratings_path):
    given = keys(ratings_path) | FULL | ({"unrated_weight": 0.1} if name == "MF" else {})
    (_, valid, test), _, result = script(recbole.config.Config(name, "board", None, given))
    assert isinstance(test, RankingLoader)
    assert test.history.nnz > valid.history.nnz  # the items of validation are no candidates of the test
    assert 0 < result["ndcg@3"] <= 1


def test_a_script_gives_the_numbers_of_a_run(ratings_path):
    given = keys(ratings_path, protocol="rated", refit=False, valid_metric="RMSE")
    config = recbole.config.Config(model=registry.MODELS["MF"], config_dict=given)
    _, _, result = script(config)
    record, _ = run_one(config.replaced(checkpoint_dir=None))
    assert dict(result) == record.test


def test_a_config_that_is_one_of_ours_is_checked_and_names_a_metric(ratings_path, tmp_path, caplog):
    with pytest.raises(OptionError, match="unknown key 'generator_hiden'"):
        recbole.config.Config("DGRM", "board", config_dict=keys(ratings_path, generator_hiden=[3]))
    file = tmp_path / "keys.yaml"
    file.write_text("model: MF\nprotocol: rated\n")
    with caplog.at_level(logging.WARNING):
        config = recbole.config.Config(config_file_list=[file], config_dict=keys(ratings_path))
    assert isinstance(config, Config)
    assert config["valid_metric"] == "RatedNDCG@5"
    assert "RatedNDCG@5 is used" in caplog.text


def test_recboles_own_models_run_in_a_script_and_load_what_they_saved(ratings_path):
    given = keys(ratings_path, checkpoint_dir="saved", embedding_size=4, load_col=None, **FULL)
    config = recbole.config.Config(model="BPR", config_dict=given)
    assert type(config) is recbole.config.Config
    _, trainer, result = script(config)
    saved = torch.load(trainer.saved_model_file, weights_only=True)
    assert saved["config"] == {"model": "BPR"}
    assert 0 < result["ndcg@3"] <= 1
    trainer.resume_checkpoint(trainer.saved_model_file)


def test_a_metric_that_recboles_trainers_cannot_compute_is_refused(ratings_path):
    with pytest.raises(OptionError, match=r"cannot compute GiniIndex; recbole_dgrm\.train\('BPR', 'board'\)"):
        recbole.config.Config(model="BPR", config_dict=keys(ratings_path, metrics=["NDCG", "GiniIndex"]))


def test_nothing_that_recboles_config_is_given_is_run(ratings_path):
    bomb = "__import__('pathlib').Path('ran').touch()"
    given = keys(ratings_path, note=bomb, width="[1, 2]", rate="1e-3", deep="True", low="false", none="None")
    config = recbole.config.Config(model="BPR", config_dict=given)
    assert config["note"] == bomb
    assert (config["width"], config["rate"], config["deep"], config["low"]) == ([1, 2], 1e-3, True, False)
    assert config["none"] is None


def test_a_pickled_data_set_is_refused(ratings_path, tmp_path):
    (tmp_path / "set.pth").write_bytes(pickle.dumps({}))
    given = keys(ratings_path, dataset_save_path=str(tmp_path / "set.pth"))
    with pytest.raises(DataError, match=r"set\.pth is a pickled data set"):
        create_dataset(recbole.config.Config(model="BPR", config_dict=given))
