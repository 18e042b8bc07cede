from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers import random_ratings, write_ratings

from recbole_dgrm.errors import OptionError
from recbole_dgrm.maths.als import offset
from recbole_dgrm.testing import ModelContract


class TestMF(ModelContract):
    model = "MF"
    settings: ClassVar = {}
    implicit: ClassVar = {"unrated_weight": 0.1}

    def phases(self, model):
        return []  # closed-form solves: no gradients


@pytest.mark.parametrize("regularize_by", ["count", "plain"])
@pytest.mark.parametrize("unrated_weight", [0.0, 0.2])
def test_every_half_sweep_lowers_the_objective(make_model, regularize_by, unrated_weight):
    _, _, model = make_model("MF", regularize_by=regularize_by, unrated_weight=unrated_weight)
    values = [model.objective()]
    for side in ["user", "item"] * 5:
        model.half_sweep(side)
        values.append(model.objective())
    assert (np.diff(values) < 1e-9).all()
    assert values[-1] < 0.9 * values[1]


@pytest.mark.parametrize("regularize_by", ["count", "plain"])
@pytest.mark.parametrize("unrated_weight", [0.0, 0.2])
def test_a_half_sweep_is_the_direct_least_squares_solution(make_model, regularize_by, unrated_weight):
    _, splits, model = make_model("MF", regularize_by=regularize_by, unrated_weight=unrated_weight)
    user, item, rating = splits.triples("train")
    q = model.item_factors.numpy()
    model.half_sweep("user")
    for one in (1, 5, 20):
        rated, given = item[user == one] - 1, rating[user == one]
        weight = np.full(len(q), unrated_weight)
        weight[rated] = 1.0
        target = np.zeros(len(q))
        target[rated] = given
        penalty = 0.1 * (len(rated) if regularize_by == "count" else 1)
        rows = np.concatenate([np.sqrt(weight)[:, None] * q, np.sqrt(penalty) * np.eye(q.shape[1])])
        direct = np.linalg.lstsq(rows, np.concatenate([np.sqrt(weight) * target, np.zeros(q.shape[1])]), rcond=None)[0]
        np.testing.assert_allclose(model.user_factors[one].numpy(), direct, atol=1e-8)


def test_ratings_that_are_shifted_give_the_same_result(make_model, tmp_path):
    found = {}
    for shift in (0, 1000, -7):
        table = random_ratings()
        table["rating"] += shift
        write_ratings(tmp_path, "shifted", table)
        _, splits, model = make_model("MF", "shifted", data_path=str(tmp_path))
        for _ in range(20):
            model.sweep()
        found[shift] = model.score_profiles(torch.arange(1, splits.train.user_num)) - shift
    for shift in (1000, -7):
        torch.testing.assert_close(found[shift], found[0], atol=5e-4, rtol=0)


def test_a_scale_from_1_to_5_is_factorized_as_it_is():
    assert offset(1, 5) == 0
    assert offset(1001, 1005) == 1000
    assert offset(0, 1) == -0.25


def test_an_item_without_ratings_gets_the_mean_factor(make_model):
    _, splits, model = make_model("MF")
    model.sweep()
    seen = np.unique(splits.triples("train")[1]) - 1
    unseen = np.setdiff1d(np.arange(model.width), seen)
    for item in unseen:
        torch.testing.assert_close(model.item_factors[item], model.item_factors[seen].mean(0))


def test_implicit_feedback_needs_a_weight_for_unrated_entries(make_model):
    with pytest.raises(OptionError, match="unrated_weight=0 learns a constant"):
        make_model("MF", protocol="full")
    _, _, model = make_model("MF", protocol="full", unrated_weight=0.1)
    model.sweep()
    assert model.score_profiles(torch.tensor([1, 2])).std() > 0.01
