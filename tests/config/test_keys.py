"""Keys that a user can set: typed and checked before data is read, texts that stay texts, paths with blanks."""

import math
from contextlib import suppress
from copy import deepcopy
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
import recbole.config.configurator
import yaml
from helpers import random_ratings, write_ratings
from recbole.utils import argument_list

from recbole_dgrm.cli.command import config_paths
from recbole_dgrm.config import layers as config_module
from recbole_dgrm.config import recbole_keys
from recbole_dgrm.config.layers import RECBOLE_PROPERTIES, load_config
from recbole_dgrm.config.values import parse_line, parse_value, read_yaml
from recbole_dgrm.data import dataset
from recbole_dgrm.data.intervals import check_interval
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.errors import DataError, OptionError, UnknownModel, UserError
from recbole_dgrm.options import RunOptions, option
from recbole_dgrm.runs.experiment import run_one

BASE = {"model": "MF", "dataset": "ml-100k", "data_path": "/does/not/exist"}
FULL = {**BASE, "model": "BPR", "protocol": "full"}
DGRM = {**BASE, "model": "DGRM"}
WRONG = ["abc", "", -1, 0.5, [1], ["a", None], {"a": 1}, {1: {}}, True, None, math.inf, math.nan, 10**400]


@pytest.fixture
def fast(monkeypatch):
    """YAML files are parsed once."""
    read = cache(read_yaml)
    monkeypatch.setattr(config_module, "read_yaml", lambda path: deepcopy(read(path)))
    load = cache(yaml.load)
    theirs = SimpleNamespace(load=lambda text, Loader: deepcopy(load(text, Loader)))
    monkeypatch.setattr(recbole.config.configurator, "yaml", theirs)


def known_keys() -> list[str]:
    lists = ("general_arguments", "training_arguments", "evaluation_arguments", "dataset_arguments")
    names = {name for part in lists for name in getattr(argument_list, part)}
    names |= set(read_yaml(RECBOLE_PROPERTIES / "overall.yaml")) | set(
        read_yaml(RECBOLE_PROPERTIES / "dataset/sample.yaml")
    )
    return sorted(names | {field.name for field in fields(RunOptions)})


def test_every_key_with_values_of_a_wrong_kind_is_a_config_or_one_sentence(fast):
    for base in [BASE, FULL]:
        for number, key in enumerate(known_keys()):
            for value in WRONG[number % 4 :: 4]:
                with suppress(OptionError, UnknownModel):
                    load_config(config_dict={**base, key: deepcopy(value)})


