"""Runs and their files: records, refit, resume after a kill, divergence."""

import json
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from helpers import ROOT, interrupted, random_ratings, wait_for, write_ratings

from recbole_dgrm.config.layers import load_config
from recbole_dgrm.data import loaders
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.errors import CheckpointError, DataError, TrainingDiverged
from recbole_dgrm.models.dgrm.model import DGRM
from recbole_dgrm.runs.experiment import resume, run_one
from recbole_dgrm.runs.trained_run import load_run
from recbole_dgrm.runs.trial import Trial
from recbole_dgrm.system.files import write_json
from recbole_dgrm.training import checkpoints, recorded_trainer
from recbole_dgrm.training.checkpoints import read_checkpoint

slow = pytest.mark.slow


def record_of(path) -> dict:
    return json.loads((path / "record.json").read_text(encoding="utf-8"))


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


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


@pytest.mark.parametrize(
    ("kind", "model"), [*((kind, "MF") for kind in ODD_SCALES), ("counts", "DGRMPlus"), ("below 0", "DGRMPlus")]
)
def test_ratings_of_any_scale_train_and_report(make_config, tmp_path, kind, model):
    table = random_ratings()
    table["rating"] = ODD_SCALES[kind](table["rating"].to_numpy(), np.random.default_rng(0))
    write_ratings(tmp_path, "odd", table)
    _, path = run_one(make_config(model, "odd", data_path=str(tmp_path), diagnose_every=1, epochs=1))
    record = record_of(path)
    scale, levels = record["data"]["scale"], record["diagnosis"]["levels"]
    assert scale["levels"] == levels
    assert len(levels) <= 25
    assert scale["continuous"] == (kind in ("real", "counts"))
    distribution = record["diagnosis"]["distribution"]
    assert all(len(distribution[name]["counts"]) == 10 * (len(levels) + 2) for name in ("rated", "unrated", "ratings"))
    assert 0 < record["reference"]["bias"]["rmse"] < 1.2 * record["reference"]["random"]["rmse"]
    assert record["test"]["ratedndcg@5"] <= record["reference"]["oracle"]["ratedndcg@5"]


def test_a_validation_score_that_is_never_a_number_is_a_divergence(make_config, monkeypatch):
    scored(monkeypatch, *[float("nan")] * 2)
    with pytest.raises(TrainingDiverged, match="ratedndcg@5 on validation was never a number"):
        run_one(make_config())


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
    scored(monkeypatch, 0.1, 0.9, 0.2, 0.3)
    used, train, evaluate = [], loaders.train_loader, loaders.eval_loader
    monkeypatch.setattr(loaders, "train_loader", lambda *given: used.append(given[2]) or train(*given))
    monkeypatch.setattr(loaders, "eval_loader", lambda *given: used.append(given[2]) or evaluate(*given))
    record, path = run_one(make_config(epochs=4, refit=True))
    assert [part for part in used if part in ("train", "known")][:2] == ["train", "known"]
    assert [part for part in used if part in ("valid", "test")] == ["valid", "test"]  # tested once, after training
    assert read_checkpoint(path / "checkpoint.pt", "cpu")["epoch"] == 1
    assert record.timing["best_epoch"] == 2


def test_early_stopping_stops(make_config, monkeypatch):
    scored(monkeypatch, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1)
    assert run_one(make_config(epochs=6, stopping_step=2, refit=False))[0].timing["epochs"] == 4


def test_a_diverging_loss_stops_the_run_and_names_the_phase(make_config, monkeypatch, tmp_path):
    monkeypatch.setattr(DGRM, "generator_loss", lambda self, batch: torch.tensor(torch.nan, requires_grad=True))
    with pytest.raises(TrainingDiverged, match="the generator loss became nan in epoch 1; lower its learning rate"):
        run_one(make_config())
    (path,) = (tmp_path / "runs").iterdir()
    record = record_of(path)
    assert record["status"] == "diverged"
    assert "generator" in record["error"]


def test_a_failing_run_says_so_in_its_record(make_config, tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        run_one(make_config(dataset="missing"))
    assert not (tmp_path / "runs").exists()  # data that is not there is found before a directory is made
    with pytest.raises(DataError):
        run_one(make_config(val_interval={"rating": "[90,91]"}))
    (path,) = (tmp_path / "runs").iterdir()
    assert record_of(path)["status"] == "failed"
    assert "no rating of noise is left" in record_of(path)["error"]


def test_a_run_killed_in_either_stage_resumes_to_the_same_end(make_config, monkeypatch, tmp_path):
    class Killed(BaseException):
        pass

    whole, unbroken = run_one(make_config(epochs=3))
    write = checkpoints.write_checkpoint
    for refitting in (False, True):

        def dies(path, state, refitting=refitting):
            write(path, state)
            if ("selected" in state["note"]) == refitting:
                raise Killed

        with monkeypatch.context() as patch:
            patch.setattr(checkpoints, "write_checkpoint", dies)
            with pytest.raises(Killed):
                run_one(make_config(epochs=3), tmp_path / f"killed-{refitting}")
        again, broken = resume(tmp_path / f"killed-{refitting}")
        assert (again.test, again.valid) == (whole.test, whole.valid)
        ends = [read_checkpoint(path / "checkpoint.pt", "cpu")["state_dict"] for path in (unbroken, broken)]
        assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
        for lines in zip(lines_of(unbroken), lines_of(broken), strict=True):
            first, second = ({**line, "seconds": 0, "validate_s": 0, "diagnose_s": 0} for line in lines)
            assert first == second


@slow
def test_kill_minus_9_loses_nothing(make_config, tmp_path):
    keys = {"epochs": 60, "stopping_step": 60, "refit": False}
    given = {**make_config(**keys).given, "output_dir": str(tmp_path / "killed")}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(given))
    process = subprocess.Popen(
        [sys.executable, "-m", "recbole_dgrm", f"--config_files={tmp_path / 'run.yaml'}"], stdout=subprocess.DEVNULL
    )
    wait_for(lambda: list(tmp_path.glob("killed/*/checkpoint.pt")))
    process.send_signal(signal.SIGKILL)
    process.wait()
    (broken,) = (tmp_path / "killed").iterdir()
    assert record_of(broken)["status"] == "running"
    assert read_checkpoint(broken / "checkpoint.pt", "cpu")["epoch"] < 59
    assert resume(broken)[0].test == run_one(make_config(**keys))[0].test


