"""What is seen of a run's predictions, and that looking changes nothing."""

import json

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from recbole_dgrm import data, diagnosis, loaders, registry
from recbole_dgrm.collapse import COLLAPSED, INTACT, NARROW, UNKNOWN
from recbole_dgrm.distribution import Sample, distances
from recbole_dgrm.experiment import run_one
from recbole_dgrm.models.dgrm import DGRM
from recbole_dgrm.records import SavedRun


@pytest.fixture
def looked(make_model):
    """``looked(model, **overrides)``: config, splits, dense scores and what ``diagnosis.look`` finds."""

    def look(name="DGRM", **overrides):
        config, splits, model = make_model(name, eval_batch_size=7, **overrides)
        trainer = registry.trainer_class(name)(config, model)
        trainer.evaluate(loaders.eval_loader(config, splits, "valid"))
        found = diagnosis.look(trainer, config, splits.train)
        users = torch.unique(splits.train.inter_feat["user_id"])
        rows = [scores for _, scores in diagnosis.all_scores(model.eval(), config, users, splits.train.item_num)]
        return config, splits, torch.cat(rows)[:, 1:], found

    return look


@pytest.mark.parametrize("name", ["DGRM", "MF"])
def test_a_look_equals_the_whole_matrix_at_once(looked, monkeypatch, name):
    monkeypatch.setattr(diagnosis, "_observed", lambda model, matrix: torch.arange(1, matrix.shape[0]))
    config, splits, scores, found = looked(name)
    user, item, _ = splits.triples("train")
    rated = torch.zeros_like(scores, dtype=torch.bool)
    rated[user - 1, item - 1] = True
    bins = diagnosis.rating_bins(config)
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


def test_coverage_of_hand_made_lists():
    alike = diagnosis._coverage(np.array([[1, 2], [2, 1], [1, 2]]), 4)
    assert (alike["distinct"], alike["items"]) == (pytest.approx(1 / 3), 0.5)
    assert alike["gini"] == pytest.approx(0.5)  # two of four items share everything equally
    assert alike["entropy"] == pytest.approx(np.log(2))
    even = diagnosis._coverage(np.array([[1, 2], [3, 4]]), 4)
    assert (even["distinct"], even["items"], even["gini"]) == (1, 1, pytest.approx(0))


def test_a_model_of_single_ratings_is_looked_at_on_few_users(looked):
    _, splits, scores, found = looked("NCF")
    assert found["rated"]["n"] + found["unrated"]["n"] < scores.numel()
    assert found["rated"]["n"] + found["unrated"]["n"] <= len(splits.train) + scores.shape[1]


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
    plain, path = run_one(make_config(name, epochs=3, **overrides))
    watched, watched_path = run_one(make_config(name, epochs=3, diagnose_every=1, **overrides))
    assert (plain.test, plain.valid) == (watched.test, watched.valid)
    states = [torch.load(run / "checkpoint.pt", weights_only=True)["state_dict"] for run in (path, watched_path)]
    assert all(torch.equal(value, states[1][key]) for key, value in states[0].items())


def test_what_a_run_leaves(make_config):
    record, path = run_one(make_config("DGRM", epochs=4, diagnose_every=2, eval_step=1, refit=False))
    lines = SavedRun(path, {}).epochs()
    looks = {line["epoch"] + 1: set(line["distribution"]) for line in lines}
    assert looks[1] == looks[2] == looks[4] == {"validation", "rated", "unrated", "between_users", "lists"}
    assert looks[3] == {"validation"}
    found = json.loads((path / "record.json").read_text())["diagnosis"]
    assert set(found["distribution"]) == {"lists", "rated", "unrated", "between_users", "ratings", "test"}
    assert found["seconds"] >= sum(line["diagnose_s"] for line in lines)
    verdict = diagnosis.of_record({"diagnosis": found})
    assert verdict.epoch == record.timing["best_epoch"]
    assert verdict.status in (COLLAPSED, NARROW, INTACT)


