"""The spread of DGRM's draws: how sure the model says it is."""

import pytest
import torch

from recbole_dgrm.models.base import ProfileRecommender
from recbole_dgrm.models.dgrm import sampling, scoring
from recbole_dgrm.models.dgrm.sampling import SPREAD_DRAWS

LITERAL = {"prediction": "posterior", "prediction_noise_steps": 5, "denoising_steps": 3}
FORMS = [
    {"orientation": "user", "prediction_noise_steps": 3, "denoising_steps": 2},
    {"orientation": "item", "prediction_noise_steps": 3},
    {"noise_support": "rated", "prediction_noise_steps": 3},
    LITERAL,
]
PAIRS = torch.tensor([4, 2, 9]), torch.tensor([2, 0, 1, 0, 2]), torch.tensor([3, 0, 8, 19, 3])


@pytest.mark.parametrize("keys", FORMS)
def test_deviations_are_those_of_predictions_with_other_draws(make_model, monkeypatch, keys):
    _, _, model = make_model("DGRM", **keys)
    user, row, column = PAIRS
    drawn = []
    for index in range(SPREAD_DRAWS):
        first = sampling.Sampler.draw

        def shifted(self, _, index=index, draw=first):
            return draw(self, index)

        with monkeypatch.context() as patch:
            patch.setattr(sampling.Sampler, "draw", shifted)
            model.kept = scoring.Kept()
            drawn.append(model.score_pairs(user, row, column))
    found = model.deviations(user, row, column)
    assert (found > 1e-4).all()
    torch.testing.assert_close(found, torch.stack(drawn).std(0), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("keys", FORMS)
def test_deviations_are_a_function_of_the_pair_alone(make_model, monkeypatch, keys):
    _, _, model = make_model("DGRM", **keys)
    user, row, column = PAIRS
    before = torch.get_rng_state()
    whole = model.deviations(user, row, column)
    assert torch.equal(torch.get_rng_state(), before)
    torch.testing.assert_close(model.deviations(user, row, column), whole, rtol=0, atol=0)
    for pair in range(5):
        one = model.deviations(user[row[[pair]]], torch.tensor([0]), column[[pair]])
        torch.testing.assert_close(one, whole[[pair]], rtol=1e-4, atol=1e-6)
    for block in (1, 2 * model.width, 2 * max(model.options.generator_hidden)):  # blocks of one user, and of two
        monkeypatch.setattr(scoring, "BLOCK", block)
        torch.testing.assert_close(model.deviations(user, row, column), whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("keys", "users_at_once"), [({}, 10), ({"prediction": "posterior"}, 1)])
def test_how_many_users_are_drawn_at_once_goes_by_what_is_in_memory(make_model, monkeypatch, keys, users_at_once):
    _, _, model = make_model("DGRM", generator_hidden=[2, 3], **keys)
    assert model.width > 10
    monkeypatch.setattr(scoring, "BLOCK", 30)
    asked, sampler = [], model.sampler

    def counted(ids):
        asked.append(len(ids))
        return sampler(ids)

    monkeypatch.setattr(model, "sampler", counted)
    users = torch.arange(1, 12)
    model.deviations(users, torch.arange(11), torch.zeros(11, dtype=torch.int64))
    assert max(asked) == users_at_once
    assert sum(asked) == 11


@pytest.mark.parametrize("orientation", ["user", "item"])
def test_without_noise_and_z_nothing_spreads(make_model, orientation):
    keys = {"prediction_noise_steps": 0, "latent_size": 0, "orientation": orientation}
    _, _, model = make_model("DGRM", **keys)
    assert model.deviations(*PAIRS).tolist() == [0.0] * 5


@pytest.mark.parametrize("orientation", ["user", "item"])
def test_a_blend_is_as_sure_as_its_factorization(make_model, orientation):
    _, splits, model = make_model("DGRMPlus", blend=0.3, orientation=orientation)
    model.begin_epoch(0)
    user, row, column = PAIRS
    _, _, other = make_model("BMF", factors=2, components=64, chains=1, burn_in=15, epochs=17, keep_every="auto")
    other.factorization.load_state_dict(model.closed_form.other.state_dict())
    torch.testing.assert_close(model.deviations(user, row, column), other.deviations(user, row, column))
    ratings = splits.train.inter_matrix(form="csr", value_field="rating")
    torch.testing.assert_close(
        model.with_profiles(ratings).deviations(user, row, column),
        other.with_profiles(ratings).deviations(user, row, column),
    )
    alone = model.deviations(user, row, column)
    model.closed_form.share.fill_(0)
    assert (model.deviations(user, row, column) < alone).all()  # z spreads a network that has learnt nothing by little


@pytest.mark.parametrize("orientation", ["user", "item"])
def test_pairs_of_users_are_their_training_entries(make_model, orientation):
    _, splits, model = make_model("DGRM", orientation=orientation)
    user = torch.tensor([7, 1, 12])
    places = ProfileRecommender.pairs_of(model, user)
    exact = splits.train.inter_matrix(form="csr")[user.numpy()].toarray()[:, 1:]
    assert places.dense(torch.ones(len(places.row))).tolist() == (exact > 0).tolist()
    assert places.row.tolist() == sorted(places.row.tolist())
