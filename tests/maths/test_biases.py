import numpy as np
import pytest

from recbole_dgrm.maths.biases import Biases, fit_biases


def random_ratings(seed, n_users=12, n_items=8, share=0.6):
    rng = np.random.default_rng(seed)
    user, item = np.nonzero(rng.random((n_users, n_items)) < share)
    rating = rng.integers(1, 6, len(user)) + rng.normal(0, 0.5, n_users)[user] + rng.normal(0, 0.5, n_items)[item]
    return user, item, rating


def ridge_solution(user, item, rating, n_users, n_items, shrinkage):
    """Minimum of the same objective by one dense solve, the mean fixed to that of the ratings."""
    design = np.hstack([np.eye(n_users)[user], np.eye(n_items)[item]])
    gram = design.T @ design + shrinkage * np.eye(n_users + n_items)
    return np.split(np.linalg.solve(gram, design.T @ (rating - rating.mean())), [n_users])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shrinkage", [3.0, 5.0, 25.0])
def test_biases_are_the_ridge_solution(seed, shrinkage):
    user, item, rating = random_ratings(seed)
    biases = fit_biases(user, item, rating, 12, 8, shrinkage)
    b_user, b_item = ridge_solution(user, item, rating, 12, 8, shrinkage)
    assert biases.mean == pytest.approx(rating.mean())
    assert biases.user == pytest.approx(b_user, abs=1e-3)
    assert biases.item == pytest.approx(b_item, abs=1e-3)


def test_one_user_and_one_item_by_hand():
    """Two ratings 1 and 5 of one user; by symmetry b_u = 0 and each b_i = +-2 / (1 + shrinkage)."""
    biases = fit_biases(np.array([0, 0]), np.array([0, 1]), np.array([1.0, 5.0]), 1, 2, shrinkage=3.0)
    assert biases.mean == 3
    assert biases.user == pytest.approx([0])
    assert biases.item == pytest.approx([-0.5, 0.5])


def test_without_shrinkage_additive_ratings_are_recovered():
    b_user, b_item = np.array([-1.0, 0.25, 0.75]), np.array([-0.5, 0.5])
    user, item = np.repeat(np.arange(3), 2), np.tile(np.arange(2), 3)
    biases = fit_biases(user, item, 3 + b_user[user] + b_item[item], 3, 2, shrinkage=0.0)
    assert biases.mean == pytest.approx(3)
    assert biases.user == pytest.approx(b_user)
    assert biases.item == pytest.approx(b_item)


@pytest.mark.parametrize("shrinkage", [0.0, 5.0])
def test_unseen_users_and_items_have_bias_0(shrinkage):
    biases = fit_biases(np.array([1, 1, 3]), np.array([2, 4, 2]), np.array([1.0, 5.0, 2.0]), 5, 6, shrinkage)
    assert biases.user.shape == (5,)
    assert biases.item.shape == (6,)
    assert biases.user[[0, 2, 4]].tolist() == [0, 0, 0]
    assert biases.item[[0, 1, 3, 5]].tolist() == [0, 0, 0, 0]
    assert biases.predict(np.array([0]), np.array([0])).tolist() == [biases.mean]


def test_shrinkage_pulls_biases_to_0():
    user, item, rating = random_ratings(7)
    fits = [fit_biases(user, item, rating, 12, 8, shrinkage) for shrinkage in (1.0, 10.0, 100.0, 1e9)]
    sizes = [np.square(fit.user).sum() + np.square(fit.item).sum() for fit in fits]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 0.1
    assert sizes[-1] == pytest.approx(0, abs=1e-9)


def test_predict_adds_mean_and_biases_and_broadcasts():
    biases = Biases(3.0, np.array([0.0, 1.0]), np.array([0.5, -0.5, 0.0]))
    assert biases.predict(np.array([1, 0]), np.array([1, 0])).tolist() == [3.5, 3.5]
    table = biases.predict(np.arange(2)[:, None], np.arange(3))
    assert table.tolist() == [[3.5, 2.5, 3.0], [4.5, 3.5, 4.0]]


@pytest.mark.parametrize("shrinkage", [0.0, 5.0])
def test_other_users_with_the_same_ratings_get_the_same_biases(shrinkage):
    rng = np.random.default_rng(0)
    user, item, rating = rng.integers(0, 9, 80), rng.integers(0, 7, 80), rng.integers(1, 6, 80).astype(float)
    biases = fit_biases(user, item, rating, 9, 7, shrinkage)
    other = biases.for_users(user + 1, item, rating, 10, shrinkage)
    np.testing.assert_allclose(other.user, [0.0, *biases.user], atol=1e-12)
    assert (other.mean, other.item is biases.item) == (biases.mean, True)