def test_the_numbers_of_the_test_part(make_config):
    config = make_config("MF", refit=False)
    record, path = run_one(config)
    config["checkpoint_dir"] = str(path)
    splits = data.build(config)
    model = registry.model_class("MF")(config, splits.train)
    trainer = registry.trainer_class("MF")(config, model)
    model.load_state_dict(torch.load(path / "checkpoint.pt", weights_only=True)["best_state_dict"])
    trainer.evaluate(loaders.eval_loader(config, splits, "test"))
    pairs, bins = trainer.evaluator.predictions, diagnosis.rating_bins(config)
    p, q = (Sample.of(bins, torch.as_tensor(value)).shares for value in (pairs.score, pairs.rating))
    found = record.diagnosis
    assert {name: value["value"] for name, value in found["distances"].items()} == pytest.approx(distances(p, q, 1.0))
    assert found["distances"]["kl"]["value"] == pytest.approx(record.test["ratingkl"], abs=1e-9)
    values = [ks_2samp(pairs.score[pairs.user == user], pairs.rating[pairs.user == user]).pvalue
              for user in np.unique(pairs.user)]  # fmt: skip
    assert found["ks"]["users"] == len(values)
    assert found["ks"]["hits"] == [sum(p >= alpha for p in values) for alpha in diagnosis.ALPHAS]


class Constant(DGRM):
    """Rigged: whatever it has learnt, it predicts one value from the second epoch on."""

    def begin_epoch(self, epoch):
        self.broken = epoch >= 2

    def score_profiles(self, user):
        scores = super().score_profiles(user)
        return torch.full_like(scores, 4.2) if self.broken else self.copy(user)

    def copy(self, user):
        spread = torch.linspace(1, 5, self.width).repeat(len(user), 1)
        return torch.stack([row.roll(int(u)) for u, row in zip(user, spread, strict=True)])


def test_a_rigged_model_is_called_collapsed_and_a_copy_of_the_data_is_not(make_config, monkeypatch):
    monkeypatch.setitem(registry.MODELS, "DGRM", registry.Entry(Constant, registry.MODELS["DGRM"].trainer))
    record, _ = run_one(make_config("DGRM", epochs=5, diagnose_every=1, eval_step=5, refit=False))
    verdict = diagnosis.of_record({"diagnosis": record.diagnosis})
    assert verdict.status == COLLAPSED
    assert verdict.since == 3
    assert "hardly differ" in verdict.reason
    record, _ = run_one(make_config("DGRM", epochs=2, diagnose_every=1, refit=False))
    verdict = diagnosis.of_record({"diagnosis": record.diagnosis})
    assert (verdict.status, verdict.since) == (INTACT, None)


def test_scores_that_are_no_ratings_are_compared_by_their_lists(make_config):
    record, _ = run_one(make_config("BPR", epochs=1))
    found = record.diagnosis
    assert set(found["distribution"]) == {"lists"}
    verdict = diagnosis.of_record({"diagnosis": found})
    assert verdict.status == UNKNOWN
    assert "no ratings" in verdict.line
    assert "of the top-5 lists are distinct" in verdict.line


def test_recboles_models_join_where_their_scores_are_said_to_be_ratings(make_config):
    record, _ = run_one(make_config("BPR", epochs=1, metrics=["RatedNDCG", "RMSE"]))
    assert "unrated" in record.diagnosis["distribution"]


@pytest.mark.parametrize("level", [1, 5])
def test_the_sweep_is_what_models_with_these_keys_predict(make_model, level):
    config, splits, model = make_model("DGRM", prediction_noise_steps=level, denoising_steps=1, center="bias")
    trainer = registry.trainer_class("DGRM")(config, model)
    points = {
        (point["prediction"], point["denoising_steps"]): point for point in diagnosis.sweep(trainer, config, splits)
    }
    assert set(points) == {(reading, steps) for reading in ("posterior", "x_0_hat") for steps in range(6)}
    for (reading, steps), point in points.items():
        keys = {"prediction": reading, "denoising_steps": steps, "prediction_noise_steps": 5, "center": "bias"}
        config, _, single = make_model("DGRM", **keys)
        single.load_state_dict(model.state_dict())
        other = registry.trainer_class("DGRM")(config, single).evaluate(loaders.eval_loader(config, splits, "valid"))
        assert {key: point[key] for key in other} == pytest.approx(other, abs=1e-6)


def test_without_states_at_unrated_entries_the_sweep_has_one_reading(make_model):
    config, splits, model = make_model("DGRM", noise_support="rated", states="dense")
    found = diagnosis.sweep(registry.trainer_class("DGRM")(config, model), config, splits)
    assert {point["prediction"] for point in found} == {"x_0_hat"}
