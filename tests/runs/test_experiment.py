"""Runs and their files: records, refit, divergence, scales, precision."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from helpers import ROOT, interrupted, lines_of, random_ratings, record_of, write_ratings

from recbole_dgrm.config.layers import load_config
from recbole_dgrm.data import loaders
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.errors import CheckpointError, DataError, TrainingDiverged
from recbole_dgrm.models.dgrm.model import DGRM
from recbole_dgrm.runs.experiment import resume, run_one
from recbole_dgrm.runs.trained_run import load_run
from recbole_dgrm.runs.trial import Trial
from recbole_dgrm.training import checkpoints, recorded_trainer
from recbole_dgrm.training.checkpoints import read_checkpoint

slow = pytest.mark.slow


def scored(monkeypatch, *scores: float) -> None:
    """Let validation give these scores, epoch by epoch."""
    left = iter(scores)
    monkeypatch.setattr(recorded_trainer, "calculate_valid_score", lambda result, metric: next(left))


def test_a_run_leaves_its_files_and_nothing_else_anywhere(make_config, tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    finished, path = run_one(make_config(epochs=5, eval_step=2))
    names = {file.name for file in path.iterdir()}
    wanted = {"record.json", "config.yaml", "metrics.jsonl", "per_user.npz", "checkpoint.pt", "run.log", "events"}
    assert names - {".lock"} == wanted
    assert {file.parent.name for file in path.glob("events/*/events.out.tfevents.*")} == {"select", "refit"}
    assert not list((tmp_path / "cwd").iterdir())
    record = record_of(path)
    keys = "model dataset protocol seed status error config data test valid reference skill timing environment"
    assert set(keys.split()) <= set(record)
    assert {"fingerprint", "n_users", "n_items", "n_train", "n_valid", "n_test"} <= set(record["data"])
    assert set(record["reference"]) == {"random", "bias", "oracle"}
    timing = {"train_s", "epoch_s", "evaluate_s", "epochs", "best_epoch", "peak_rss_mib"}
    timing |= {"read_s", "validate_s", "diagnose_s", "calibrate_s"}
    assert timing <= set(record["timing"])
    metrics = {"ratedrecall@5", "ratedndcg@5", "rmse", "mae", "ratingkl"}
    assert set(record["test"]) == set(record["valid"]) == metrics
    assert {"ratedndcg@5", "rmse"} <= set(record["skill"]) <= metrics
    assert (record["status"], record["error"]) == ("finished", None)
    vectors = np.load(path / "per_user.npz", allow_pickle=False)
    assert len(set(vectors["user"])) == len(vectors["user"]) == len(vectors["ratedndcg@5"])
    assert vectors["ratedndcg@5"].mean() == pytest.approx(record["test"]["ratedndcg@5"], abs=1e-9)
    assert vectors["bias ratedndcg@5"].mean() == pytest.approx(record["reference"]["bias"]["ratedndcg@5"], abs=1e-9)
    selecting = [line for line in lines_of(path) if line["stage"] == "select"]
    assert [line["epoch"] for line in selecting] == list(range(5))
    assert ["valid_rmse" in line for line in selecting] == [False, True, False, True, False]
    assert {"critic", "generator", "seconds", "valid_ratedndcg@5"} <= set(selecting[1])
    assert finished.timing["epochs"] == 5
    assert len(lines_of(path)) - 5 == finished.timing["best_epoch"]


ODD_SCALES = {
    "real": lambda rating, rng: rating + rng.normal(0, 0.3, len(rating)),
    "counts": lambda rating, rng: np.exp(1.5 * rating + rng.normal(0, 1, len(rating))).round(),
    "uneven": lambda rating, rng: np.array([0, 0, 2, 5, 10, 11])[rating.astype(int)],
    "below 0": lambda rating, rng: 5 * (rating - 3) + rng.integers(-2, 3, len(rating)) / 4,
    "thumbs": lambda rating, rng: (rating > 3).astype(float),
    "thousands": lambda rating, rng: rating + 1000,
}


@pytest.mark.parametrize("kind", ODD_SCALES)
def test_ratings_of_any_scale_train_and_report(make_config, tmp_path, kind):
    table = random_ratings()
    table["rating"] = ODD_SCALES[kind](table["rating"].to_numpy(), np.random.default_rng(0))
    write_ratings(tmp_path, "odd", table)
    for model in ("MF", "DGRMPlus") if kind in ("counts", "below 0") else ("MF",):
        _, path = run_one(make_config(model, "odd", data_path=str(tmp_path), diagnose_every=1, epochs=1))
        record = record_of(path)
        scale, levels = record["data"]["scale"], record["diagnosis"]["levels"]
        assert scale["levels"] == levels
        assert len(levels) <= 25
        assert scale["continuous"] == (kind in ("real", "counts"))
        found = [record["diagnosis"]["distribution"][name]["counts"] for name in ("rated", "unrated", "ratings")]
        assert {len(counts) for counts in found} == {10 * (len(levels) + 2)}
        reference = record["reference"]
        assert 0 < reference["bias"]["rmse"] < 1.2 * reference["random"]["rmse"]
        assert record["test"]["ratedndcg@5"] <= reference["oracle"]["ratedndcg@5"]


def test_config_yaml_feeds_back_to_the_same_numbers(make_config):
    first, path = run_one(make_config(seed=3, generator_hidden=[12]))
    second, _ = run_one(load_config([path / "config.yaml"]))
    assert second.test == first.test
    assert second.config == first.config
    assert yaml.safe_load((path / "config.yaml").read_text())["generator_hidden"] == [12]


def test_without_refit_the_best_state_is_tested_not_the_last(make_config, monkeypatch):
    scored(monkeypatch, 0.1, 0.9, 0.2, 0.3)
    record, path = run_one(make_config(epochs=4, refit=False))
    state = read_checkpoint(path / "checkpoint.pt", "cpu")
    assert (record.timing["best_epoch"], state["best_epoch"], state["epoch"]) == (2, 1, 3)
    best = state["best_state_dict"]
    assert [key for key, value in state["state_dict"].items() if not torch.equal(value, best[key])]
    run = load_run(path)
    assert all(torch.equal(value, best[key]) for key, value in run.model.state_dict().items())
    assert run.evaluate()["test"] == record.test


def test_refit_learns_from_training_and_validation_for_the_chosen_epochs_and_is_tested_once(make_config, monkeypatch):
    scored(monkeypatch, 0.1, 0.9, 0.2, 0.3)  # a fifth score is not asked for: early stopping
    used, train, evaluate = [], loaders.train_loader, loaders.eval_loader
    monkeypatch.setattr(loaders, "train_loader", lambda *given: used.append(given[2]) or train(*given))
    monkeypatch.setattr(loaders, "eval_loader", lambda *given: used.append(given[2]) or evaluate(*given))
    record, path = run_one(make_config(epochs=6, stopping_step=1, refit=True))
    assert [part for part in used if part in ("train", "known")][:2] == ["train", "known"]
    assert [part for part in used if part in ("valid", "test")] == ["valid", "test"]  # tested once, after training
    assert read_checkpoint(path / "checkpoint.pt", "cpu")["epoch"] == 1
    assert (record.timing["best_epoch"], record.timing["epochs"]) == (2, 4)


@pytest.mark.parametrize(
    ("best", "keys", "batches", "ends"),
    [
        (1, {"stopping_step": 2}, 600, 4),  # more than two, as in RecBole
        (1, {}, 0, 7),  # at least 5, and one more
        (15, {}, 0, 24),  # half of those up to the best one
        (28, {"eval_step": 2}, 0, 44),
        (50, {}, 0, 71),  # at most 20
        (1, {}, 24, 8),  # as many as take 24 batches, 4 of which are an epoch
        (1, {}, 600, 22),
    ],
)
def test_training_ends_after_some_validations_without_a_new_best(make_config, monkeypatch, best, keys, batches, ends):
    monkeypatch.setattr(recorded_trainer, "PATIENT_BATCHES", batches)
    config = make_config(**{"epochs": 80, "stopping_step": "auto", "refit": False, **keys})
    validated = range(config["eval_step"], 90, config["eval_step"])
    scored(monkeypatch, *(epoch if epoch <= best else 0 for epoch in validated))
    record, _ = run_one(config)
    assert (record.timing["best_epoch"], record.timing["epochs"]) == (best, ends)


def test_a_run_that_early_stopping_ended_is_not_trained_further(make_config, monkeypatch):
    monkeypatch.setattr(recorded_trainer, "PATIENT_BATCHES", 0)
    scored(monkeypatch, 0.9, *[0.1] * 20)
    record, path = run_one(make_config(epochs=20, stopping_step="auto", refit=False))
    again, _ = resume(interrupted(path))
    assert (again.timing["epochs"], again.test) == (7, record.test)


def test_a_diverging_loss_or_validation_stops_the_run_and_names_it(make_config, monkeypatch, tmp_path):
    with monkeypatch.context() as patch:
        scored(patch, *[float("nan")] * 2)
        with pytest.raises(TrainingDiverged, match="ratedndcg@5 on validation was never a number"):
            run_one(make_config(), tmp_path / "validation")
    monkeypatch.setattr(DGRM, "generator_loss", lambda self, batch: torch.tensor(torch.nan, requires_grad=True))
    with pytest.raises(TrainingDiverged, match="the generator loss became nan in epoch 1; lower its learning rate"):
        run_one(make_config(), tmp_path / "loss")
    record = record_of(tmp_path / "loss")
    assert (record["status"], "generator" in record["error"]) == ("diverged", True)


def test_a_failing_run_says_so_in_its_record(make_config, tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        run_one(make_config(dataset="missing"))
    assert not (tmp_path / "runs").exists()  # data that is not there is found before a directory is made
    with pytest.raises(DataError):
        run_one(make_config(val_interval={"rating": "[90,91]"}), tmp_path / "runs")
    record = record_of(tmp_path / "runs")
    assert (record["status"], "no rating of noise is left" in record["error"]) == ("failed", True)


def test_where_the_ranking_cannot_tell_the_epoch_of_the_best_rmse_is_tested(make_config, tmp_path):
    """Users have one item to validate and one to test, so no order differs from another; RMSE selects."""
    rng = np.random.default_rng(0)
    pairs = [(user, item) for user in range(90) for item in rng.choice(9, 3, replace=False)]
    table = pd.DataFrame([(*pair, 1 + sum(pair) % 5) for pair in pairs], columns=["user_id", "item_id", "rating"])
    write_ratings(tmp_path / "data", "noisy", table)
    record, path = run_one(make_config(dataset="noisy", data_path=str(tmp_path / "data"), epochs=4, refit=False))
    saved = record_of(path)
    assert (saved["config"]["valid_metric"], saved["selected_by"]) == ("auto", "RMSE")
    assert saved["resolution"]["valid"]["ratedndcg@5"] == {"ratio": 0, "users": 0, "of": 90}
    assert set(saved["resolution"]) == {"valid", "test"}
    errors = [line["valid_rmse"] for line in lines_of(path)]
    assert saved["timing"]["best_epoch"] == 1 + int(np.argmin(errors))
    assert record.valid["rmse"] == min(errors)
    assert "on validation RatedNDCG@5 (resolution 0" in (path / "run.log").read_text()
    state = read_checkpoint(path / "checkpoint.pt", "cpu")
    assert resume(interrupted(path))[0].selected_by == "RMSE"
    for key in ("fingerprint", "selected_by"):
        other = {**state, "note": {**state["note"], key: "another"}}
        checkpoints.write_checkpoint(interrupted(path) / "checkpoint.pt", other)
        with pytest.raises(CheckpointError, match="belongs to another split or validation metric"):
            resume(path)


def test_the_bias_row_has_the_values_of_each_user_under_full_ranking(make_config, tmp_path):
    pairs = [(user, item) for item in range(8) for user in range(12 * (item + 1)) if (user + item) % 4]
    write_ratings(tmp_path, "stairs", pd.DataFrame(pairs, columns=["user_id", "item_id"]).assign(rating=5.0))
    keys = {"protocol": "full", "topk": [3], "valid_metric": "NDCG@3", "metrics": ["NDCG"]}
    config = make_config("Pop", "stairs", data_path=str(tmp_path), **keys)
    splits = build_splits(config)
    (train_user, train_item, _), (valid_user, valid_item, _) = splits.triples("train"), splits.triples("valid")
    popularity = np.bincount(train_item, minlength=9)
    assert len(set(popularity)) == len(popularity)  # no ties, so that the lists of the row are known
    discounts, expected = 1 / np.log2(np.arange(2, 5)), {}
    test_user, test_item, _ = splits.triples("test")
    for user in np.unique(test_user):
        seen = {0, *train_item[train_user == user], *valid_item[valid_user == user]}
        wanted = test_item[test_user == user]
        hits = np.isin([item for item in np.argsort(-popularity) if item not in seen][:3], wanted)
        dcg = hits @ discounts[: len(hits)]
        expected[splits.test.id2token("user_id", user)] = dcg / discounts[: len(wanted)].sum()
    _, path = run_one(config)
    vectors = np.load(path / "per_user.npz", allow_pickle=False)
    assert dict(zip(vectors["user"], vectors["bias ndcg@3"], strict=True)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "protocol"), [("DGRM", "rated"), ("DGRM", "full"), ("BPR", "full"), ("EASE", "rated")]
)
def test_validation_alone_gives_the_score_of_the_whole_run(name, protocol, make_config, tmp_path):
    given = {"protocol": protocol, "topk": [5], "valid_metric": "ndcg@5" if protocol == "full" else "ratedndcg@5"}
    alone, _ = run_one(make_config(name, **given), tmp_path / "alone", trial=Trial({}, {}))
    whole, _ = run_one(make_config(name, refit=False, **given))
    assert (alone.status, alone.test) == ("validated", {})
    assert alone.valid == whole.valid
    assert len(alone.valid) > 1


def test_a_trial_ends_where_its_best_score_is_below_the_median(make_config, tmp_path):
    config = make_config("MF", "board", valid_metric="RatedNDCG@5")
    for medians, status, epochs in (({0: 2.0}, "pruned", 1), ({0: 0.0}, "validated", 2)):
        record, path = run_one(config, tmp_path / status, trial=Trial({}, medians))
        assert (record.status, record.test, len(lines_of(path))) == (status, {}, epochs)
        assert not (path / "per_user.npz").exists()


def test_golden_values(make_config):
    """The numbers of this small run, to notice any change of data, training or evaluation."""
    record, _ = run_one(make_config("DGRMPlus", "board", epochs=5, seed=2020))
    assert record.data["fingerprint"] == GOLDEN["fingerprint"]
    assert record.test == pytest.approx(GOLDEN["test"], abs=2e-3)
    assert record.unclipped == pytest.approx(GOLDEN["unclipped"], abs=2e-3)


GOLDEN = json.loads((ROOT / "tests" / "golden" / "dgrmplus_board.json").read_text())
