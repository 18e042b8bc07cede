"""DGRMPlus: profiles of items, the mask of the rated entries, and the blend with another model."""

from copy import copy

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from helpers import paper_keys, with_random_outputs

from recbole_dgrm.data import loaders
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.errors import OptionError
from recbole_dgrm.maths.layers import KeptOutputs
from recbole_dgrm.models import registry
from recbole_dgrm.models.dgrmplus import model as model_module
from recbole_dgrm.models.dgrmplus.model import mask_of
from recbole_dgrm.models.dgrmplus.ridge import ItemRidge
from recbole_dgrm.testing import ModelContract, interaction
from recbole_dgrm.training.checkpoints import read_checkpoint

USERS = torch.tensor([1, 2, 3, 4])
PAIRS = torch.tensor([4, 2, 9]), torch.tensor([2, 0, 1, 0, 2]), torch.tensor([3, 0, 8, 19, 3])
PLUS = {"condition_dropout": 0.5, "reconstruct": "hidden", "condition_scale": "sqrt_count", "mask_channel": True}
orientations = pytest.mark.parametrize("orientation", ["user", "item"])


class TestDGRMPlus(ModelContract):
    model = "DGRMPlus"

    def test_a_refit_adopts_the_share_that_validation_has_chosen(self, trained):
        state = read_checkpoint(trained[1] / "checkpoint.pt", torch.device("cpu"))
        chosen = state["note"]["selected"]["chosen"]["share"]
        assert state["best_state_dict"]["share"].item() == chosen
        assert chosen not in (0.0, 0.5)


@pytest.fixture
def both(make_config):
    """A model of items' profiles, and one of users' profiles on data with users and items exchanged."""

    def made(**keys):
        keys = {**paper_keys(), "blend": 0.0, "mask_channel": False, **keys}
        config = make_config("DGRMPlus", orientation="item", **keys)
        part = build_splits(config).train
        exchanged = copy(part)
        exchanged.uid_field, exchanged.iid_field = part.iid_field, part.uid_field
        names = {"USER_ID_FIELD": part.iid_field, "ITEM_ID_FIELD": part.uid_field}
        models, by_user = [], make_config("DGRMPlus", orientation="user", **names, **keys)
        for given, ratings in [(config, part), (by_user, exchanged)]:
            torch.manual_seed(0)
            models.append(registry.model_class("DGRMPlus")(given, ratings))
        return models

    return made


@pytest.mark.parametrize("keys", [{}, PLUS, {"prediction_noise_steps": 5, "denoising_steps": 3}], ids=str)
def test_items_predict_as_users_do_on_exchanged_data(both, monkeypatch, keys):
    by_item, by_user = both(**keys)
    expected = by_user.score_profiles(torch.arange(1, by_item.n_items)).T
    users = torch.arange(1, by_item.n_users)
    torch.testing.assert_close(by_item.score_profiles(users), expected)
    monkeypatch.setattr(model_module, "ITEMS", 7)
    by_item._kept = KeptOutputs()
    torch.testing.assert_close(by_item.score_profiles(users), expected)
    torch.testing.assert_close(
        by_item.deviations(*PAIRS), by_user.deviations(PAIRS[2] + 1, torch.arange(5), PAIRS[0][PAIRS[1]] - 1)
    )


@orientations
def test_centres_are_those_of_users_and_give_the_ratings_back(make_model, orientation):
    _, splits, model = make_model("DGRMPlus", orientation=orientation)
    user, item, rating = (torch.as_tensor(column) for column in splits.triples("train"))
    n_rows = model.n_items if orientation == "item" else model.n_users
    x_0, mask = model.profiles(torch.arange(1, n_rows))
    entries = x_0.T[user - 1, item - 1] if orientation == "item" else x_0[user - 1, item - 1]
    torch.testing.assert_close(entries + model.center.user[user] + model.center.item[item - 1], rating.float())
    assert mask.sum() == len(rating)


@orientations
def test_pairs_of_users_are_their_training_entries(make_model, orientation):
    _, splits, model = make_model("DGRMPlus", orientation=orientation)
    user = torch.tensor([7, 1, 12])
    places = model.pairs_of(user)
    exact = splits.train.inter_matrix(form="csr")[user.numpy()].toarray()[:, 1:]
    assert places.dense(torch.ones(len(places.row))).tolist() == (exact > 0).tolist()
    assert places.row.tolist() == sorted(places.row.tolist())


def test_batches_are_of_items_that_have_ratings(make_model):
    config, splits, _ = make_model("DGRMPlus", orientation="item", train_batch_size="auto")
    loader = loaders.train_loader(config, splits, "train")
    (batch,) = list(loader)
    assert loader.step == loaders.rows_per_step(splits.train.item_num - 1)
    assert torch.equal(batch["item_id"].sort().values, torch.unique(splits.train.inter_feat["item_id"]))


def test_items_are_predicted_once_while_the_weights_stay(make_model, monkeypatch):
    config, _, model = make_model("DGRMPlus", orientation="item", blend=0.0)
    with_random_outputs(model)
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


def test_the_mask_has_all_rated_places_and_implicit_feedback_has_none(make_model):
    _, _, model = make_model("DGRMPlus", orientation="user", condition_dropout=0.9)
    ids = torch.arange(0, 9)  # the first has no ratings
    _, mask = model.profiles(ids)
    expected = mask / mask.sum(-1, keepdim=True).clamp(min=1).sqrt()
    torch.testing.assert_close(mask_of(model.draw(ids).condition).dense(), expected)
    _, _, implicit = make_model("DGRMPlus", protocol="full")
    assert len(implicit.generator.first.states) == 2  # the state and z: the mask would be all there is to predict


