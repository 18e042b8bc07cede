"""The centre of ratings, and the models whose key ``center`` makes their targets residuals to it."""

import numpy as np
import pytest
import torch
from helpers import random_ratings, write_ratings
from scipy.sparse import csr_matrix

from recbole_dgrm.data import loaders
from recbole_dgrm.maths.biases import Center, fit_biases
from recbole_dgrm.models.base import ProfileRecommender
from recbole_dgrm.testing import interaction

LEARNT = ["NCF", "ICDAE", "DiffRec", "PRGAN"]  # by gradients; MF and DGRM have tests of their own
PROFILES = ["ICDAE", "DiffRec", "PRGAN"]


def centre_of(splits, shrinkage: float = 5.0) -> np.ndarray:
    """User + item means of all users and items, padding included."""
    n_users, n_items = splits.train.user_num, splits.train.item_num
    biases = fit_biases(*splits.triples("train"), n_users, n_items, shrinkage)
    return biases.predict(np.arange(n_users)[:, None], np.arange(n_items))


def test_a_centre_is_0_until_it_is_fitted_and_no_part_of_the_state_then():
    center = Center(3, 2)
    assert not center.rows(torch.arange(3)).any()
    assert not center.state_dict()
    center.fit(csr_matrix([[0, 0], [1.0, 5.0], [2.0, 4.0]]), "bias", 0.0)
    assert set(center.state_dict()) == {"user", "item"}


def test_rows_and_pairs_of_a_centre_are_those_of_the_biases():
    rng = np.random.default_rng(0)
    ratings = csr_matrix(rng.integers(1, 6, (6, 5)) * (rng.random((6, 5)) < 0.6))
    table = ratings.tocoo()
    biases = fit_biases(table.row, table.col, table.data, 6, 5, 2.0)
    center = Center(6, 5)
    center.fit(ratings, "bias", 2.0)
    expected = biases.predict(np.arange(6)[:, None], np.arange(5)).astype(np.float32)
    torch.testing.assert_close(center.rows(torch.arange(6)), torch.from_numpy(expected))
    user, column = torch.tensor([4, 0, 0]), torch.tensor([1, 3, 0])
    torch.testing.assert_close(center.pairs(user, column), torch.from_numpy(expected[[4, 0, 0], [1, 3, 0]]))


def test_new_users_get_the_biases_of_their_ratings_and_one_without_the_mean_user():
    ratings = csr_matrix([[4.0, 2.0, 0], [5.0, 0, 3.0], [0, 1.0, 1.0]])
    center = Center(3, 3)
    center.fit(ratings, "bias", 5.0)
    rows = center.rows(torch.arange(3))
    center.set_users(csr_matrix([[0, 0, 0], [5.0, 0, 3.0]]))
    torch.testing.assert_close(center.rows(torch.tensor([1])), rows[1:2])
    torch.testing.assert_close(center.rows(torch.tensor([0]))[0] - center.item, torch.full((3,), 16 / 6))


@pytest.mark.parametrize("name", PROFILES)
def test_profiles_and_centre_give_the_ratings_back(make_model, name):
    _, splits, model = make_model(name, center="bias")
    user, item, rating = (torch.as_tensor(column) for column in splits.triples("train"))
    x_0, _ = model.profiles(torch.arange(1, model.n_users))
    assert float(x_0.abs().mean()) < 1 < float(rating.mean())
    torch.testing.assert_close(x_0[user - 1, item - 1] + model.center.pairs(user, item - 1), rating.float())
    _, _, plain = make_model(name, center="none")
    assert torch.equal(plain.profiles(torch.arange(1, model.n_users))[0][user - 1, item - 1], rating.float())


@pytest.mark.parametrize("name", LEARNT)
def test_a_model_that_has_learnt_nothing_predicts_user_and_item_means(make_model, name):
    config, splits, model = make_model(name, center="bias")
    for parameter in model.parameters():
        parameter.data.zero_()
    scores = model.eval().full_sort_predict(interaction(config, range(1, splits.train.user_num)))
    np.testing.assert_allclose(scores[:, 1:].numpy(), centre_of(splits)[1:, 1:], rtol=1e-5)


@pytest.mark.parametrize("name", LEARNT)
def test_ratings_that_are_shifted_give_the_same_losses_and_shifted_predictions(make_model, tmp_path, name):
    losses, scores = [], []
    for shift in (0, 100):
        write_ratings(tmp_path, "shifted", random_ratings().assign(rating=lambda t, shift=shift: t["rating"] + shift))
        config, splits, model = make_model(name, "shifted", data_path=str(tmp_path), center="bias")
        batch = next(iter(loaders.train_loader(config, splits, "train")))
        torch.manual_seed(1)
        phases = [phase.loss for phase in model.phases()] if isinstance(model, ProfileRecommender) else None
        losses.append(torch.stack([loss(batch) for loss in phases or [model.calculate_loss]]))
        scores.append(model.eval().full_sort_predict(interaction(config, [1, 2, 3]))[:, 1:] - shift)
    torch.testing.assert_close(losses[1], losses[0], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(scores[1], scores[0], rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", ["MF", *LEARNT])
def test_implicit_feedback_has_no_centre_and_states_with_and_without_one_are_not_mixed_up(make_model, name):
    keys = {"unrated_weight": 0.1} if name == "MF" else {}
    assert not make_model(name, protocol="full", center="bias", **keys)[2].center.is_fitted
    models = [make_model(name, center=center)[2] for center in ("none", "bias")]
    for one, other in (models, models[::-1]):
        with pytest.raises(RuntimeError, match="center"):
            one.load_state_dict(other.state_dict())
