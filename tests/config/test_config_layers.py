"""Layers, unknown keys, values out of range, safety of parsing."""

import sys
from dataclasses import fields

import pytest
import torch
import yaml

from recbole_dgrm.config.layers import load_config
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


def test_model_data_set_and_protocol_may_come_from_a_file(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("model: DGRM\ndataset: ml-100k\nprotocol: full\n")
    loaded = load_config([path])
    assert (loaded["model"], loaded["feedback"], loaded["topk"]) == ("DGRM", "implicit", [10])


@pytest.mark.parametrize("missing", ["model", "dataset"])
def test_a_missing_name_is_said_with_an_example(missing):
    with pytest.raises(OptionError, match=f"no {missing} is named; use --{missing}="):
        load_config(config_dict={key: value for key, value in BASE.items() if key != missing})


def test_an_unknown_key_names_the_nearest():
    with pytest.raises(OptionError, match="unknown key 'noise_step'; did you mean 'noise_steps'"):
        config(noise_step=3)


def test_a_key_of_another_model_is_unknown():
    with pytest.raises(OptionError, match="unknown key 'generator_hidden'"):
        config(model="BPR", generator_hidden=[8])


def test_a_key_of_0_2_0_that_is_gone_may_stand_in_a_stored_config_with_the_only_value_left():
    assert config(compile=False).given == config().given
    assert config(model="BMF", side_features=[], time_effects=False).given == config(model="BMF").given
    assert config(model="DGRMKL", orientation="user", blend=0.0).given == config(model="DGRMKL").given
    with pytest.raises(OptionError, match="unknown key 'compile'"):
        config(compile=True)
    with pytest.raises(OptionError, match="unknown key 'orientation'"):
        config(model="DGRM", orientation="item")


def test_an_unknown_model_names_the_choices():
    with pytest.raises(UnknownModel, match=r"no model 'DGMR'; ours: DGRM, DGRMPlus, DGRMKL, BMF, MF"):
        config(model="DGMR")
    with pytest.raises(UnknownModel, match="no model 'SASRec'"):  # RecBole has it, but as a sequential model
        config(model="SASRec")


def test_an_unknown_protocol_names_the_choices():
    with pytest.raises(OptionError, match="'ranked' is unknown; one of eq23, full, rated, table3"):
        config(protocol="ranked")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"noise_min": 0.5, "noise_max": 0.1}, "noise_min=0.5 must be below noise_max=0.1"),
        ({"noise_min": 0.1, "noise_max": 0.1}, "allowed: 0 <= noise_min < noise_max <= 1"),
        ({"noise_scale": 1.5}, r"noise_scale=1.5 is out of range; allowed: in \[0, 1\]"),
        ({"noise_scale": -0.1}, "noise_scale=-0.1 is out of range"),
        ({"noise_max": 1.2}, "noise_max=1.2 is out of range"),
        ({"noise_steps": 0}, "noise_steps=0 is out of range; allowed: a number of at least 1"),
        ({"noise_steps": 2.5}, "noise_steps=2.5 is not a whole number"),
        ({"denoising_steps": 6}, "denoising_steps=6 is out of range; allowed: 0..1"),
        ({"prediction_noise_steps": 6}, "prediction_noise_steps=6 is out of range; allowed: 0..noise_steps=5"),
        ({"fixed_step": 6}, "fixed_step=6 is out of range; allowed: 1..noise_steps=5"),
        ({"generator_iterations": 0}, "generator_iterations=0 is out of range"),
        ({"critic_iterations": 0}, "critic_iterations=0 is out of range"),
        ({"lipschitz": "spectral"}, "lipschitz='spectral' is out of range; allowed: one of gradient_penalty, r1"),
        ({"generator_hidden": [16, 0]}, r"generator_hidden=\[16, 0\] is out of range"),
        ({"generator_hidden": 16}, "generator_hidden=16 is not a list"),
        ({"step_embedding_size": 7}, "step_embedding_size=7 must be even"),
        ({"condition_dropout": 1.0}, "condition_dropout=1.0 is out of range"),
        ({"reconstruct": "hidden"}, "needs condition_dropout above 0"),
        ({"learning_rate": 0}, "learning_rate=0.0 is out of range"),
        ({"learning_rate": "fast"}, "learning_rate='fast' is not a number"),
        ({"weight_decay": -1}, "weight_decay=-1.0 is out of range"),
        ({"epochs": 0}, "epochs=0 is out of range"),
        ({"seed": -1}, "seed=-1 is out of range"),
        ({"topk": [0]}, r"topk=\[0\] is out of range"),
        (
            {"topk": [3], "valid_metric": "RatedNDCG@5"},
            "valid_metric=RatedNDCG@5 is not computed; allowed: one of auto,",
        ),
        ({"metrics": ["RMSE"], "valid_metric": "RatedNDCG@5"}, "valid_metric=RatedNDCG@5 is not computed"),
        ({"metrics": ["MAE"]}, "valid_metric=auto is not computed; allowed: one of mae"),
        ({"protocol": "full", "valid_metric": "auto"}, "valid_metric=auto is not computed; allowed: one of hit@10"),
        ({"refit": "maybe"}, "refit='maybe' is not true or false"),
        ({"rating_scale": [5, 1]}, "must be"),
        ({"rated_ties": "random"}, "one of expected, item_order"),
        ({"learner": "lion"}, "learner='lion' is out of range"),
    ],
)
def test_a_value_out_of_range_names_key_value_and_range_before_data_is_read(overrides, said):
    with pytest.raises(OptionError, match=said):
        config(data_path="/does/not/exist", **overrides)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"protocol": "eq23"}, "rated_filter=threshold drops .* the scores of EASE are not ratings; use"),
        ({"rated_filter": "threshold"}, "rated_filter=threshold"),
        (
            {"metrics": ["RatedNDCG", "RMSE"]},
            "metrics: RMSE compares scores with ratings, and the scores of EASE are no",
        ),
        ({"metrics": ["RatedNDCG", "ratingkl"]}, "metrics: ratingkl"),
    ],
)
def test_scores_that_are_no_ratings_are_not_held_for_such(overrides, said):
    with pytest.raises(OptionError, match=said):
        config(model="EASE", **overrides)
    assert config(model="MF", **overrides).predicts_ratings
    assert not config(model="EASE").predicts_ratings