@pytest.fixture
def noisy_config(make_config, tmp_path):
    """Users with one item to validate and one to test, so no order differs from another; RMSE selects."""
    rng = np.random.default_rng(0)
    pairs = [(user, item) for user in range(90) for item in rng.choice(9, 3, replace=False)]
    table = pd.DataFrame([(*pair, 1 + sum(pair) % 5) for pair in pairs], columns=["user_id", "item_id", "rating"])
    write_ratings(tmp_path / "data", "noisy", table)
    return partial(make_config, dataset="noisy", data_path=str(tmp_path / "data"), epochs=4)


def test_where_the_ranking_cannot_tell_the_epoch_of_the_best_rmse_is_tested(noisy_config):
    record, path = run_one(noisy_config(refit=False))
    saved = record_of(path)
    assert (saved["config"]["valid_metric"], saved["selected_by"]) == ("auto", "RMSE")
    assert saved["resolution"]["valid"]["ratedndcg@5"] == {"ratio": 0, "users": 0, "of": 90}
    assert set(saved["resolution"]) == {"valid", "test"}
    errors = [line["valid_rmse"] for line in lines_of(path)]
    assert saved["timing"]["best_epoch"] == 1 + int(np.argmin(errors))
    assert record.valid["rmse"] == min(errors)
    assert "on validation RatedNDCG@5 (resolution 0" in (path / "run.log").read_text()


def test_a_run_goes_on_with_the_same_split_and_the_same_metric_alone(noisy_config):
    _, path = run_one(noisy_config(epochs=2))
    assert resume(interrupted(path))[0].selected_by == "RMSE"
    state = read_checkpoint(path / "checkpoint.pt", "cpu")
    for key in ("fingerprint", "selected_by"):
        other = {**state, "note": {**state["note"], key: "another"}}
        checkpoints.write_checkpoint(interrupted(path) / "checkpoint.pt", other)
        with pytest.raises(CheckpointError, match="belongs to another split or validation metric"):
            resume(path)


def files_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}


def test_resume_refuses_what_is_no_run_or_has_other_data_or_other_code(make_config, tmp_path):
    with pytest.raises(CheckpointError, match="is not a run directory"):
        resume(tmp_path)
    file = write_ratings(tmp_path / "data", "noise", random_ratings())
    _, path = run_one(make_config("MF", data_path=str(tmp_path / "data"), epochs=1))
    before, ratings = files_of(interrupted(path)), file.read_text()
    content = {"inter": "\nu1\ti1\t3", "item": "item_id:token\n1\n", "user": "user_id:token\n1\n", "yaml": "seed: 1\n"}
    for suffix, more in content.items():
        changed = file.with_suffix(f".{suffix}")
        with open(changed, "a") as writer:
            writer.write(more)
        with pytest.raises(CheckpointError, match="cannot be continued, because the files of its data set have"):
            resume(path)
        assert files_of(path) == before
        changed.unlink()
        file.write_text(ratings)
    write_json(path / "record.json", {**record_of(path), "code": 99})
    with pytest.raises(CheckpointError, match="it was made by code that gives other results"):
        resume(path)


def test_a_finished_run_is_read_and_not_written_also_without_its_data(make_config, tmp_path):
    write_ratings(tmp_path / "data", "noise", random_ratings())
    record, path = run_one(make_config("MF", data_path=str(tmp_path / "data"), epochs=1))
    before = files_of(path)
    shutil.rmtree(tmp_path / "data")
    assert resume(path)[0].test == record.test
    assert files_of(path) == before
    (path / "config.yaml").write_text((path / "config.yaml").read_text().replace("epochs: ", "epochs: 1"))
    with pytest.raises(CheckpointError, match="cannot be continued, because it was made with other keys"):
        resume(path)
    assert files_of(path)["record.json"] == before["record.json"]


def test_a_run_stopped_before_its_first_checkpoint_begins_again(make_config):
    first, path = run_one(make_config(), label="mine")
    (interrupted(path) / "checkpoint.pt").unlink()
    again, _ = resume(path)
    assert (again.test, again.label, again.hash) == (first.test, "mine", first.hash)
    assert again.timing["epochs"] == first.timing["epochs"]  # no line is counted twice


def test_a_pickle_is_not_loaded(tmp_path):
    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "touched"), "w"))

    torch.save({"state_dict": Evil()}, tmp_path / "checkpoint.pt")
    with pytest.raises(CheckpointError, match="is not the checkpoint of a run"):
        read_checkpoint(tmp_path / "checkpoint.pt", torch.device("cpu"))
    assert not (tmp_path / "touched").exists()


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


def test_golden_values(make_config):
    """The numbers of this small run, to notice any change of data, training or evaluation."""
    record, _ = run_one(make_config("DGRMPlus", "board", epochs=5, seed=2020))
    assert record.data["fingerprint"] == GOLDEN["fingerprint"]
    for key, value in GOLDEN["test"].items():
        assert record.test[key] == pytest.approx(value, abs=2e-3), key


GOLDEN = json.loads((ROOT / "tests" / "golden" / "dgrmplus_board.json").read_text())