def test_the_keys_of_recboles_models_take_their_kind_from_the_defaults(fast):
    for model in ["NeuMF", "SGL", "LDiffRec"]:
        for key, default in read_yaml(RECBOLE_PROPERTIES / "model" / f"{model}.yaml").items():
            for value in [True, {"a": 1}, math.nan, [None]]:
                if not (value is True and isinstance(default, bool)):
                    with pytest.raises(OptionError, match=f"{key}="):
                        load_config(config_dict={**FULL, "model": model, key: value})


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"eval_args": 5}, "eval_args=5 is not a mapping"),
        ({"eval_args": {"splt": {}}}, "eval_args: unknown key 'splt'; did you mean 'split'"),
        ({"eval_args": {"split": {"RS": [8, 1]}}}, "leaves a part of train, valid and test empty"),
        ({"eval_args": {"split": {"XS": [8, 1, 1]}}}, "split: there is no 'XS'"),
        ({"eval_args": {"split": {"LS": "test_only"}}}, "LS='test_only' .* allowed: one of valid_and_test"),
        ({"eval_args": {"split": {"TS": [8, 1, 1]}}}, "needs order: TO"),
        ({"eval_args": {"split": {"RS": [8, 1, 1]}, "mode": "uni100"}}, "mode='uni100' .* one of labeled, full"),
        ({"eval_args": {"split": {"RS": [8, 1, 1]}, "mode": "full"}}, "mode=full does not fit metrics="),
        ({"eval_args": {"split": {"RS": [8, 1, 1]}, "mode": {"valid": "labeled", "test": "full"}}}, "must be the same"),
        (
            {"eval_args": {"order": "TO"}, "load_col": {"inter": ["user_id", "item_id", "rating"]}},
            "leave out timestamp of the .inter file",
        ),
        ({"eval_args": {"split": {"LS": "valid_and_test"}}, "benchmark_filename": ["a", "b"]}, "cannot split"),
        ({"metrics": ["NDGC"]}, "metrics: there is no 'NDGC'; did you mean 'NDCG'"),
        ({"metrics": ["RMSE", "NDCG"], "valid_metric": "RMSE"}, "cannot be mixed"),
        ({"metrics": ["NDCG"], "valid_metric": "NDCG@5"}, "mode=labeled does not fit"),
        ({"metrics": ["AUC"], "valid_metric": "AUC"}, "AUC is for labels of 0 and 1"),
        ({"model": "NCF", "feedback": "implicit"}, "RMSE compares .* the scores of NCF with feedback=implicit are no"),
        ({"model": "NCF", "feedback": "implicit", "metrics": ["RatedNDCG"]}, "rating_threshold must be set"),
        ({"valid_metric": "RatedNDCG"}, "valid_metric=RatedNDCG is not computed; allowed: one of .*ratedndcg@5"),
        ({"valid_metric_bigger": False}, "valid_metric_bigger=False is wrong"),
        ({"eval_step": 9, "epochs": 8}, "eval_step=9 is above epochs=8"),
        ({"load_col": {}}, "leave out user_id, item_id, rating of"),
        ({"load_col": {"intr": ["a"]}}, "no kind of file 'intr'; did you mean 'inter'"),
        ({"unload_col": {"inter": ["age"]}}, "unload_col and load_col both name columns of inter"),
        ({"USER_ID_FIELD": "item_id"}, "is also the name of USER_ID_FIELD"),
        ({"NEG_PREFIX": ""}, "NEG_PREFIX='' is out of range; allowed: a name on one line"),
        ({"log_wandb": True}, "log_wandb=true, but wandb is not installed"),
        ({"config_file": "a.yaml"}, "config_file is not used here: use --config_files"),
        ({"transform": "mask_itemseq"}, "transform='mask_itemseq' cannot be used here: it is for sequential models"),
        ({"numerical_features": ["rating"]}, "numerical_features=.* cannot be used here"),
        ({"clip_grad_norm": {"maxnorm": 5}}, "clip_grad_norm: unknown key 'maxnorm'; did you mean 'max_norm'"),
        ({"benchmark_filename": ["train", "train"]}, "must name .* each once"),
        ({"dataset": 7}, "dataset=7 is not a name; a name that looks like something else needs quotes"),
        ({"metrics": "RMSE"}, "metrics='RMSE' is not a list of names"),
        ({"epochs": 10**400}, r"epochs=1000*\.\.\. is out of range"),
        ({**DGRM, "noise_min": 0.5, "noise_max": 0.1}, "noise_min=0.5 must be below noise_max=0.1"),
        ({**DGRM, "denoising_steps": 6}, "denoising_steps=6 is out of range; allowed: 0..5"),
        ({**DGRM, "prediction_noise_steps": 6}, "prediction_noise_steps=6 is out of range; allowed: 0..noise_steps=5"),
        ({**DGRM, "fixed_step": 6}, "fixed_step=6 is out of range; allowed: 1..noise_steps=5"),
        ({**DGRM, "step_embedding_size": 7}, "step_embedding_size=7 must be even"),
        ({**DGRM, "reconstruct": "hidden"}, "needs condition_dropout above 0"),
        ({**DGRM, "learning_rate": 0}, "learning_rate=0.0 is out of range"),
        ({**DGRM, "topk": [3], "valid_metric": "RatedNDCG@5"}, "valid_metric=RatedNDCG@5 is not .*: one of auto,"),
        ({**DGRM, "metrics": ["MAE"]}, "valid_metric=auto is not computed; allowed: one of mae"),
        ({**DGRM, "protocol": "full", "valid_metric": "auto"}, "valid_metric=auto is not computed; .* one of hit@10"),
        ({**FULL, "train_neg_sample_args": {"distribtion": "pop"}}, "'distribtion'; did you mean 'distribution'"),
        ({**FULL, "train_neg_sample_args": None}, "BPR needs sampled negatives"),
        ({**FULL, "model": "MultiVAE", "shuffle": False}, "shuffle=False: MultiVAE is always trained on users in"),
        ({**FULL, "model": "DMF", "inter_matrix_type": "02"}, "one of 01, rating"),
        ({**FULL, "valid_metric": "NDCG"}, "valid_metric=NDCG is not computed; allowed: one of hit@10, mrr@10, ndcg"),
    ],
)
def test_a_value_that_cannot_be_is_one_sentence_before_data_is_read(monkeypatch, keys, said):
    monkeypatch.setattr(recbole_keys, "find_spec", lambda name: None)
    with pytest.raises(OptionError, match=said) as error:
        load_config(config_dict={**BASE, **keys})
    assert "\n" not in str(error.value)


