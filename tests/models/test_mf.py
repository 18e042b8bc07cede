from typing import ClassVar

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from helpers import random_ratings, write_ratings

from recbole_dgrm.errors import OptionError
from recbole_dgrm.maths.biases import fit_biases
from recbole_dgrm.models.mf import Penalty, half_sweep, offset
from recbole_dgrm.testing import ModelContract


class TestMF(ModelContract):
    model = "MF"
    settings: ClassVar = {}
    implicit: ClassVar = {"unrated_weight": 0.1}

    def phases(self, model):
        return []  # closed-form solves: no gradients


PLAIN = {"center": "none", "prior_ratings": 0}  # ALS-WR of ratings


@pytest.mark.parametrize("center", ["none", "bias"])
@pytest.mark.parametrize("regularize_by", ["count", "plain"])
@pytest.mark.parametrize("unrated_weight", [0.0, 0.2])
def test_every_half_sweep_lowers_the_objective(make_model, regularize_by, unrated_weight, center):
    keys = {"regularize_by": regularize_by, "unrated_weight": unrated_weight, "center": center}
    _, _, model = make_model("MF", prior_ratings=1, **keys)
    values = [model.objective()]
    for side in ["user", "item"] * 5:
        model.half_sweep(side)
        values.append(model.objective())
    assert (np.diff(values) < 1e-9).all()
    assert values[-1] < 0.9 * values[1]


@pytest.mark.parametrize("regularize_by", ["count", "plain"])
@pytest.mark.parametrize("unrated_weight", [0.0, 0.2])
@pytest.mark.parametrize(("center", "prior"), [("none", 0), ("bias", 0), ("bias", 7)])
def test_a_half_sweep_is_the_direct_least_squares_solution(make_model, regularize_by, unrated_weight, center, prior):
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


@pytest.fixture
def factorized(make_model, tmp_path):
    """``factorized(change, **keys)``: predictions of all users from small ratings that are changed."""

    def predictions(change, **keys):
        write_ratings(tmp_path, "changed", random_ratings().assign(rating=lambda table: change(table["rating"])))
        _, splits, model = make_model("MF", "changed", data_path=str(tmp_path), **keys)
        for _ in range(20):
            model.sweep()
        return model.score_profiles(torch.arange(1, splits.train.user_num))

    return predictions


@pytest.mark.parametrize("keys", [{}, PLAIN])
@pytest.mark.parametrize("shift", [1000, -7])
def test_ratings_that_are_shifted_give_the_same_result(factorized, keys, shift):
    shifted = factorized(lambda rating: rating + shift, **keys)
    torch.testing.assert_close(shifted - shift, factorized(lambda rating: rating, **keys), atol=5e-4, rtol=0)


def test_ratings_on_a_wider_scale_give_the_same_result(factorized):
    wide = factorized(lambda rating: 20 * rating, prior_ratings=1)
    torch.testing.assert_close(wide / 20, factorized(lambda rating: rating, prior_ratings=1), atol=1e-4, rtol=0)


def test_a_scale_from_1_to_5_is_factorized_as_it_is():
    assert offset(1, 5) == 0
    assert offset(1001, 1005) == 1000
    assert offset(0, 1) == -0.25


def test_a_row_without_ratings_gets_the_mean_factor_or_that_of_its_centre():
    ratings, fixed = sp.csr_matrix([[1.0, -2.0], [0.0, 0.0], [2.0, 0.0]]), np.array([[1.0, 0.5], [-0.5, 1.0]])
    raw = half_sweep(ratings, fixed, Penalty(0.1))
    np.testing.assert_allclose(raw[1], raw[[0, 2]].mean(axis=0))
    centered = half_sweep(ratings, fixed, Penalty(0.1), centered=True)
    assert not centered[1].any()
    np.testing.assert_array_equal(centered[[0, 2]], raw[[0, 2]])


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


def test_rows_are_the_nearer_to_the_centre_the_more_prior_ratings(make_model):
    sizes = []
    for prior in (0, 10, 100, 1e6):
        _, _, model = make_model("MF", prior_ratings=prior)
        model.sweep()
        every = torch.arange(1, model.n_users)
        sizes.append(float((model.score_profiles(every) - model.center.rows(every)).abs().max()))
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] < 1e-3 < sizes[0]


def test_implicit_feedback_needs_a_weight_for_unrated_entries(make_model):
    with pytest.raises(OptionError, match="unrated_weight=0 learns a constant"):
        make_model("MF", protocol="full")
    _, _, model = make_model("MF", protocol="full", unrated_weight=0.1)
    model.sweep()
    assert model.score_profiles(torch.tensor([1, 2])).std() > 0.01