# The blend


def of_share(model, share, user):
    model.share.fill_(share)
    return model.score_profiles(user)


@orientations
@pytest.mark.parametrize("protocol", ["rated", "full"])
def test_a_blend_is_the_weighted_mean_of_network_and_another_model(make_model, orientation, protocol):
    _, _, model = make_model("DGRMPlus", orientation=orientation, protocol=protocol)
    model.begin_epoch(0)
    network, half, other = (of_share(model, share, USERS) for share in (0.0, 0.25, 1.0))
    assert not torch.allclose(network, other)
    if protocol == "full":
        network = (network - network.mean(1, keepdim=True)) / network.std(1, keepdim=True)
    torch.testing.assert_close(half, 0.75 * network + 0.25 * other)


@orientations
@pytest.mark.parametrize("support", ["all", "rated"])
def test_blended_pairs_and_walks_are_in_the_order_that_was_asked_for(make_model, orientation, support):
    _, _, model = make_model("DGRMPlus", blend=0.4, noise_support=support, orientation=orientation)
    model.begin_epoch(0)
    user, row, column = PAIRS
    scores = model.score_profiles(user)
    torch.testing.assert_close(scores[row, column], model.score_pairs(user, row, column))
    whole = list(model.walk(user[row], column))
    single = [list(model.walk(user[row[[n]]], column[[n]])) for n in range(5)]
    for step, states in enumerate(whole):
        for kind, state in enumerate(states):
            torch.testing.assert_close(state, torch.cat([each[step][kind] for each in single]))


@orientations
def test_the_other_model_of_ratings_is_bmf_with_its_deviations(make_model, orientation):
    _, splits, model = make_model("DGRMPlus", orientation=orientation)
    _, _, bmf = make_model("BMF", burn_in=15, epochs=17, factors=2, keep_every="auto")
    model.begin_epoch(0)
    for _ in range(17):
        bmf.sweep()
    torch.testing.assert_close(of_share(model, 1.0, USERS), bmf.score_profiles(USERS))
    model.share.fill_(0.3)
    torch.testing.assert_close(model.deviations(*PAIRS), bmf.deviations(*PAIRS))
    ratings = splits.train.inter_matrix(form="csr", value_field="rating")
    new = model.with_profiles(ratings), bmf.with_profiles(ratings)
    torch.testing.assert_close(*(each.deviations(*PAIRS) for each in new))
    if orientation == "item":  # the network has no weights for new users
        torch.testing.assert_close(*(each.score_profiles(USERS) for each in new))
    sure = model.deviations(*PAIRS)
    model.share.fill_(0)
    assert (model.deviations(*PAIRS) < sure).all()  # z spreads a network that has learnt nothing by little


def test_the_share_is_that_of_the_least_squared_error_on_validation(make_model):
    config, splits, model = make_model("DGRMPlus")
    model.begin_epoch(0)
    model.choose(loaders.eval_loader(config, splits, "valid"), None)
    chosen = model.chosen()["share"]
    user, item, rating = (torch.as_tensor(column) for column in splits.triples("valid"))
    pairs = interaction(config, user, item)

    def error(share):
        model.share.fill_(share)
        return (model.predict(pairs) - rating).square().sum()

    assert 0 <= chosen <= 1
    assert error(chosen) <= min(error(share) for share in torch.linspace(0, 1, 101)) + 1e-4
    model.adopt({"share": 0.125})
    assert model.chosen() == {"share": 0.125}


def test_the_share_of_scores_goes_a_step_to_where_the_score_is_better(make_model):
    _, _, model = make_model("DGRMPlus", protocol="full")
    for _ in range(6):
        model.choose(None, lambda: -abs(model.share.item() - 0.21))
    assert model.chosen()["share"] == pytest.approx(0.2)


def test_a_share_that_is_given_is_not_chosen(make_model):
    _, _, model = make_model("DGRMPlus", blend=0.3)
    model.choose(None, None)
    assert model.chosen() == {}
    assert model.share.item() == pytest.approx(0.3)


def test_more_items_than_a_ridge_regression_can_have_are_refused(make_model, monkeypatch):
    monkeypatch.setattr(model_module, "MOST_ITEMS", 20)
    with pytest.raises(OptionError, match=r"blend=auto inverts a matrix .* 25 items, more than 20; set blend=0"):
        make_model("DGRMPlus", protocol="full")


def test_the_ridge_regresses_each_item_on_the_others_and_scores_other_users_by_it():
    rows, strength = sp.csr_matrix((np.random.default_rng(0).random((30, 8)) < 0.3).astype(np.float64)), 3.0
    x, wanted = rows.toarray(), np.empty(rows.shape)
    for item in range(8):
        others = np.delete(x, item, axis=1)
        weight = np.linalg.solve(others.T @ others + strength * np.eye(7), others.T @ x[:, item])
        wanted[:, item] = others @ weight
    ridge = ItemRidge(rows, strength)
    np.testing.assert_allclose(ridge.ratings(torch.tensor([4, 0, 17])), wanted[[4, 0, 17]], atol=1e-6)
    ridge.set_users(rows[::-1][:5].tocsr())
    np.testing.assert_allclose(ridge.ratings(torch.tensor([0, 1])), wanted[[29, 28]], atol=1e-6)
    assert ridge.weight.is_contiguous()  # rows are read; reading them by column takes twenty times as long
