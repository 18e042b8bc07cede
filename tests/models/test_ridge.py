"""The closed form of EASE, against a ridge regression for each item by itself."""

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_dgrm.models.dgrmplus.ridge import ItemRidge

STRENGTH = 3.0


@pytest.fixture
def rows():
    return sp.csr_matrix((np.random.default_rng(0).random((30, 8)) < 0.3).astype(np.float64))


def regressed(x: np.ndarray, item: int) -> np.ndarray:
    """The scores of one item by the ridge regression of its column on the others."""
    others = np.delete(x, item, axis=1)
    weight = np.linalg.solve(others.T @ others + STRENGTH * np.eye(others.shape[1]), others.T @ x[:, item])
    return others @ weight


def test_each_item_is_regressed_on_the_others(rows):
    user = torch.tensor([4, 0, 17])
    wanted = np.stack([regressed(rows.toarray(), item) for item in range(rows.shape[1])], axis=1)
    np.testing.assert_allclose(ItemRidge(rows, STRENGTH).ratings(user), wanted[user], atol=1e-6)


def test_other_users_are_scored_by_what_was_learnt(rows):
    ridge, other = ItemRidge(rows, STRENGTH), rows[::-1][:5].tocsr()
    learnt = ridge.ratings(torch.tensor([29, 28]))
    ridge.set_users(other)
    assert torch.equal(ridge.ratings(torch.tensor([0, 1])), learnt)


def test_the_rows_that_are_picked_lie_in_memory_as_rows(rows):
    """Reading them by column takes twenty times as long."""
    ridge = ItemRidge(rows, STRENGTH)
    ridge.solve()
    assert ridge.weight.is_contiguous()
