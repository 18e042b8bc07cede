from typing import ClassVar

import pytest
import torch
from helpers import random_ratings, write_ratings

from recbole_dgrm.errors import DataError
from recbole_dgrm.testing import ModelContract


def test_ratings_below_0_are_refused(make_model, tmp_path):
    table = random_ratings()
    write_ratings(tmp_path, "below", table.assign(rating=table["rating"] - 3))
    with pytest.raises(DataError, match=r"rating_scale=\[-2.0, 2.0\] begins below 0: add a constant"):
        make_model("CFGAN", "below", data_path=str(tmp_path))


class TestCFGAN(ModelContract):
    model = "CFGAN"
    learns = 0.5  # the adversarial loss alone learns slowly
    epochs = 200
    settings: ClassVar = {"learning_rate": 0.01, "stopping_step": 200}


@pytest.fixture
def everyone(make_model):
    """A CFGAN, all users and their rated mask."""
    _, splits, model = make_model("CFGAN", n_negatives=3)
    users = torch.arange(1, splits.train.user_num)
    return model, users, model.profiles(users)[1]


def test_masks_have_the_count_and_never_a_rated_item(everyone):
    model, users, rated = everyone
    for mask in (model.zero_reconstructed(users, rated), model.visible(users, rated) - rated):
        assert set(mask.unique().tolist()) == {0.0, 1.0}
        assert (mask.sum(-1) == 3).all()
        assert not (mask * rated).any()


def test_zero_reconstruction_and_partial_masking_are_drawn_independently(everyone):
    model, users, rated = everyone
    zero, visible = model.zero_reconstructed(users, rated), model.visible(users, rated) - rated
    assert not torch.equal(zero, visible)
    overlap = float((zero * visible).sum() / zero.sum())
    expected = float((3 / (1 - rated).sum(-1)).mean())
    assert overlap == pytest.approx(expected, abs=0.15)


def test_masks_are_redrawn_each_epoch_and_shared_within_one(everyone):
    model, users, rated = everyone
    model.begin_epoch(0)
    first, again = model.zero_reconstructed(users, rated), model.zero_reconstructed(users, rated)
    model.begin_epoch(1)
    assert torch.equal(first, again)
    assert not torch.equal(first, model.zero_reconstructed(users, rated))


def test_more_negatives_than_unrated_items_are_all_of_them(make_model):
    _, _, model = make_model("CFGAN", n_negatives=10_000)
    users = torch.tensor([1, 2, 3])
    rated = model.profiles(users)[1]
    assert torch.equal(model.negatives(users, rated, 0), 1 - rated)


@pytest.mark.parametrize(("negatives", "zero", "visible"), [("ZR", 1, 0), ("PM", 0, 1), ("ZP", 1, 1), ("none", 0, 0)])
def test_each_kind_of_negatives_does_its_part(make_model, negatives, zero, visible):
    _, _, model = make_model("CFGAN", negatives=negatives)
    users = torch.tensor([1, 2, 3])
    rated = model.profiles(users)[1]
    assert bool(torch.as_tensor(model.zero_reconstructed(users, rated)).any()) == zero
    assert bool((model.visible(users, rated) - rated).any()) == visible


def test_predictions_stay_within_0_and_the_top_of_the_scale(everyone):
    model, users, _ = everyone
    scores = model.score_profiles(users)
    assert (scores >= 0).all()
    assert (scores <= 5).all()
