from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers import random_ratings, write_ratings

from recbole_dgrm.maths.biases import fit_biases
from recbole_dgrm.models import mf
from recbole_dgrm.testing import ModelContract


class TestMF(ModelContract):
    model = "MF"
    settings: ClassVar = {}
    implicit: ClassVar = {"unrated_weight": 0.1}

    def phases(self, model):
        return []  # closed-form solves: no gradients


PLAIN = {"center": "none", "prior_ratings": 0}  # ALS-WR of ratings


def objective(model):
    """The objective of the module's docstring, computed from all entries."""
    ratings = model.rating_matrix().toarray() / model.unit - model.offset.item() / model.unit
    rated = model.rating_matrix().astype(bool).toarray()
    p, q = model.user_factors.numpy(), model.item_factors.numpy()
    weight = np.where(rated, 1.0, model.options.unrated_weight)
    loss = (weight * np.square(np.where(rated, ratings, 0) - p @ q.T)).sum()
    for factors, side in ((p, model.users), (q, model.items)):
        loss += ((side.count > 0) * model.penalties(side.count)).numpy() @ np.square(factors).sum(axis=1)
    return loss


@pytest.mark.parametrize(
    ("regularize_by", "unrated_weight", "center"),
    [("count", 0.0, "bias"), ("count", 0.2, "none"), ("plain", 0.0, "none"), ("plain", 0.2, "bias")],
)
def test_every_half_sweep_lowers_the_objective(make_model, regularize_by, unrated_weight, center):
    keys = {"regularize_by": regularize_by, "unrated_weight": unrated_weight, "center": center}
    _, _, model = make_model("MF", prior_ratings=1, **keys)
    values = [objective(model)]
    for side in ["user", "item"] * 5:
        model.half_sweep(side)
        values.append(objective(model))
    assert (np.diff(values) < 1e-9).all()
    assert values[-1] < 0.9 * values[1]
    assert model.sweep() * int(model.users.count.sum()) == pytest.approx(objective(model), rel=1e-6)


@pytest.mark.parametrize("regularize_by", ["count", "plain"])
@pytest.mark.parametrize("unrated_weight", [0.0, 0.2])
@pytest.mark.parametrize(("center", "prior"), [("none", 0), ("bias", 0), ("bias", 7)])
def test_a_half_sweep_is_the_direct_least_squares_solution(
    make_model, monkeypatch, regularize_by, unrated_weight, center, prior
):
    monkeypatch.setattr(mf, "SUMS", torch.float64)
    keys = {"regularize_by": regularize_by, "unrated_weight": unrated_weight, "center": center}
    _, splits, model = make_model("MF", prior_ratings=prior, regularization=0.1, **keys)
    user, item, rating = splits.triples("train")
    if center == "bias":
        rating = rating - fit_biases(user, item, rating, model.n_users, model.n_items, 5.0).predict(user, item)
    q = model.item_factors.numpy()
    model.half_sweep("user")
    for one in (1, 5, 20):
        rated, given = item[user == one] - 1, rating[user == one]
        weight = np.full(len(q), unrated_weight)
        weight[rated] = 1.0
        target = np.zeros(len(q))
        target[rated] = given
        penalty = 0.1 * (len(rated) + prior if regularize_by == "count" else 1)
        rows = np.concatenate([np.sqrt(weight)[:, None] * q, np.sqrt(penalty) * np.eye(q.shape[1])])
        direct = np.linalg.lstsq(rows, np.concatenate([np.sqrt(weight) * target, np.zeros(q.shape[1])]), rcond=None)[0]
        np.testing.assert_allclose(
            model.user_factors[one].numpy(), direct, atol=1e-8 if center == "none" else 1e-6
        )  # centred ratings are float32


def test_sums_in_float32_change_no_prediction(make_model, monkeypatch):
    scores = []
    for kind in (torch.float32, torch.float64):
        monkeypatch.setattr(mf, "SUMS", kind)
        _, _, model = make_model("MF")
        for _ in range(10):
            model.sweep()
        scores.append(model.score_profiles(torch.arange(1, model.n_users)))
    torch.testing.assert_close(*scores, rtol=1e-6, atol=0)


def test_blocks_of_columns_add_up(make_model, monkeypatch):
    _, _, whole = make_model("MF", unrated_weight=0.1)
    monkeypatch.setattr(mf, "CACHE", 5 * 4 * 12 * 13 // 2)
    monkeypatch.setattr(mf, "LEAST", 0)
    _, _, model = make_model("MF", unrated_weight=0.1)
    assert (len(whole.users._blocks), len(model.users._blocks)) == (1, 5)
    for _ in range(3):
        assert model.sweep() == pytest.approx(whole.sweep(), rel=1e-6)
    torch.testing.assert_close(model.item_factors, whole.item_factors, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("keys", "factor", "shift"), [({}, 1, 1000), (PLAIN, 1, -7), ({"prior_ratings": 1}, 20, 0)])
def test_ratings_on_another_scale_give_the_same_result(make_model, tmp_path, keys, factor, shift):
    found = []
    for times, plus in ((1, 0), (factor, shift)):
        table = random_ratings()
        write_ratings(tmp_path, "changed", table.assign(rating=times * table["rating"] + plus))
        _, splits, model = make_model("MF", "changed", data_path=str(tmp_path), **keys)
        for _ in range(20):
            model.sweep()
        found.append((model.score_profiles(torch.arange(1, splits.train.user_num)) - plus) / times)
    torch.testing.assert_close(*found, atol=5e-4, rtol=0)


def test_a_user_and_an_item_without_ratings_get_the_centre(make_model):
    _, splits, model = make_model("MF", prior_ratings=0)
    model.sweep()
    user, item, rating = splits.triples("train")
    biases = fit_biases(user, item, rating, model.n_users, model.n_items, 5.0)
    scores = model.score_profiles(torch.arange(model.n_users)).numpy()
    centre = biases.predict(np.arange(model.n_users)[:, None], np.arange(1, model.n_items))
    np.testing.assert_allclose(scores[0], centre[0], atol=1e-5)  # the padding user has no ratings
    unseen = np.setdiff1d(np.arange(model.width), item - 1)
    np.testing.assert_allclose(scores[:, unseen], centre[:, unseen], atol=1e-5)
    assert np.abs(scores - centre).max() > 0.1


def test_implicit_feedback_is_learnt_with_a_weight_for_unrated_entries(make_model):
    _, _, model = make_model("MF", protocol="full", unrated_weight=0.1)
    model.sweep()
    assert model.score_profiles(torch.tensor([1, 2])).std() > 0.01