def test_intervals_are_read_in_both_spellings_and_those_that_recbole_only_warns_about_are_errors(fast):
    for text in ("[5,inf)", '"[5,inf)"', "'[5,inf)'"):
        line = parse_line({"user_inter_num_interval": text})
        assert load_config(config_dict=BASE, command_line=line)["user_inter_num_interval"] == "[5,inf)"
    listed = load_config(config_dict={**BASE, "user_inter_num_interval": [5, "inf"]})
    assert listed["user_inter_num_interval"] == "[5,inf]"
    assert parse_value('{rating: "[3,inf)"}', "val_interval") == {"rating": "[3,inf)"}
    check_interval("key", "[1,2];(3, inf)")
    for key in ("user_inter_num_interval", "item_inter_num_interval"):
        for value in ["[10,5]", "abc", "5", "", "[5,inf", "[a,b]", "[nan,5]", "[1,2,3]", [1, 2, 3], {"a": 1}]:
            with pytest.raises(OptionError, match=f"{key}="):
                load_config(config_dict={**BASE, key: value})


def test_columns_that_are_not_there_are_named_before_ratings_are_read(make_config, monkeypatch):
    for keys, said in [
        ({"val_interval": {"ratng": "[3,5]"}}, "val_interval: there is no column 'ratng'; did you mean 'rating'"),
        ({"val_interval": {"rating": "[5,3]"}}, "val_interval: rating='.5,3.' is not an interval"),
        ({"val_interval": {"user_id": [1, 2, 3]}}, "must list the texts to keep, in quotes"),
        ({"eval_args": {"split": {"RS": [8, 1, 1]}, "order": "TO"}}, "order=TO needs the column timestamp:float"),
    ]:
        monkeypatch.setattr(dataset.RatingDataset, "_load_feat", lambda *_: pytest.fail("data was read"))
        with pytest.raises(OptionError, match=said):
            build_splits(make_config("MF", **keys))


def test_columns_of_side_files_count(ratings_path, make_config):
    write_ratings(ratings_path, "sided", random_ratings())
    lines = "".join(f"{item}\t{1985 + item}\n" for item in range(25))
    (ratings_path / "sided" / "sided.item").write_text("item_id:token\tyear:float\n" + lines)
    keys = {"val_interval": {"year": "[1995,inf)"}, "filter_inter_by_user_or_item": True}
    with pytest.raises(DataError, match=r"RecBole cannot load sided .*Field \[year\] not defined"):
        build_splits(make_config("MF", "sided", **keys))
    columns = {"inter": ["user_id", "item_id", "rating"], "item": ["item_id", "year"]}
    splits = build_splits(make_config("MF", "sided", **keys, load_col=columns, rating_scale=[1, 5], rating_step=1))
    assert splits.sizes()["n_items"] == 15


def test_one_path_is_no_list_of_letters_and_an_interval_stands_in_quotes(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("model: MF\ndataset: ml-100k\nseed: 9\n")
    for given in (path, str(path)):
        assert load_config(given)["seed"] == 9
    with pytest.raises(OptionError, match=r"config_dict=5 is not a mapping"):
        load_config(path, 5)
    path.write_text("user_inter_num_interval: [5,inf)\n")
    with pytest.raises(OptionError, match=r"not valid YAML: .*; a text with brackets, like '\[5,inf\)', needs quotes"):
        load_config(path, BASE)


def test_eval_args_are_completed_and_a_split_that_is_not_named_is_said(caplog):
    given = {"order": "TO", "mode": {"valid": "labeled"}}
    loaded = load_config(config_dict={**BASE, "eval_args": given})
    assert loaded.given["eval_args"] == {
        "split": {"RS": [0.8, 0.1, 0.1]},
        "group_by": "user",
        "order": "TO",
        "mode": "labeled",
    }
    assert "has no split, so RecBole's" in caplog.text
    assert load_config(config_dict={**FULL, "eval_args": {}}).given["eval_args"]["mode"] == "full"


def test_a_default_eval_step_above_the_epochs_is_no_error_also_read_again(tmp_path):
    loaded = load_config(config_dict={**BASE, "model": "DGRM", "epochs": 2})  # DGRM.yaml has eval_step: 5
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(loaded.given))
    assert load_config([tmp_path / "config.yaml"])["eval_step"] == 5
    with pytest.raises(OptionError, match="eval_step=5 is above epochs=2"):
        load_config([tmp_path / "config.yaml"], command_line={"eval_step": 5})


