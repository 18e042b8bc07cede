"""What is seen of a run's predictions, and that looking changes nothing."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import write_ratings
from scipy.stats import ks_2samp

from recbole_dgrm.data import loaders
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.evaluation import collapse, diagnosis
from recbole_dgrm.evaluation.collapse import COLLAPSED, INTACT, NARROW, UNKNOWN
from recbole_dgrm.evaluation.distribution import Sample, distances
from recbole_dgrm.models import registry
from recbole_dgrm.models.dgrm.model import DGRM
from recbole_dgrm.models.dgrm.sampling import Sampler
from recbole_dgrm.records import RunDirectory
from recbole_dgrm.runs.experiment import run_one
from recbole_dgrm.training.trainers import trainer_class


@pytest.fixture
def looked(make_model):
    """``looked(model, **limits)``: config, splits, dense scores and what ``diagnosis.inspect`` finds."""

    def look(name="DGRM", **limits):
        config, splits, model = make_model(name, eval_batch_size=7)
        trainer = trainer_class(registry.model_class(name))(config, model)
        trainer.evaluate(loaders.eval_loader(config, splits, "valid"))
        found = diagnosis.inspect(trainer, config, splits.train, **limits)
        users = torch.unique(splits.train.inter_feat["user_id"])
        rows = [scores for _, scores in diagnosis.all_scores(model.eval(), config, users, splits.train.item_num)]
        return config, splits, torch.cat(rows)[:, 1:], found

    return look


@pytest.mark.parametrize("name", ["DGRM", "MF"])
def test_an_inspection_equals_the_whole_matrix_at_once(looked, name):
    config, splits, scores, found = looked(name)
    user, item, _ = splits.triples("train")
    rated = torch.zeros_like(scores, dtype=torch.bool)
    rated[user - 1, item - 1] = True
    bins = diagnosis.rating_bins(config, splits.scale)
    for part, values in [("rated", scores[rated]), ("unrated", scores[~rated])]:
        assert found[part]["n"] == len(values)
        assert found[part]["counts"] == bins.count(values).tolist()
        assert found[part]["mean"] == pytest.approx(float(values.double().mean()), abs=1e-5)
        assert found[part]["std"] == pytest.approx(float(values.double().std(correction=0)), abs=1e-4)
    within_items = scores.double().var(dim=0, correction=0).mean()
    assert found["between_users"] == pytest.approx(float(within_items / scores.double().var(correction=0)), abs=1e-4)
    lists = scores.masked_fill(rated, -torch.inf).topk(5).indices
    assert found["lists"]["distinct"] == len({frozenset(row) for row in lists.tolist()}) / len(lists)
    assert found["lists"]["items"] == len(set(lists.flatten().tolist())) / scores.shape[1]


def test_a_model_of_single_ratings_is_inspected_on_few_users(looked):
    _, splits, scores, found = looked("NCF", listed=1)  # of a large data set so many would be few
    assert found["rated"]["n"] + found["unrated"]["n"] < scores.numel()
    assert found["rated"]["n"] + found["unrated"]["n"] <= len(splits.train) + scores.shape[1]


def test_all_models_are_compared_on_the_lists_of_the_same_users(looked):
    """Also where the predictions of a model of profiles are counted for other users."""
    seen = {}
    for name in ("DGRM", "MF", "NCF"):
        *_, found = looked(name, listed=12, scores=7 * 26)
        seen[name] = found["lists"]["users"], found["lists"]["of_users"]
        if name == "DGRM":
            assert found["rated"]["n"] + found["unrated"]["n"] == 7 * 25
    assert set(seen.values()) == {(12, 30)}


def test_inspections_of_a_training_share_the_limits_and_many_items_mean_few_lists(looked, monkeypatch):
    monkeypatch.setattr(diagnosis, "LISTED_AT_LEAST", 2)
    monkeypatch.setattr(diagnosis, "LISTED_SCORES", 3 * 5 * 26)
    *_, found = looked(inspections=3, scores=3 * 7 * 26)
    assert found["rated"]["n"] + found["unrated"]["n"] == 7 * 25
    assert found["lists"]["users"] == 5
    assert looked(inspections=300)[-1]["lists"]["users"] == 2


def test_the_time_of_intervals_does_not_grow_with_the_users(make_config, monkeypatch):
    """Groups of users are resampled; the distances themselves stay those of all ratings."""
    each, _ = run_one(make_config("MF", refit=False))
    monkeypatch.setattr(diagnosis, "RESAMPLED", 10)
    groups, _ = run_one(make_config("MF", refit=False))
    first, second = (record.diagnosis["distances"]["kl"] for record in (each, groups))
    assert second["value"] == pytest.approx(first["value"])
    assert second["low"] != first["low"]
    assert second["low"] < second["value"] < second["high"]


def test_scores_of_pairs_stand_in_for_a_full_ranking(make_model, monkeypatch):
    config, splits, model = make_model("MF")
    users = torch.tensor([3, 1, 9])
    (_, whole), *_ = diagnosis.all_scores(model, config, users, splits.train.item_num)
    monkeypatch.setattr(type(model), "full_sort_predict", lambda self, interaction: self.refuses())
    monkeypatch.setattr(type(model), "refuses", lambda self: (_ for _ in ()).throw(NotImplementedError), raising=False)
    (_, pairs), *_ = diagnosis.all_scores(model, config, users, splits.train.item_num)
    torch.testing.assert_close(pairs, whole)


@pytest.mark.parametrize("name", ["DGRM", "NCF", "BPR"])
def test_looking_at_training_changes_no_number_of_it(make_config, name):
    overrides = {"protocol": "full"} if name == "BPR" else {}
    plain, path = run_one(make_config(name, refit=False, **overrides))
    watched, watched_path = run_one(make_config(name, refit=False, diagnose_every=1, **overrides))
    assert (plain.test, plain.valid) == (watched.test, watched.valid)
    states = [torch.load(run / "checkpoint.pt", weights_only=True)["state_dict"] for run in (path, watched_path)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_what_a_run_leaves(make_config):
    record, path = run_one(make_config("DGRM", epochs=4, diagnose_every=2, eval_step=1, refit=False))
    lines = RunDirectory(path, {}).epochs()
    looks = {line["epoch"] + 1: set(line["distribution"]) for line in lines}
    assert looks[1] == looks[2] == looks[4] == {"validation", "rated", "unrated", "between_users", "lists"}
    assert looks[3] == {"validation"}
    found = json.loads((path / "record.json").read_text())["diagnosis"]
    assert set(found["distribution"]) == {"lists", "rated", "unrated", "between_users", "ratings", "test"}
    assert record.timing["diagnose_s"] >= round(sum(line["diagnose_s"] for line in lines), 3)
    verdict = collapse.of_record({"diagnosis": found})
    assert verdict.epoch == record.timing["best_epoch"]
    assert verdict.status in (COLLAPSED, NARROW, INTACT)


def test_the_numbers_of_the_test_part(make_config):
    config = make_config("MF", refit=False)
    record, path = run_one(config)
    config = config.writing_to(path)
    splits = build_splits(config)
    model = registry.model_class("MF")(config, splits.train)
    trainer = trainer_class(registry.model_class("MF"))(config, model)
    model.load_state_dict(torch.load(path / "checkpoint.pt", weights_only=True)["best_state_dict"])
    trainer.evaluate(loaders.eval_loader(config, splits, "test"))
    pairs, bins = trainer.evaluator.predictions, diagnosis.rating_bins(config, splits.scale)
    p, q = (Sample.of(bins, torch.as_tensor(value)).shares for value in (pairs.score, pairs.rating))
    found = record.diagnosis
    assert {name: value["value"] for name, value in found["distances"].items()} == pytest.approx(
        distances(p, q, bins.levels)
    )
    assert found["distances"]["kl"]["value"] == pytest.approx(record.test["ratingkl"], abs=1e-9)
    parts = [pairs.user == user for user in np.unique(pairs.user)]
    values = [ks_2samp(pairs.score[part], pairs.rating[part]).pvalue for part in parts]
    assert found["ks"]["users"] == len(values)
    assert found["ks"]["hits"] == [sum(np.round(values, 12) >= alpha) for alpha in diagnosis.ALPHAS]  # some are 0.1


class Constant(DGRM):
    """Rigged: whatever it has learnt, it predicts one value from the second epoch on."""

    def begin_epoch(self, epoch):
        self.broken = epoch >= 2

    def score_profiles(self, user):
        scores = super().score_profiles(user)
        return torch.full_like(scores, 4.2) if self.broken else self.copy(user)

    def score_at(self, user, places):
        return self.score_profiles(user)[places.row, places.column]

    def copy(self, user):
        spread = torch.linspace(1, 5, self.width).repeat(len(user), 1)
        return torch.stack([row.roll(int(u)) for u, row in zip(user, spread, strict=True)])


def test_a_rigged_model_is_called_collapsed_and_a_copy_of_the_data_is_not(make_config, monkeypatch):
    monkeypatch.setitem(registry.MODELS, "DGRM", Constant)
    record, _ = run_one(make_config("DGRM", epochs=5, diagnose_every=1, eval_step=5, refit=False))
    verdict = collapse.of_record({"diagnosis": record.diagnosis})
    assert verdict.status == COLLAPSED
    assert verdict.since == 3
    assert "hardly differ" in verdict.reason
    record, _ = run_one(make_config("DGRM", epochs=2, diagnose_every=1, refit=False))
    verdict = collapse.of_record({"diagnosis": record.diagnosis})
    assert (verdict.status, verdict.since) == (INTACT, None)


def test_scores_that_are_no_ratings_are_compared_by_their_lists(make_config):
    record, _ = run_one(make_config("BPR", epochs=1, refit=False))
    assert set(record.diagnosis["distribution"]) == {"lists"}
    verdict = collapse.of_record({"diagnosis": record.diagnosis})
    assert verdict.status == UNKNOWN
    assert "not ratings" in verdict.line
    assert "of the top-5 lists are distinct" in verdict.line


def test_the_sweep_is_what_models_with_these_keys_predict_from_the_same_noise(make_model, monkeypatch):
    """A walk needs single entries of the noise; a model that does not gets noise of the same distribution."""
    eps = Sampler._eps
    monkeypatch.setattr(Sampler, "_eps", lambda self, stream, entries: eps(self, stream, entries=True))
    config, splits, model = make_model(
        "DGRM", noise_steps=3, prediction_noise_steps=1, denoising_steps=1, prediction_draws=1
    )
    trainer = trainer_class(registry.model_class("DGRM"))(config, model)
    points = {
        (point["prediction"], point["denoising_steps"]): point for point in diagnosis.sweep(trainer, config, splits)
    }
    assert set(points) == {(reading, steps) for reading in ("posterior", "x_0_hat") for steps in range(4)}
    for (reading, steps), point in points.items():
        keys = {"prediction": reading, "denoising_steps": steps, "prediction_noise_steps": 3, "prediction_draws": 1}
        config, _, single = make_model("DGRM", noise_steps=3, **keys)
        single.load_state_dict(model.state_dict())
        other = trainer_class(registry.model_class("DGRM"))(config, single).evaluate(
            loaders.eval_loader(config, splits, "valid")
        )
        assert {key: point[key] for key in other} == pytest.approx(other, abs=1e-6)


def test_without_states_at_unrated_entries_the_sweep_has_one_reading(make_model):
    config, splits, model = make_model("DGRM", noise_support="rated")
    found = diagnosis.sweep(trainer_class(registry.model_class("DGRM"))(config, model), config, splits)
    assert {point["prediction"] for point in found} == {"x_0_hat"}


def test_a_refitted_model_is_not_swept_because_it_has_seen_the_validation_part(make_config):
    for refit in (False, True):
        record, _ = run_one(make_config("DGRM", epochs=1, diagnose_every=1, refit=refit))
        assert ("sweep" in record.diagnosis) != refit


@pytest.mark.parametrize("name", ["MF", "BPR", "Pop"])
def test_lists_are_as_long_as_items_are_left(make_config, tmp_path, name):
    """Every user has rated 10 of the 12 items and lists of 5 are wanted."""
    rng = np.random.default_rng(0)
    pairs = [(user, item, rng.integers(1, 6)) for user in range(20) for item in rng.permutation(12)[:10]]
    table = pd.DataFrame([*pairs, (99, 0, 3), (99, 1, 4), (99, 2, 5)], columns=["user_id", "item_id", "rating"])
    write_ratings(tmp_path / "data", "dense", table)
    record, _ = run_one(make_config(name, "dense", data_path=str(tmp_path / "data"), epochs=1, refit=False))
    assert (record.status, record.error) == ("finished", None)
    lists = record.diagnosis["distribution"]["lists"]
    assert (lists["n"], lists["users"], lists["of_users"]) == (5, 21, 21)
    assert 0 < lists["distinct"] <= 1


def test_a_run_of_users_who_have_rated_every_item_finishes(make_config, tmp_path):
    pairs = [(user, item, 1 + (user + item) % 5) for user in range(20) for item in range(12)]
    write_ratings(tmp_path / "data", "full", pd.DataFrame(pairs, columns=["user_id", "item_id", "rating"]))
    for name in ("MF", "BPR"):
        record, _ = run_one(make_config(name, "full", data_path=str(tmp_path / "data"), epochs=1, refit=False))
        assert record.status == "finished"


def test_a_popularity_list_is_called_the_same_for_everybody(make_config, tmp_path):
    """Everybody has rated items of his own, so all lists of unseen items are those of the most popular."""
    own = [(user, 10 + 10 * user + k, 1 + k % 5) for user in range(30) for k in range(10)]
    loved = [(user, item, 5) for user in (0, 1) for item in range(5)]
    table = pd.DataFrame([*own, *loved, (2, 0, 4), (2, 1, 4)], columns=["user_id", "item_id", "rating"])
    write_ratings(tmp_path / "data", "same", table)
    keys = {"topk": [2], "valid_metric": "RatedNDCG@2", "data_path": str(tmp_path / "data")}
    record, _ = run_one(make_config("Pop", "same", **keys))
    lists = record.diagnosis["distribution"]["lists"]
    assert (lists["users"], lists["rankings"]) == (30, 1 / 30)
    verdict = collapse.of_record({"diagnosis": record.diagnosis})
    assert verdict.status == COLLAPSED
    assert verdict.reason.endswith("everybody gets the same")


@pytest.mark.parametrize(
    ("distinct", "users", "alike"),
    [
        (0.01, 1000, True),
        (0.011, 1000, False),
        (1 / 30, 30, True),
        (2 / 30, 30, False),
        (1, 1, False),
        (None, 9, False),
    ],
)
def test_when_lists_are_alike(distinct, users, alike):
    assert collapse.alike(distinct, users) is alike


def test_records_of_old_that_do_not_name_their_users_are_readable():
    line = collapse.lists_line({"n": 5, "distinct": 0.5, "items": 0.25, "gini": 0.8, "entropy": 2.0})
    assert line == "50% of the top-5 lists are distinct (users not recorded), they contain 25% of the items, Gini 0.80"
    some = {"n": 5, "distinct": 0.006, "items": 0.25, "gini": 0.8, "users": 1000, "of_users": 6040}
    assert collapse.lists_line(some).startswith("0.6% of the top-5 lists are distinct (1,000 of 6,040 users), they")
