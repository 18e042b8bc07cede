import numpy as np
import pytest

from recbole_dgrm.maths.biases import fit_biases


def random_ratings(seed, n_users=12, n_items=8, share=0.6):
    rng = np.random.default_rng(seed)
    user, item = np.nonzero(rng.random((n_users, n_items)) < share)
    rating = rng.integers(1, 6, len(user)) + rng.normal(0, 0.5, n_users)[user] + rng.normal(0, 0.5, n_items)[item]
    return user, item, rating


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shrinkage", [3.0, 5.0, 25.0, 1e9])
def test_biases_are_the_ridge_solution(seed, shrinkage):
    """The minimum of the same objective by one dense solve, the mean fixed to that of the ratings."""
    user, item, rating = random_ratings(seed)
    biases = fit_biases(user, item, rating, 12, 8, shrinkage)
    design = np.hstack([np.eye(12)[user], np.eye(8)[item]])
    gram = design.T @ design + shrinkage * np.eye(20)
    b_user, b_item = np.split(np.linalg.solve(gram, design.T @ (rating - rating.mean())), [12])
    assert biases.mean == pytest.approx(rating.mean())
    assert biases.user == pytest.approx(b_user, abs=1e-3)
    assert biases.item == pytest.approx(b_item, abs=1e-3)


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
    assert (biases.user.shape, biases.item.shape) == ((5,), (6,))
    assert biases.user[[0, 2, 4]].tolist() == [0, 0, 0]
    assert biases.item[[0, 1, 3, 5]].tolist() == [0, 0, 0, 0]
    assert biases.predict(np.array([0]), np.array([0])).tolist() == [biases.mean]


@pytest.mark.parametrize("shrinkage", [0.0, 5.0])
def test_other_users_with_the_same_ratings_get_the_same_biases(shrinkage):
    user, item, rating = random_ratings(0)
    biases = fit_biases(user, item, rating, 12, 8, shrinkage)
    other = biases.for_users(user + 1, item, rating, 13, shrinkage)
    np.testing.assert_allclose(other.user, [0.0, *biases.user], atol=1e-12)
    assert (other.mean, other.item is biases.item) == (biases.mean, True)
