"""Runs and their files: records, refit, resume after a kill, divergence."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
import yaml
from helpers import ROOT, interrupted, random_ratings, write_ratings

from recbole_dgrm.config.layers import load_config
from recbole_dgrm.data import loaders
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.errors import CheckpointError, DataError, TrainingDiverged
from recbole_dgrm.evaluation import selection
from recbole_dgrm.models import registry
from recbole_dgrm.models.dgrm.model import DGRM
from recbole_dgrm.runs import experiment
from recbole_dgrm.runs.experiment import resume, run_one
from recbole_dgrm.runs.trial import Trial
from recbole_dgrm.system.files import write_json, write_whole
from recbole_dgrm.training import checkpoints, recorded_trainer, trainers
from recbole_dgrm.training.checkpoints import read_checkpoint
from recbole_dgrm.training.plain_state import pack, unpack
from recbole_dgrm.training.trainers import trainer_class


def record_of(path) -> dict:
    return json.loads((path / "record.json").read_text(encoding="utf-8"))


def test_a_run_leaves_its_files_and_nothing_else_anywhere(make_config, tmp_path, monkeypatch):
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    _, path = run_one(make_config())
    names = {file.name for file in path.iterdir()}
    wanted = {"record.json", "config.yaml", "metrics.jsonl", "per_user.npz", "checkpoint.pt", "run.log", "events"}
    assert names - {".lock"} == wanted
    assert {file.parent.name for file in path.glob("events/*/events.out.tfevents.*")} == {"select", "refit"}
    assert not list((tmp_path / "cwd").iterdir())


def test_the_record_has_the_documented_keys(make_config):
    _, path = run_one(make_config())
    record = record_of(path)
    keys = "model dataset protocol seed status error config data test valid reference skill timing environment"
    assert set(keys.split()) <= set(record)
    assert {"fingerprint", "n_users", "n_items", "n_train", "n_valid", "n_test"} <= set(record["data"])
    assert set(record["reference"]) == {"random", "bias", "oracle"}
    timing = {"train_s", "epoch_s", "evaluate_s", "epochs", "best_epoch", "peak_rss_mib"}
    assert timing <= set(record["timing"])
    metrics = {"ratedrecall@5", "ratedndcg@5", "rmse", "mae", "ratingkl"}
    assert set(record["test"]) == set(record["valid"]) == metrics
    assert {"ratedndcg@5", "rmse"} <= set(record["skill"]) <= metrics
    assert (record["status"], record["error"]) == ("finished", None)


ODD_SCALES = {
    "real": lambda rating, rng: rating + rng.normal(0, 0.3, len(rating)),
    "counts": lambda rating, rng: np.exp(1.5 * rating + rng.normal(0, 1, len(rating))).round(),
    "uneven": lambda rating, rng: np.array([0, 0, 2, 5, 10, 11])[rating.astype(int)],
    "below 0": lambda rating, rng: 5 * (rating - 3) + rng.integers(-2, 3, len(rating)) / 4,
    "thumbs": lambda rating, rng: (rating > 3).astype(float),
    "thousands": lambda rating, rng: rating + 1000,
}


@pytest.mark.parametrize("model", ["MF", "DGRMPlus"])
@pytest.mark.parametrize("kind", ODD_SCALES)
def test_ratings_of_any_scale_train_and_report(make_config, tmp_path, kind, model):
    table = random_ratings()
    table["rating"] = ODD_SCALES[kind](table["rating"].to_numpy(), np.random.default_rng(0))
    write_ratings(tmp_path, "odd", table)
    _, path = run_one(make_config(model, "odd", data_path=str(tmp_path), diagnose_every=1))
    record = record_of(path)
    scale, levels = record["data"]["scale"], record["diagnosis"]["levels"]
    assert scale["levels"] == levels
    assert len(levels) <= 25
    assert scale["continuous"] == (kind in ("real", "counts"))
    distribution = record["diagnosis"]["distribution"]
    assert all(len(distribution[name]["counts"]) == 10 * (len(levels) + 2) for name in ("rated", "unrated", "ratings"))
    assert 0 < record["reference"]["bias"]["rmse"] < 1.2 * record["reference"]["random"]["rmse"]
    assert record["test"]["ratedndcg@5"] <= record["reference"]["oracle"]["ratedndcg@5"]


def test_an_epoch_line_has_losses_and_validation(make_config):
    _, path = run_one(make_config(refit=False))
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [0, 1]
    assert {"critic", "generator", "seconds", "valid_ratedndcg@5"} <= set(lines[0])


def test_every_epoch_has_its_line_whatever_eval_step_is(make_config):
    record, path = run_one(make_config(epochs=5, eval_step=2))
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    selecting = [line for line in lines if line["stage"] == "select"]
    assert [line["epoch"] for line in selecting] == list(range(5))
    assert ["valid_rmse" in line for line in selecting] == [False, True, False, True, False]
    assert record.timing["epochs"] == 5
    assert len(lines) - 5 == record.timing["best_epoch"]


def test_a_validation_score_that_is_never_a_number_is_a_divergence(make_config, monkeypatch):
    monkeypatch.setattr(recorded_trainer, "calculate_valid_score", lambda result, metric: float("nan"))
    with pytest.raises(TrainingDiverged, match="ratedndcg@5 on validation was never a number"):
        run_one(make_config())


def test_config_yaml_feeds_back_to_the_same_numbers(make_config):
    first, path = run_one(make_config(seed=3, generator_hidden=[12]))
    second, _ = run_one(load_config([path / "config.yaml"]))
    assert second.test == first.test
    assert second.config == first.config
    assert yaml.safe_load((path / "config.yaml").read_text())["generator_hidden"] == [12]


def test_without_refit_the_best_state_is_tested_not_the_last(make_config, monkeypatch):
    scores = iter([0.1, 0.9, 0.2, 0.3])
    monkeypatch.setattr(recorded_trainer, "calculate_valid_score", lambda result, metric: next(scores))
    record, path = run_one(make_config(epochs=4, refit=False))
    state = read_checkpoint(path / "checkpoint.pt", "cpu")
    assert (record.timing["best_epoch"], state["best_epoch"], state["epoch"]) == (2, 1, 3)
    differ = [
        key for key, value in state["state_dict"].items() if not torch.equal(value, state["best_state_dict"][key])
    ]
    assert differ
    config = make_config(epochs=4)
    model = registry.model_class("DGRM")(config, build_splits(config).train)
    model.load_state_dict(state["best_state_dict"])
    trainer = trainer_class(registry.model_class("DGRM"))(config, model)
    assert trainer.evaluate(loaders.eval_loader(config, build_splits(config), "test")) == record.test


def test_refit_learns_from_training_and_validation_for_the_chosen_epochs(make_config, monkeypatch):
    scores = iter([0.1, 0.9, 0.2, 0.3])
    monkeypatch.setattr(recorded_trainer, "calculate_valid_score", lambda result, metric: next(scores))
    learnt = []
    loader = loaders.train_loader
    monkeypatch.setattr(
        loaders, "train_loader", lambda config, splits, part: learnt.append(part) or loader(config, splits, part)
    )
    record, path = run_one(make_config(epochs=4, refit=True))
    assert learnt[:2] == ["train", "known"]
    assert read_checkpoint(path / "checkpoint.pt", "cpu")["epoch"] == 1
    assert record.timing["best_epoch"] == 2


def test_the_test_part_is_scored_once_and_after_training(make_config, monkeypatch):
    parts = []
    loader = loaders.eval_loader
    monkeypatch.setattr(
        loaders, "eval_loader", lambda config, splits, part: parts.append(part) or loader(config, splits, part)
    )
    run_one(make_config())
    assert parts == ["valid", "test"]


def test_early_stopping_stops(make_config, monkeypatch):
    scores = iter([0.9, 0.1, 0.1, 0.1, 0.1, 0.1])
    monkeypatch.setattr(recorded_trainer, "calculate_valid_score", lambda result, metric: next(scores))
    record, _ = run_one(make_config(epochs=6, stopping_step=2, refit=False))
    assert record.timing["epochs"] == 4


def test_a_diverging_loss_stops_the_run_and_names_the_phase(make_config, monkeypatch, tmp_path):
    monkeypatch.setattr(DGRM, "generator_loss", lambda self, batch: torch.tensor(torch.nan, requires_grad=True))
    with pytest.raises(TrainingDiverged, match="the generator loss became nan in epoch 1; lower its learning rate"):
        run_one(make_config())
    (path,) = (tmp_path / "runs").iterdir()
    record = record_of(path)
    assert record["status"] == "diverged"
    assert "generator" in record["error"]


def test_a_failing_run_says_so_in_its_record(make_config, tmp_path):
    with pytest.raises(DataError):
        run_one(make_config(val_interval={"rating": "[90,91]"}))
    (path,) = (tmp_path / "runs").iterdir()
    assert record_of(path)["status"] == "failed"
    assert "no rating of noise is left" in record_of(path)["error"]


def test_data_that_is_not_there_is_found_before_a_directory_is_made(make_config, tmp_path):
    with pytest.raises(DataError, match="there is no folder"):
        run_one(make_config(dataset="missing"))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("stage", ["train", "known"])
def test_a_run_killed_in_either_stage_resumes_to_the_same_end(make_config, monkeypatch, tmp_path, stage):
    class Killed(BaseException):
        pass

    whole, unbroken = run_one(make_config(epochs=4))
    write = checkpoints.write_checkpoint

    def dies(path, state):
        write(path, state)
        if ("selected" in state["note"]) == (stage == "known"):
            raise Killed

    monkeypatch.setattr(checkpoints, "write_checkpoint", dies)
    with pytest.raises(Killed):
        run_one(make_config(epochs=4, output_dir=str(tmp_path / "killed")))
    monkeypatch.setattr(checkpoints, "write_checkpoint", write)
    (broken,) = (tmp_path / "killed").iterdir()
    again, _ = resume(broken)
    assert again.test == whole.test
    assert again.valid == whole.valid
    ends = [read_checkpoint(path / "checkpoint.pt", "cpu")["state_dict"] for path in (unbroken, broken)]
    assert all(torch.equal(value, ends[1][key]) for key, value in ends[0].items())
    lines = [
        [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()] for path in (unbroken, broken)
    ]
    for first, second in zip(*lines, strict=True):
        for line in (first, second):
            line.pop("seconds"), line.pop("diagnose_s", None)
        assert first == second


@pytest.mark.slow
def test_kill_minus_9_loses_nothing(make_config, tmp_path, ratings_path):
    where = {"dataset": "noise", "data_path": str(ratings_path), "output_dir": str(tmp_path / "killed")}
    sizes = {"generator_hidden": [16], "critic_hidden": [8], "latent_size": 4, "device": "cpu"}
    training = {"epochs": 60, "stopping_step": 60, "eval_step": 1, "checkpoint_interval": 0, "refit": False}
    settings = {"model": "DGRM", **where, **sizes, **training}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump(settings))
    code = (
        "import torch; torch.set_num_threads(1)\n"
        "from recbole_dgrm.config.layers import load_config\nfrom recbole_dgrm.runs.experiment import run_one\n"
        f"run_one(load_config([{str(path)!r}]))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env={**os.environ, "OMP_NUM_THREADS": "1"})
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("killed/*/checkpoint.pt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (broken,) = (tmp_path / "killed").iterdir()
    assert record_of(broken)["status"] == "running"
    state = read_checkpoint(broken / "checkpoint.pt", "cpu")
    assert state["epoch"] < 59
    again, _ = resume(broken)
    unbroken, _ = run_one(load_config([path], {"output_dir": str(tmp_path / "unbroken")}))
    assert again.test == unbroken.test


@pytest.fixture
def blunt_config(make_config, tmp_path):
    """Users with one item to validate and one to test, so no order differs from another; RMSE selects."""
    rng = np.random.default_rng(0)
    pairs = [(user, item) for user in range(90) for item in rng.choice(9, 3, replace=False)]
    table = pd.DataFrame([(*pair, 1 + sum(pair) % 5) for pair in pairs], columns=["user_id", "item_id", "rating"])
    write_ratings(tmp_path / "data", "blunt", table)
    return partial(make_config, dataset="blunt", data_path=str(tmp_path / "data"), epochs=4)


def test_where_the_ranking_cannot_tell_the_epoch_of_the_best_rmse_is_tested(blunt_config):
    record, path = run_one(blunt_config(refit=False))
    saved = record_of(path)
    assert (saved["config"]["valid_metric"], saved["selected_by"]) == ("auto", "RMSE")
    assert saved["resolution"]["valid"]["ratedndcg@5"] == {"ratio": 0, "users": 0, "of": 90}
    assert set(saved["resolution"]) == {"valid", "test"}
    errors = [line["valid_rmse"] for line in map(json.loads, (path / "metrics.jsonl").read_text().splitlines())]
    assert saved["timing"]["best_epoch"] == 1 + int(np.argmin(errors))
    assert record.valid["rmse"] == min(errors)
    assert "valid_metric=auto: RMSE selects; on validation RatedNDCG@5 (resolution 0" in (path / "run.log").read_text()


def test_a_metric_that_is_named_selects_even_where_it_cannot_tell(blunt_config):
    record, _ = run_one(blunt_config("MF", valid_metric="RatedNDCG@5"))
    assert record.selected_by == "RatedNDCG@5"
    assert set(record.resolution) == {"test"}


@pytest.mark.parametrize("stage", ["train", "known"])
def test_a_run_that_goes_on_is_selected_by_the_same_metric(blunt_config, monkeypatch, stage):
    _, path = run_one(blunt_config(refit=stage == "known"))
    again, _ = resume(interrupted(path))
    assert again.selected_by == "RMSE"
    monkeypatch.setattr(selection, "_choice", lambda names, found: "RatedNDCG@5")
    with pytest.raises(CheckpointError, match="selected by another metric"):
        resume(interrupted(path))


def files_of(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.is_file()}


@pytest.mark.parametrize("suffix", ["inter", "item", "user", "yaml"])
def test_resume_refuses_what_is_no_run_and_data_of_which_a_file_has_changed(make_config, tmp_path, suffix):
    with pytest.raises(CheckpointError, match="is not a run directory"):
        resume(tmp_path)
    write_ratings(tmp_path / "data", "noise", random_ratings())
    _, path = run_one(make_config("MF", data_path=str(tmp_path / "data")))
    before = files_of(interrupted(path))
    content = {"inter": "\nu1\ti1\t3", "item": "item_id:token\n1\n", "user": "user_id:token\n1\n", "yaml": "seed: 1\n"}
    with open(tmp_path / "data" / "noise" / f"noise.{suffix}", "a") as file:
        file.write(content[suffix])
    with pytest.raises(CheckpointError, match="cannot go on, because the files of its data set have changed since"):
        resume(path)
    assert files_of(path) == before


def test_a_run_by_code_that_gave_other_results_is_not_continued(make_config, monkeypatch):
    _, path = run_one(make_config("MF"))
    write_json(interrupted(path) / "record.json", {**record_of(path), "code": 99})
    with pytest.raises(CheckpointError, match="it was made by code that gives other results"):
        resume(path)


def test_a_finished_run_is_read_and_not_written_also_without_its_data(make_config, tmp_path):
    write_ratings(tmp_path / "data", "noise", random_ratings())
    record, path = run_one(make_config("MF", data_path=str(tmp_path / "data")))
    before = files_of(path)
    shutil.rmtree(tmp_path / "data")
    assert resume(path)[0].test == record.test
    assert files_of(path) == before
    (path / "config.yaml").write_text((path / "config.yaml").read_text().replace("epochs: ", "epochs: 1"))
    with pytest.raises(CheckpointError, match="cannot go on, because it was made with other keys"):
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


def test_per_user_vectors_load_without_pickle_and_average_to_the_record(make_config):
    record, path = run_one(make_config())
    vectors = np.load(path / "per_user.npz", allow_pickle=False)
    assert len(set(vectors["user"])) == len(vectors["user"]) == len(vectors["ratedndcg@5"])
    assert vectors["ratedndcg@5"].mean() == pytest.approx(record.test["ratedndcg@5"], abs=1e-9)
    assert vectors["bias ratedndcg@5"].mean() == pytest.approx(record.reference["bias"]["ratedndcg@5"], abs=1e-9)


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
        seen, wanted = (
            {0, *train_item[train_user == user], *valid_item[valid_user == user]},
            test_item[test_user == user],
        )
        hits = np.isin([item for item in np.argsort(-popularity) if item not in seen][:3], wanted)
        dcg = hits @ discounts[: len(hits)]
        expected[splits.test.id2token("user_id", user)] = dcg / discounts[: len(wanted)].sum()
    _, path = run_one(config)
    vectors = np.load(path / "per_user.npz", allow_pickle=False)
    assert dict(zip(vectors["user"], vectors["bias ndcg@3"], strict=True)) == pytest.approx(expected)


def test_a_file_is_whole_or_absent(tmp_path):
    def breaks(partial):
        partial.write_text("half")
        raise OSError("disk full")

    path = tmp_path / "file"
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, breaks)
    assert not list(tmp_path.iterdir())
    path.write_text("old")
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, breaks)
    assert path.read_text() == "old"


def test_evaluating_twice_gives_one_number_and_leaves_the_training_stream_alone(make_model):
    config, splits, model = make_model("DGRM", prediction_noise_steps=5, prediction_draws=2)
    trainer = trainer_class(registry.model_class("DGRM"))(config, model)
    loader = loaders.eval_loader(config, splits, "valid")
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    results = [trainer.evaluate(loader) for _ in range(2)]
    assert results[0] == results[1]
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("name", ["DGRM", "CFGAN", "DiffRec", "NCF"])
def test_reduced_precision_agrees_and_the_test_is_float32(name, make_config, monkeypatch):
    monkeypatch.setattr(recorded_trainer, "AGREEMENT", 0.02)  # few users, short lists
    tested = []
    original = experiment._Run._test

    def remember(run, trainer, *rest):
        tested.append(trainer)
        original(run, trainer, *rest)

    monkeypatch.setattr(experiment._Run, "_test", remember)
    exact, _ = run_one(make_config(name, "board", epochs=3))
    record, path = run_one(make_config(name, "board", epochs=3, precision="bfloat16"))
    assert " in bfloat16, " in (path / "run.log").read_text()
    assert tested[1]._reduced
    assert not tested[0]._reduced
    assert record.test != exact.test
    assert record.test["rmse"] == pytest.approx(exact.test["rmse"], abs=0.05)
    trainer = tested[1]
    loader = loaders.eval_loader(trainer.config, build_splits(make_config(name, "board")), "test")
    assert dict(trainer.evaluate(loader)) == record.test


def test_where_reduced_precision_disagrees_training_goes_on_in_float32(make_config, monkeypatch):
    monkeypatch.setattr(recorded_trainer, "AGREEMENT", -1.0)
    seen = []
    original = trainers.AlternatingTrainer._step

    def remember(trainer, *rest):
        seen.append(trainer._reduced)
        return original(trainer, *rest)

    monkeypatch.setattr(trainers.AlternatingTrainer, "_step", remember)
    _, path = run_one(make_config("DGRM", precision="bfloat16", epochs=2, refit=False))
    assert "training goes on in float32" in (path / "run.log").read_text()
    assert seen[0]
    assert not seen[-1]


@pytest.mark.parametrize("name", ["DGRM", "BPR", "EASE"])
@pytest.mark.parametrize("protocol", ["rated", "full"])
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


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "array", "number"])
def test_packed_values_come_back(kind, tmp_path):
    dense = np.array([[0.0, 1.5], [2.0, 0.0]])
    value = {"array": dense, "number": np.float64(3.0)}.get(kind)
    value = scipy.sparse.coo_matrix(dense).asformat(kind) if value is None else value
    torch.save({"value": pack(value)}, tmp_path / "file")
    again = unpack(torch.load(tmp_path / "file", weights_only=True)["value"])
    if kind in ("csr", "csc", "coo"):
        assert again.format == kind
        np.testing.assert_array_equal(again.toarray(), dense)
    else:
        np.testing.assert_array_equal(again, value)


def test_what_is_not_plain_is_refused():
    with pytest.raises(TypeError, match="a set cannot be kept as plain data"):
        pack({1})