TEXTS = [
    "2024_01",
    "007",
    "on",
    "no",
    "1e3",
    "0x10",
    "null",
    "1:30",
    "2001-01-01",
    "a: b",
    "a #b",
    "[x",
    "{",
    "-",
    "True",
]


def test_a_text_on_the_command_line_stays_what_was_typed_and_is_printed_for_a_shell():
    for text in TEXTS:
        for key in ("dataset", "model", "output_dir", "data_path", "wandb_project", "USER_ID_FIELD"):
            assert parse_value(text, key) == parse_value(f'"{text}"', key) == text
    assert parse_value("~", "data_path") is parse_value("", "data_path") is None
    assert parse_value('"a" and "b"', "wandb_project") == '"a" and "b"'
    assert parse_value("007", "seed") == 7
    given = {"resume": Path("runs/a"), "data_path": "my data", "dataset": "$x'"}
    printed = ["--resume=runs/a", "--data_path='my data'", "--dataset='$x'\"'\"''"]
    assert [option(key, value) for key, value in given.items()] == printed


def test_config_files_are_taken_apart_at_blanks_that_are_not_their_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a.yaml", "my file.yaml", "b.yaml"):
        Path(name).touch()
    paths = config_paths(["a.yaml  b.yaml", "my file.yaml", "nowhere x.yaml"])
    assert paths == [Path(name) for name in ("a.yaml", "b.yaml", "my file.yaml", "nowhere", "x.yaml")]


def test_what_a_model_of_recbole_or_the_data_stumbles_over_names_the_keys(make_config, monkeypatch):
    wrong = [("NeuMF", "mlp_hidden_size", []), ("DGCF", "n_factors", 7), ("FISM", "reg_weights", [1.0])]
    for model, key, value in (*wrong, ("NAIS", "pretrain_path", "nowhere")):
        with pytest.raises(UserError) as error:
            run_one(make_config(model, protocol="full", **{key: value}))
        for said in [str(value)] if key.endswith("path") else [model, f"{key}={value}"]:
            assert said in str(error.value)
        assert "\n" not in str(error.value)
    monkeypatch.setattr("recbole_dgrm.runs.experiment.untrained", lambda *_: pytest.fail("a model was made"))
    with pytest.raises(OptionError, match=r"topk=\[5, 26\]: there are only 25 items, fewer than 26"):
        run_one(make_config("MF", topk=[5, 26]))


def test_what_is_accepted_trains(make_config):
    several = {
        "val_interval": {"rating": [2, "inf"]},
        "user_inter_num_interval": "(2,inf)",
        "unused_col": {"inter": []},
    }
    several |= {"item_inter_num_interval": [1, 500], "eval_args": {"split": {"LS": "valid_and_test"}}, "epochs": 2.0}
    several |= {"rm_dup_inter": "first", "metrics": ["RMSE"], "valid_metric": "rmse"}
    several |= {"loss_decimal_place": 0, "metric_decimal_place": 3.0}
    without_group = {"eval_args": {"split": {"RS": [8, 1, 1]}, "group_by": None}, "load_col": None, "TIME_FIELD": None}
    for keys in (several, without_group):
        assert run_one(make_config("MF", **keys))[0].status == "finished"


def test_the_yaml_of_a_data_set_is_checked_as_any_other(tmp_path):
    (tmp_path / "mine").mkdir()
    file, given = tmp_path / "mine" / "mine.yaml", {"model": "MF", "dataset": "mine", "data_path": str(tmp_path)}
    for text, said in {
        "ratng_scale: [1, 5]": "unknown key 'ratng_scale'; did you mean 'rating_scale'",
        "threshold: {rating: 3}": "threshold is not used here: use rating_threshold",
        "protocol: full": "protocol cannot be set there",
        "data_path: elsewhere": "data_path cannot be set there",
    }.items():
        file.write_text(f"{text}\n")
        with pytest.raises(OptionError, match=rf"mine\.yaml: {said}"):
            load_config(config_dict=given)
    file.write_text("rating_scale: [1, 5]\ngenerator_hidden: [8]\nthreshold: ~\n")
    assert load_config(config_dict=given)["rating_scale"] == [1, 5]
    assert load_config(config_dict={**given, "model": "DGRM"})["generator_hidden"] == [8]
