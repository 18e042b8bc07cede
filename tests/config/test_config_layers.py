"""Layers, unknown keys, values out of range, safety of parsing."""

import sys
from dataclasses import fields

import pytest
import torch
import yaml

from recbole_dgrm.config.layers import load_config
from recbole_dgrm.config.recbole_keys import REFUSED
from recbole_dgrm.config.values import parse_value, read_yaml
from recbole_dgrm.errors import OptionError, UnknownModel
from recbole_dgrm.models import registry
from recbole_dgrm.options import RunOptions
from recbole_dgrm.system.yaml_files import properties_dir

BASE = {"model": "DGRM", "dataset": "ml-100k"}


def config(**overrides):
    return load_config(config_dict={**BASE, **overrides})


def test_layers_win_in_the_documented_order(tmp_path):
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("epochs: 11\nseed: 11\nnoise_steps: 7\ntopk: [3, 5]\n")
    second.write_text("epochs: 12\nseed: 12\nnoise_steps: 8\n")
    loaded = load_config([first, second], {**BASE, "epochs": 13, "seed": 13}, {"epochs": 14})
    assert (loaded["epochs"], loaded["seed"], loaded["noise_steps"], loaded["topk"]) == (14, 13, 8, [3, 5])
    assert loaded["train_batch_size"] == read_yaml(properties_dir() / "model" / "DGRM.yaml")["train_batch_size"]
    assert loaded["valid_metric"] == "auto"  # protocol above overall above RecBole's MRR@10
    assert loaded["rating_scale"] == [1, 5]  # of the data set
    assert loaded["normalize_all"] is False  # RecBole's own ml-100k.yaml would squeeze the ratings
    first.write_text(yaml.safe_dump(loaded.given))  # with its model, data set and protocol
    assert load_config([first]).given == loaded.given


def test_a_key_of_0_2_0_that_is_gone_may_stand_in_a_stored_config_with_the_only_value_left():
    assert config(compile=False, precision="float32").given == config().given
    assert config(model="BMF", side_features=[], time_effects=False).given == config(model="BMF").given
    assert config(model="DGRMKL", orientation="user", blend=0.0).given == config(model="DGRMKL").given
    as_before = {"step_cost": "items", "decay_per_rating": 0.0, "weight_average": 0.0}
    assert config(model="DGRM", noise_rows="auto").given == config(model="DGRM", **as_before).given
    with pytest.raises(OptionError, match="unknown key 'noise_rows'"):
        config(model="DGRM", noise_rows=64)
    with pytest.raises(OptionError, match="unknown key 'compile'"):
        config(compile=True)
    with pytest.raises(OptionError, match="unknown key 'orientation'"):
        config(model="DGRM", orientation="item")


def test_an_unknown_name_is_refused_with_the_nearest_or_the_choices():
    for overrides, said in (
        ({"noise_step": 3}, "unknown key 'noise_step'; did you mean 'noise_steps'"),
        ({"model": "BPR", "generator_hidden": [8]}, "unknown key 'generator_hidden'"),
        ({"model": "DGMR"}, "no model 'DGMR'; ours: DGRM, DGRMPlus, DGRMKL, BMF, MF"),
        ({"model": "SASRec"}, "no model 'SASRec'"),  # RecBole has it, but as a sequential model
        ({"protocol": "ranked"}, "'ranked' is unknown; one of eq23, full, rated, table3"),
    ):
        with pytest.raises((OptionError, UnknownModel), match=said):
            config(**overrides)
    for key in ("dataset_save_path", "dataloaders_save_path", "save_dataset", "gpu_id", "normalize_all"):
        with pytest.raises(OptionError, match=f"{key} is not used here"):  # they would unpickle, or do nothing
            config(**{key: "x"})
    for missing in BASE:
        with pytest.raises(OptionError, match=f"no {missing} is named; use --{missing}="):
            load_config(config_dict={key: value for key, value in BASE.items() if key != missing})


def test_scores_that_are_no_ratings_are_not_held_for_such():
    for overrides, said in [
        ({"protocol": "eq23"}, "rated_filter=threshold drops .* the scores of EASE are not ratings; use"),
        ({"metrics": ["RatedNDCG", "RMSE"]}, "RMSE compares scores with ratings, and the scores of EASE are no"),
    ]:
        with pytest.raises(OptionError, match=said):
            config(model="EASE", **overrides)
        assert config(model="MF", **overrides).predicts_ratings
    assert not config(model="EASE").predicts_ratings


def test_cuda_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(OptionError, match="no GPU"):
        config(device="cuda")
    assert config(device="cpu")["device"] == torch.device("cpu")


def test_values_are_yaml_and_never_evaluated(tmp_path, monkeypatch):
    marker = tmp_path / "evaluated"
    attack = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    monkeypatch.setattr(sys, "argv", ["prog", f"--wandb_project={attack}", "--epochs=1"])
    loaded = config(wandb_project=attack)
    assert loaded["wandb_project"] == attack
    assert loaded["epochs"] != 1  # RecBole would have read sys.argv
    assert not marker.exists()
    with pytest.raises(OptionError):
        parse_value("!!python/object/apply:os.getcwd []")
    values = {"1e-4": 1e-4, "[5, 10]": [5, 10], "~": None, "true": True, "0.5": 0.5, "a=b": "a=b", "3": 3}
    assert repr({text: parse_value(text) for text in values}) == repr(values)  # of the same types, too


def test_a_broken_config_file_is_named(tmp_path):
    path = tmp_path / "bad.yaml"
    for text, said in [("a: [1", "not valid YAML"), ("- 1\n- 2", "must have lines 'key: value'")]:
        path.write_text(text)
        with pytest.raises(OptionError, match=f"bad.yaml.*{said}"):
            load_config([path], BASE)
    with pytest.raises(OptionError, match="cannot read the config file"):
        load_config([tmp_path / "missing.yaml"], BASE)


NO_NAMES = ["../up", "/abs", "a\\b", "..", ".", " ", "C:", "a\0b", "a\nb", "\ud800", "a" * 300]


def test_a_name_that_leads_elsewhere_is_refused():
    for key in ["model", "dataset", "protocol", "benchmark_filename"]:
        for name in NO_NAMES:
            given = ["train", name] if key == "benchmark_filename" else name
            with pytest.raises(OptionError, match=rf"(?s){key}=.*is (not a plain name|longer than 200 bytes)"):
                config(**{key: given})


def test_overall_and_protocols_hold_every_run_option():
    known = set(read_yaml(properties_dir() / "overall.yaml")) | set(read_yaml(properties_dir() / "protocol/rated.yaml"))
    theirs = {"train_batch_size", "learner", "weight_decay", "benchmark_filename"}  # RecBole's overall.yaml has them
    assert {field.name for field in fields(RunOptions)} - theirs <= known
    for name, model in registry.MODELS.items():
        assert not {field.name for field in fields(model.Options)} & set(REFUSED), name


@pytest.mark.parametrize("protocol", ["rated", "full", "table3", "eq23", "temporal"])
def test_every_model_has_a_config_under_every_protocol(protocol):
    for model in registry.MODELS:
        loaded = config(model=model, protocol=protocol)
        assert loaded["protocol"] == protocol
        if protocol != "full":
            assert loaded["train_neg_sample_args"]["distribution"] == "none"
