from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers import random_ratings, write_ratings

from recbole_dgrm.models.bmf.conditionals import Design
from recbole_dgrm.models.bmf.gibbs import regressors, scaled
from recbole_dgrm.testing import ModelContract


class TestBMF(ModelContract):
    model = "BMF"
    settings: ClassVar = {}
    implicit = None

    def phases(self, model):
        return []  # drawn, not learnt by gradients


@pytest.fixture
def swept(make_model):
    """A config, the splits, and a BMF after some sweeps."""

    def make(**keys):
        config, splits, model = make_model("BMF", **{"epochs": 12, "burn_in": 2, "keep_every": 1, **keys})
        for _ in range(config["epochs"]):
            model.sweep()
        return config, splits, model.eval()

    return make


def all_pairs(model, n_users=5):
    user, width = torch.arange(1, n_users + 1), model.width
    return user, torch.arange(n_users).repeat_interleave(width), torch.arange(width).repeat(n_users)


def test_ratings_are_means_over_the_kept_sweeps(swept):
    _, _, model = swept(chains=2)
    kept = model.factorization
    assert kept.kept == kept.user_rows.shape[1] == 20
    user, row, column = all_pairs(model)
    each = [
        kept.levels[place]
        + kept.user_rows[user][row, place, :-1].mul(kept.item_rows[column, place, :-1]).sum(1)
        + kept.user_rows[user][row, place, -1]
        + kept.item_rows[column, place, -1]
        for place in range(20)
    ]
    exact = torch.stack(each).mean(0) * kept.deviation + kept.centre
    torch.testing.assert_close(model.score_pairs(user, row, column), exact.float())
    torch.testing.assert_close(model.score_profiles(user), exact.float().view(5, -1))


def test_all_that_is_kept_has_its_place(swept):
    assert swept(keep_every=4)[2].factorization.user_rows.shape[1] == 3
    assert swept(keep_every="auto")[2].factorization.kept == 5


def test_the_cached_side_of_the_items_follows_every_sweep_and_every_loaded_state(swept):
    _, _, model = swept()
    user = torch.tensor([1, 2, 3])
    before, state = model.score_profiles(user), {key: value.clone() for key, value in model.state_dict().items()}
    model.factorization.item_rows[:, 3] += 1
    assert not torch.equal(model.score_profiles(user), before)
    model.load_state_dict(state)
    assert torch.equal(model.score_profiles(user), before)
    model.factorization.kept.fill_(4)
    assert not torch.equal(model.score_profiles(user), before)


def test_users_that_are_solved_anew_are_the_same(swept):
    _, splits, model = swept(implicit="both")
    ratings = splits.train.inter_matrix(form="csr", value_field="rating")
    other = model.with_profiles(ratings)
    torch.testing.assert_close(other.factorization.user_rows, model.factorization.user_rows, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("implicit", ["both", "none"])
def test_deviations_are_those_of_draws(swept, implicit):
    """A rating's variance by its parts, against rows that are drawn and errors that are added."""
    _, _, model = swept(epochs=42, implicit=implicit)
    user, row, column = all_pairs(model)
    kept, rng = model.factorization, np.random.default_rng(0)
    design = Design(kept._standard(model.rating_matrix()))
    drawn = []
    for place in range(40):
        other, level, alpha, scale = kept.item_rows[:, place], *kept._numbers(place)
        for _ in range(50):
            noise = torch.from_numpy(rng.standard_normal((model.n_users, other.shape[1]), dtype=np.float32))
            table, target = regressors(other, scale), design.without(other, level)
            rows = scaled(design.posterior(table, target, kept._prior(place), kept.components, alpha, noise)[1], scale)
            mean = level + (rows[user][row, :-1] * other[column, :-1]).sum(1) + rows[user][row, -1] + other[column, -1]
            drawn.append(mean + torch.from_numpy(rng.standard_normal(len(mean))) / alpha**0.5)
    exact = kept.deviation * torch.stack(drawn).std(0)
    np.testing.assert_allclose(model.deviations(user, row, column), exact, rtol=0.1)


def test_features_know_training_pairs_only(make_model):
    _, splits, model = make_model("BMF")
    user, item, _ = splits.triples("train")
    pairs = np.zeros((model.n_users, model.width))
    pairs[user, item - 1] = 1
    exact = pairs / np.sqrt(np.maximum(pairs.sum(1, keepdims=True), 1))
    features = model.factorization.components
    np.testing.assert_allclose(features.left * features.size @ features.right.T, exact, atol=1e-6)


def test_shifted_and_stretched_ratings_give_the_same_result(make_model, tmp_path):
    found = {}
    for shift, factor in ((0, 1), (1000, 1), (0, 20)):
        table = random_ratings()
        table["rating"] = table["rating"] * factor + shift
        write_ratings(tmp_path, "shifted", table)
        _, _, model = make_model("BMF", "shifted", data_path=str(tmp_path), epochs=3)
        for _ in range(3):
            model.sweep()
        found[shift, factor] = (model.score_profiles(torch.arange(1, 20)) - shift) / factor
    for other in ((1000, 1), (0, 20)):
        torch.testing.assert_close(found[other], found[0, 1], atol=2e-3, rtol=0)
