"""DGRM and DGRMKL: the contract, and what is their own."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers import random_ratings, with_random_outputs, write_ratings
from tqdm import tqdm

from recbole_dgrm.data import loaders
from recbole_dgrm.models import base
from recbole_dgrm.models.dgrm import prediction, sampling
from recbole_dgrm.models.dgrm.noise import SharedNoise
from recbole_dgrm.testing import ModelContract, interaction
from recbole_dgrm.training.trainers import AlternatingTrainer

USERS = torch.tensor([1, 2, 3, 4])
LITERAL = {"prediction": "posterior", "prediction_noise_steps": 5, "denoising_steps": 3}


class TestDGRM(ModelContract):
    model = "DGRM"


class TestDGRMKL(ModelContract):
    model = "DGRMKL"


class TestDGRMByRatings(ModelContract):
    model = "DGRM"
    keys: ClassVar = {"step_cost": "ratings", "weight_average": 0.5}


def test_profiles_hold_the_training_ratings_without_padding_and_a_rating_of_0_is_one(make_model, tmp_path):
    write_ratings(tmp_path, "zeros", random_ratings().assign(rating=lambda table: table["rating"] - 1))
    _, splits, model = make_model(dataset="zeros", data_path=str(tmp_path), rating_scale=[0, 4], center="none")
    user, item, rating = splits.triples("train")
    x_0, mask = model.profiles(torch.arange(1, splits.train.user_num))
    assert x_0.shape == (splits.train.user_num - 1, splits.train.item_num - 1)
    expected = np.zeros((2, *x_0.shape))
    expected[:, user - 1, item - 1] = rating, np.ones(len(rating))
    np.testing.assert_array_equal(torch.stack([x_0, mask]).numpy(), expected)
    assert mask.sum() > (x_0 > 0).sum()


def test_implicit_profiles_are_binary_with_every_item_in_the_mask_and_no_centre(make_model):
    _, splits, model = make_model(protocol="full", center="bias")
    x_0, mask = model.profiles(torch.arange(1, splits.train.user_num))
    assert set(x_0.unique().tolist()) == {0.0, 1.0}
    assert (mask == 1).all()
    assert not model.center.user.any()


@pytest.mark.parametrize("step", [1, 5])
def test_appendix_b_trains_with_one_fixed_step(make_model, step):
    _, _, model = make_model(fixed_step=step)
    assert (model.draw(USERS).t == step).all()


def test_steps_are_uniform_over_1_to_T(make_model):
    _, splits, model = make_model()
    everyone = torch.arange(1, splits.train.user_num).repeat(100)
    counts = torch.bincount(model.draw(everyone).t, minlength=6)
    assert counts[0] == 0
    assert (counts[1:] > 0.8 * len(everyone) / 5).all()


def wasserstein_estimate(model, splits) -> float:
    draw = model.draw(torch.arange(1, splits.train.user_num).repeat(20))
    with torch.no_grad():
        _, fake = model.generate(draw)
        real = model.critic(draw.x_tm1, draw.x_t, draw.t)
        return float(model.critic(fake, draw.x_t, draw.t).mean() - real.mean())


@pytest.mark.parametrize(
    ("name", "lipschitz"),
    [*(("DGRM", kind) for kind in ("gradient_penalty", "r1", "weight_clipping", "none")), ("DGRMKL", "none")],
)
def test_the_critic_learns(make_model, name, lipschitz):
    keys = {"critic_learning_rate": 0.01, "generator_hidden": [64], "noise_max": 0.1, "weight_clip": 0.1}
    config, splits, model = make_model(name, lipschitz=lipschitz, **keys)
    trainer, loader = AlternatingTrainer(config, model), loaders.train_loader(config, splits, "train")
    before = [parameter.detach().clone() for parameter in model.critic.parameters()]
    for _ in range(20):
        loss = trainer._run_phase(model.phases()[0], loader, 0, tqdm(disable=True))
    moved = [not torch.equal(old, new) for old, new in zip(before, model.critic.parameters(), strict=True)]
    estimate = wasserstein_estimate(model, splits)
    assert all(moved[:-1])  # the last bias cancels in Eq. 21
    assert np.isfinite(estimate)
    assert estimate < 0 if name == "DGRMKL" else estimate > 0  # logits are high for real pairs
    if name == "DGRMKL":
        assert loss < 2 * np.log(2)  # a coin's cross-entropy
    if lipschitz == "weight_clipping":
        assert max(float(parameter.detach().abs().max()) for parameter in model.critic.parameters()) <= 0.1 + 1e-6


def test_iterations_and_learning_rates_reach_the_phases(make_model):
    keys = {"critic_iterations": 3, "generator_iterations": 4, "learning_rate": 0.5, "critic_learning_rate": 0.25}
    phases = [(phase.name, phase.repeat, phase.learning_rate) for phase in make_model(**keys)[2].phases()]
    assert phases == [("critic", 3, 0.25), ("generator", 4, 0.5)]
    _, _, model = make_model(adversarial_weight=0.0, **keys)
    assert model.critic is None
    assert [phase.name for phase in model.phases()] == ["generator"]


def test_more_draws_are_averaged(make_model):
    _, _, one = make_model(prediction_draws=1, center="mean")
    _, _, many = make_model(prediction_draws=8, center="mean")
    many.load_state_dict(with_random_outputs(one).state_dict())
    draws = [many.sampler(USERS).draw(index).dense() for index in range(8)]
    torch.testing.assert_close(many.score_profiles(USERS), torch.stack(draws).mean(0) + many.center.rows(USERS))
    torch.testing.assert_close(one.score_profiles(USERS), draws[0] + one.center.rows(USERS))
    assert not torch.equal(draws[0], draws[1])
    assert (draws[0][many.profiles(USERS)[1] == 0] != 0).all()  # no prediction is masked


@pytest.mark.parametrize("more", [{}, {"noise_support": "rated"}, {"noise_scale": 0.0}, {"latent_size": 0}], ids=str)
@pytest.mark.parametrize(("level", "steps"), [(0, 0), (0, 1), (3, 1), (5, 4)])
def test_scores_of_pairs_are_entries_of_those_of_all_items(make_model, level, steps, more):
    keys = {"prediction_noise_steps": level, "denoising_steps": steps, "prediction_draws": 2}
    _, _, model = make_model(center="bias", **keys, **more)
    row, column = torch.tensor([2, 0, 1, 0]), torch.tensor([3, 1, 7, 0])
    torch.testing.assert_close(model.score_profiles(USERS)[row, column], model.score_pairs(USERS, row, column))


def test_no_row_of_noise_is_drawn_where_only_rated_entries_have_any(make_model, monkeypatch):
    monkeypatch.setattr(SharedNoise, "table", property(lambda self: pytest.fail("rows were drawn")))
    for phase in make_model(noise_support="rated", latent_size=3)[2].phases():
        assert torch.isfinite(phase.loss({"user_id": USERS}))


def test_a_prediction_follows_the_weights(make_model):
    """What is kept between batches may not outlive the weights that it was computed from, whoever changes them."""
    keys = {"prediction_noise_steps": 3, "latent_size": 20}
    config, splits, model = make_model(**keys)
    before = model.score_profiles(USERS)
    trainer = AlternatingTrainer(config, model)
    trainer._run_phase(trainer.phases[1], loaders.train_loader(config, splits, "train"), 0, tqdm(disable=True))
    _, _, other = make_model(**keys)
    other.load_state_dict(model.state_dict())
    assert not torch.equal(model.score_profiles(USERS), before)
    assert torch.equal(model.score_profiles(USERS), other.score_profiles(USERS))


def test_a_state_of_version_0_2_0_is_read(make_model):
    _, _, model = make_model(center="bias")
    old = {
        f"closed_form.{name}" if name.startswith("center") else name: each for name, each in model.state_dict().items()
    }
    for tensor in old.values():
        tensor += 1
    _, _, other = make_model(center="bias", seed=7)
    other.load_state_dict({**old, "closed_form.share": torch.tensor(0.0)})
    assert torch.equal(other.center.item, old["closed_form.center.item"])
    assert other.state_dict().keys() == model.state_dict().keys()


# Predictions of single pairs: their order, blocks of profiles, and the spread of the draws.

FORMS = [
    {"prediction_noise_steps": 3, "denoising_steps": 2},
    {"noise_support": "rated", "prediction_noise_steps": 3, "center": "bias", "rating_scale": [1, 9]},
    LITERAL,
]
PAIRS = torch.tensor([4, 2, 9]), torch.tensor([2, 0, 1, 0, 2]), torch.tensor([3, 0, 8, 19, 3])


@pytest.mark.parametrize("keys", FORMS)
def test_pairs_in_any_order_and_in_small_blocks_are_those_of_each(make_model, monkeypatch, keys):
    config, splits, model = make_model(**keys)
    (user, row, column), known = PAIRS, interaction(config, *splits.triples("test")[:2])

    def found():
        walked = [torch.stack(states) for states in model.walk(user[row], column)]
        return torch.stack([*torch.cat(walked), model.deviations(user, row, column)]), model.predict(known)

    state = torch.get_rng_state()
    whole = found()
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, found(), whole))
    for pair in (0, 3):
        one = model.deviations(user[row[[pair]]], torch.tensor([0]), column[[pair]])
        torch.testing.assert_close(one, whole[0][-1, [pair]], rtol=1e-4, atol=1e-6)
    for block in (1, 2 * model.width):  # blocks of one user, and of two
        for module in (base, prediction):
            monkeypatch.setattr(module, "BLOCK", block)
        torch.testing.assert_close(found(), whole, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("keys", FORMS)
def test_deviations_are_those_of_predictions_with_other_draws(make_model, monkeypatch, keys):
    model = with_random_outputs(make_model(**keys)[2])
    drawn, draw = [], sampling.Sampler.draw
    for index in range(sampling.SPREAD_DRAWS):
        with monkeypatch.context() as patch:
            patch.setattr(sampling.Sampler, "draw", lambda self, _, index=index: draw(self, index))
            drawn.append(model.score_pairs(*PAIRS))
    found = model.deviations(*PAIRS)
    assert (found > 1e-4).all()
    torch.testing.assert_close(found, torch.stack(drawn).std(0), rtol=1e-3, atol=1e-5)


def test_without_noise_and_z_nothing_spreads(make_model):
    _, _, model = make_model(prediction_noise_steps=0, latent_size=0)
    assert model.deviations(*PAIRS).tolist() == [0.0] * 5