def test_cuda_that_is_not_there_is_refused():
    if not torch.cuda.is_available():
        with pytest.raises(OptionError, match="no GPU"):
            config(device="cuda")
    assert config(device="cpu")["device"] == torch.device("cpu")


@pytest.mark.parametrize(
    "key", ["dataset_save_path", "dataloaders_save_path", "save_dataset", "gpu_id", "normalize_all"]
)
def test_keys_that_would_unpickle_or_do_nothing_are_refused(key):
    with pytest.raises(OptionError, match=f"{key} is not used here"):
        config(**{key: "x"})


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


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("[5, 10]", [5, 10]), ("~", None), ("true", True), ("0.5", 0.5), ("a=b", "a=b"), ("3", 3)],
)
def test_command_line_values(text, value):
    parsed = parse_value(text)
    assert parsed == value
    assert type(parsed) is type(value)


@pytest.mark.parametrize(("text", "said"), [("a: [1", "not valid YAML"), ("- 1\n- 2", "must have lines 'key: value'")])
def test_a_broken_config_file_is_named(tmp_path, text, said):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(OptionError, match=f"bad.yaml.*{said}"):
        load_config([path], BASE)
    with pytest.raises(OptionError, match="cannot read the config file"):
        load_config([tmp_path / "missing.yaml"], BASE)


def test_the_input_keys_feed_back_to_the_same_config(tmp_path):
    first = config(seed=5, generator_hidden=[32], protocol="eq23")
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(first.given))
    assert load_config([path]).given == first.given


NO_NAMES = ["../up", "/abs", "a/b", "a\\b", "..", ".", " ", "C:", "a\0b", "a\nb", "\ud800", "a" * 300]


@pytest.mark.parametrize("name", NO_NAMES)
@pytest.mark.parametrize("key", ["model", "dataset", "protocol"])
def test_a_name_that_leads_elsewhere_is_refused(key, name):
    with pytest.raises(OptionError, match=rf"{key}='.*' ?(\.\.\. )?is (not a plain name|longer than 200 bytes)"):
        config(**{key: name})


def test_parts_of_a_split_cannot_lead_elsewhere():
    with pytest.raises(OptionError, match=r"benchmark_filename='../../x' is not a plain name"):
        config(benchmark_filename=["train", "../../x"])


def test_overall_and_protocols_hold_every_run_option():
    known = set(read_yaml(properties_dir() / "overall.yaml")) | set(read_yaml(properties_dir() / "protocol/rated.yaml"))
    theirs = {"train_batch_size", "learner", "weight_decay", "benchmark_filename"}  # RecBole's overall.yaml has them
    assert {field.name for field in fields(RunOptions)} - theirs <= known


@pytest.mark.parametrize("protocol", ["rated", "full", "table3", "eq23", "temporal"])
@pytest.mark.parametrize("model", list(registry.MODELS))
def test_every_model_has_a_config_under_every_protocol(model, protocol):
    loaded = config(model=model, protocol=protocol)
    assert loaded["protocol"] == protocol
    if protocol != "full":
        assert loaded["train_neg_sample_args"]["distribution"] == "none"


def test_ray_is_not_imported():
    assert "ray" not in sys.modules
    assert "recbole.quick_start" not in sys.modules
