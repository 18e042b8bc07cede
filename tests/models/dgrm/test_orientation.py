"""Profiles of items instead of users, and the mask of the rated entries as a further input."""

from copy import copy
from typing import ClassVar

import pytest
import torch

from recbole_dgrm.data import loaders
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.errors import OptionError
from recbole_dgrm.models import registry
from recbole_dgrm.models.dgrm import scoring
from recbole_dgrm.testing import ModelContract, interaction

PLUS = {"condition_dropout": 0.5, "reconstruct": "hidden", "condition_scale": "sqrt_count", "mask_channel": True}


class TestDGRMOfItems(ModelContract):
    """DGRM with profiles of items, noise at every entry, and the mask."""

    model = "DGRM"

    @pytest.fixture
    def make_config(self, make_config):
        keys = {"orientation": "item", "mask_channel": True}
        return lambda *arguments, **overrides: make_config(*arguments, **{**keys, **overrides})


class TestDGRMPlusOfItems(ModelContract):
    """DGRMPlus with profiles of items and the mask; noise is at rated entries."""

    model = "DGRMPlus"
    settings: ClassVar = {"learning_rate": 0.01, "generator_hidden": [64]}

    @pytest.fixture
    def make_config(self, make_config):
        keys = {"orientation": "item", "mask_channel": True}
        return lambda *arguments, **overrides: make_config(*arguments, **{**keys, **overrides})


@pytest.fixture
def both(make_config):
    """A model of items' profiles, and one of users' profiles on data with users and items exchanged."""

    def made(**keys):
        config = make_config("DGRM", orientation="item", **keys)
        part = build_splits(config).train
        exchanged = copy(part)
        exchanged.uid_field, exchanged.iid_field = part.iid_field, part.uid_field
        names = {"USER_ID_FIELD": part.iid_field, "ITEM_ID_FIELD": part.uid_field}
        models = []
        for given, ratings in [(config, part), (make_config("DGRM", **names, **keys), exchanged)]:
            torch.manual_seed(0)
            models.append(registry.model_class("DGRM")(given, ratings))
        return models

    return made


@pytest.mark.parametrize("keys", [{}, PLUS, PLUS | {"noise_support": "rated"}, {"protocol": "full"}], ids=str)
def test_items_learn_as_users_do_on_exchanged_data(both, keys):
    by_item, by_user = both(**keys)
    ids = torch.arange(1, by_item.n_items)
    for one, other in zip(by_item.phases(), by_user.phases(), strict=True):
        assert all(map(torch.equal, learnt(by_item, one, ids), learnt(by_user, other, ids)))


def learnt(model, phase, ids) -> list[torch.Tensor]:
    """The loss of a phase and its gradients."""
    torch.manual_seed(1)
    loss = phase.loss({model.row_field: ids})
    gradients = torch.autograd.grad(loss, phase.parameters, allow_unused=True, materialize_grads=True)
    return [loss, *gradients]


@pytest.mark.parametrize("keys", [{}, PLUS, {"prediction_noise_steps": 5, "denoising_steps": 3}], ids=str)
def test_items_predict_as_users_do_on_exchanged_data(both, monkeypatch, keys):
    by_item, by_user = both(**keys)
    expected = by_user.score_profiles(torch.arange(1, by_item.n_items)).T
    users = torch.arange(1, by_item.n_users)
    torch.testing.assert_close(by_item.score_profiles(users), expected)
    monkeypatch.setattr(scoring, "ITEMS", 7)
    by_item.kept = scoring.Kept()
    torch.testing.assert_close(by_item.score_profiles(users), expected)


def test_centres_are_those_of_users_and_give_the_ratings_back(make_model):
    _, splits, model = make_model("DGRMPlus", orientation="item")
    _, _, by_user = make_model("DGRMPlus", orientation="user")
    center = model.closed_form.center
    assert torch.equal(center.user, by_user.closed_form.center.user)
    user, item, rating = (torch.as_tensor(column) for column in splits.triples("train"))
    x_0, mask = model.profiles(torch.arange(1, model.n_items))
    restored = x_0[item - 1, user - 1] + center.user[user] + center.item[item - 1]
    torch.testing.assert_close(restored, rating.float())
    assert mask.sum() == len(rating)


def test_batches_are_of_items_that_have_ratings(make_model):
    config, splits, model = make_model(orientation="item", train_batch_size="auto")
    loader = loaders.train_loader(config, splits, "train")
    (batch,) = list(loader)
    assert loader.step == loaders.rows_per_step(splits.train.item_num - 1)
    assert torch.equal(batch["item_id"].sort().values, torch.unique(splits.train.inter_feat["item_id"]))
    assert torch.equal(model.state_rows(batch), torch.bincount(splits.train.inter_feat["item_id"])[batch["item_id"]])


def test_items_are_predicted_once_while_the_weights_stay(make_model, monkeypatch):
    config, _, model = make_model("DGRMPlus", orientation="item", blend=0.0)
    calls, forward = [], model.generator.forward
    monkeypatch.setattr(model.generator, "forward", lambda *given: calls.append(1) or forward(*given))
    first = model.predict(interaction(config, [3, 1], [4, 9]))
    scores = model.full_sort_predict(interaction(config, [1, 3]))
    torch.testing.assert_close(first, scores[[1, 0], [4, 9]])
    assert len(calls) == 1
    with torch.no_grad():
        model.generator.first.bias.add_(1)
    changed = model.full_sort_predict(interaction(config, [1, 3]))
    assert len(calls) == 2
    assert not torch.allclose(changed[:, 1:], scores[:, 1:])
    with torch.autocast("cpu", torch.bfloat16):
        model.full_sort_predict(interaction(config, [1, 3]))
    assert len(calls) == 3  # another precision is another prediction


def test_a_hidden_rating_leaves_its_place_in_the_mask(make_model):
    _, _, model = make_model("DGRMPlus", orientation="user", mask_channel=True, condition_dropout=0.9)
    ids = torch.arange(1, 9)
    draw = model.draw(ids)
    _, mask = model.profiles(ids)
    assert (draw.condition.value == 0).sum() > 0.5 * mask.sum()
    torch.testing.assert_close(draw.condition.mask().dense(), mask / mask.sum(-1, keepdim=True).sqrt())
    weight = model.generator.first.states[1]
    assert weight.shape == (model.width, 16)
    model.generator_loss({model.USER_ID: ids}).backward()
    assert (weight.grad.abs().sum(1) > 0).equal(mask.any(0))


def test_a_row_without_ratings_has_an_empty_mask(make_model):
    _, _, model = make_model("DGRMPlus", orientation="user", mask_channel=True)
    mask = model.x_0(torch.tensor([0, 1])).mask().dense()
    assert not mask[0].any()
    assert mask[1].square().sum() == pytest.approx(1)


def test_implicit_feedback_has_no_mask_channel(make_model):
    """It would be all there is to predict."""
    _, _, model = make_model("DGRMPlus", orientation="user", mask_channel=True, protocol="full")
    assert not model.generator.mask_channel


def test_a_literal_posterior_of_items_is_refused(make_model):
    with pytest.raises(OptionError, match=r"prediction=posterior needs orientation=user"):
        make_model(orientation="item", prediction="posterior")
