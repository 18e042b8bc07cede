"""DGRM and DGRMPlus: the contract, and what is their own."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from tqdm import tqdm

from recbole_dgrm.data import loaders
from recbole_dgrm.errors import OptionError
from recbole_dgrm.maths.layers import Outputs
from recbole_dgrm.models import registry
from recbole_dgrm.models.dgrm import model as model_module
from recbole_dgrm.models.dgrm import scoring
from recbole_dgrm.models.dgrm.noise import SharedNoise
from recbole_dgrm.runs.experiment import run_one
from recbole_dgrm.testing import ModelContract, interaction
from recbole_dgrm.training.checkpoints import read_checkpoint
from recbole_dgrm.training.trainers import AlternatingTrainer


class TestDGRM(ModelContract):
    model = "DGRM"


class TestDGRMPlus(ModelContract):
    model = "DGRMPlus"


@pytest.fixture
def users(make_config):
    return interaction(make_config(), [1, 2, 3, 4])


def test_profiles_hold_the_training_ratings_without_padding(make_model):
    _, splits, model = make_model()
    user, item, rating = splits.triples("train")
    x_0, mask = model.profiles(torch.arange(1, splits.train.user_num))
    assert x_0.shape == (splits.train.user_num - 1, splits.train.item_num - 1)
    expected = np.zeros(x_0.shape)
    expected[user - 1, item - 1] = rating
    np.testing.assert_array_equal(x_0.numpy(), expected)
    np.testing.assert_array_equal(mask.numpy(), expected > 0)


def test_a_rating_of_zero_is_a_rating(make_model, tmp_path):
    from helpers import random_ratings, write_ratings

    table = random_ratings()
    table["rating"] -= 1
    write_ratings(tmp_path, "zeros", table)
    _, splits, model = make_model(dataset="zeros", data_path=str(tmp_path), rating_scale=[0, 4])
    _, mask = model.profiles(torch.arange(1, splits.train.user_num))
    assert mask.sum() == len(splits.train)


def test_implicit_profiles_are_binary_with_every_item_in_the_mask(make_model):
    _, splits, model = make_model("DGRMPlus", protocol="full", orientation="user")
    x_0, mask = model.profiles(torch.arange(1, splits.train.user_num))
    assert set(x_0.unique().tolist()) == {0.0, 1.0}
    assert (mask == 1).all()
    assert not model.closed_form.center.user.any()


def test_bias_residuals_and_center_give_the_rating_back(make_model):
    _, splits, model = make_model("DGRMPlus", orientation="user")
    user, item, rating = (torch.as_tensor(column) for column in splits.triples("train"))
    x_0, _ = model.profiles(torch.arange(1, splits.train.user_num))
    restored = x_0[user - 1, item - 1] + model.closed_form.center.user[user] + model.closed_form.center.item[item - 1]
    torch.testing.assert_close(restored, rating.float())


def exactly(rows: torch.Tensor) -> Outputs:
    """Outputs of a network that predicts ``rows``."""
    return Outputs(rows, torch.eye(rows.shape[1]), torch.zeros(rows.shape[1]))


def test_the_masking_layer_hides_unrated_items_from_the_critic(make_model, users):
    _, _, model = make_model()
    model.chain.variance.zero_()
    draw = model.draw(users["user_id"])
    x_0_hat, fake = model.generate(draw)
    unrated = model.profiles(users["user_id"])[1] == 0
    weight = model.chain.weight_x_t[draw.t].unsqueeze(-1).expand(unrated.shape)
    torch.testing.assert_close(
        fake.dense()[unrated], (weight * draw.x_t.dense())[unrated]
    )  # as if x_0_hat were 0 there
    assert (x_0_hat.dense()[unrated] != 0).any()


def test_condition_dropout_hides_entries_as_if_unrated(make_model, users):
    _, _, model = make_model("DGRMPlus", condition_scale="none", noise_scale=0.0)
    draw = model.draw(users["user_id"])
    hidden = draw.target.bool()
    assert hidden.any()
    assert not hidden.all()
    assert (draw.condition.value[hidden] == 0).all()
    torch.testing.assert_close(draw.condition.value[~hidden], draw.x_0.value[~hidden])
    torch.testing.assert_close(draw.x_t.value, draw.x_0.value)  # the critic's pair is whole


def test_noise_stays_where_the_condition_hides_a_rating(make_model, users):
    _, _, model = make_model(condition_dropout=0.5, reconstruct="hidden")
    draw = model.draw(users["user_id"])
    hidden = draw.target.bool()
    assert (draw.condition.value[hidden] == 0).all()
    noise = draw.x_t.dense() - draw.x_t.places.dense(draw.x_t.value)
    torch.testing.assert_close(draw.condition.dense() - draw.condition.places.dense(draw.condition.value), noise)
    assert (noise != 0).all()


def test_condition_scale_divides_by_the_root_of_the_entries_kept(make_model, users):
    _, _, model = make_model(condition_scale="sqrt_count", noise_scale=0.0)
    draw = model.draw(users["user_id"])
    x_0, mask = model.profiles(users["user_id"])
    torch.testing.assert_close(draw.condition.dense(), x_0 / mask.sum(-1, keepdim=True).sqrt())


@pytest.mark.parametrize("step", [1, 5])
def test_appendix_b_trains_with_one_fixed_step(make_model, users, step):
    _, _, model = make_model(fixed_step=step)
    assert (model.draw(users["user_id"]).t == step).all()


def test_steps_are_uniform_over_1_to_T(make_model):
    _, splits, model = make_model()
    everyone = torch.arange(1, splits.train.user_num).repeat(100)
    counts = torch.bincount(model.draw(everyone).t, minlength=6)
    assert counts[0] == 0
    assert (counts[1:] > 0.8 * len(everyone) / 5).all()


@pytest.mark.parametrize("lipschitz", ["gradient_penalty", "r1", "weight_clipping", "none"])
def test_the_critic_learns(make_model, lipschitz):
    config, splits, model = make_model(
        lipschitz=lipschitz, critic_learning_rate=0.01, generator_hidden=[64], noise_max=0.1, weight_clip=0.1
    )
    trainer = AlternatingTrainer(config, model)
    critic, loader = model.phases()[0], loaders.train_loader(config, splits, "train")
    before = [parameter.detach().clone() for parameter in model.critic.parameters()]
    for _ in range(20):
        trainer._run_phase(critic, loader, 0, tqdm(disable=True))
    moved = [not torch.equal(old, new) for old, new in zip(before, model.critic.parameters(), strict=True)]
    estimate = wasserstein_estimate(model, splits)
    assert all(moved[:-1])  # the last bias cancels in Eq. 21
    assert np.isfinite(estimate)
    assert estimate > 0


def wasserstein_estimate(model, splits) -> float:
    draw = model.draw(torch.arange(1, splits.train.user_num).repeat(20))
    with torch.no_grad():
        _, fake = model.generate(draw)
        real = model.critic(draw.x_tm1, draw.x_t, draw.t)
        return float(model.critic(fake, draw.x_t, draw.t).mean() - real.mean())


def test_weight_clipping_bounds_the_critic(make_model):
    config, splits, model = make_model(lipschitz="weight_clipping", weight_clip=0.02, critic_learning_rate=0.1)
    AlternatingTrainer(config, model).fit(loaders.train_loader(config, splits, "train"), saved=False)
    assert max(float(parameter.detach().abs().max()) for parameter in model.critic.parameters()) <= 0.02


def test_without_adversarial_term_there_is_no_critic(make_model):
    _, _, model = make_model(adversarial_weight=0.0)
    assert model.critic is None
    assert [phase.name for phase in model.phases()] == ["generator"]


def test_iterations_and_learning_rates_reach_the_phases(make_model):
    _, _, model = make_model(critic_iterations=3, generator_iterations=4, learning_rate=0.5, critic_learning_rate=0.25)
    phases = [(phase.name, phase.repeat, phase.learning_rate) for phase in model.phases()]
    assert phases == [("critic", 3, 0.25), ("generator", 4, 0.5)]


def test_zero_and_T_denoising_steps_frame_the_prediction(make_model, users):
    """Section 4.4.2: T' = 0 is the generator's own output; T' = T ends at x_0, which has no shrinkage."""
    shared = {"prediction": "posterior", "prediction_noise_steps": 5}
    _, _, none = make_model(denoising_steps=0, **shared)
    _, _, every = make_model(denoising_steps=5, **shared)
    every.load_state_dict(none.state_dict())
    direct = none.score_profiles(users["user_id"])
    _, _, hat = make_model(prediction="x_0_hat", prediction_noise_steps=5, denoising_steps=1)
    hat.load_state_dict(none.state_dict())
    torch.testing.assert_close(direct, hat.score_profiles(users["user_id"]))
    assert not torch.allclose(direct, every.score_profiles(users["user_id"]))


def test_posterior_prediction_is_rescaled_to_ratings(make_model, users):
    """A perfect generator and T' < T: the mean of x_{T-T'} is shrunk, the prediction is not."""
    _, _, model = make_model(
        prediction="posterior", prediction_noise_steps=5, denoising_steps=3, prediction_draws=200, noise_max=0.5
    )
    x_0, mask = model.profiles(users["user_id"])
    model.generator.forward = lambda x_t, z, t: exactly(x_0)
    rated = mask.bool()
    error = model.score_profiles(users["user_id"])[rated].mean() - x_0[rated].mean()
    assert abs(float(error)) < 0.05


def test_more_draws_are_averaged(make_model, users):
    _, _, one = make_model(prediction_noise_steps=3)
    _, _, many = make_model(prediction_noise_steps=3, prediction_draws=8)
    many.load_state_dict(one.state_dict())
    user = users["user_id"]
    draws = [many.sampler(user).draw(index).dense() for index in range(8)]
    torch.testing.assert_close(many.score_profiles(users["user_id"]), torch.stack(draws).mean(0))
    torch.testing.assert_close(one.score_profiles(users["user_id"]), draws[0])
    assert not torch.equal(draws[0], draws[1])


def test_prediction_is_not_masked_by_the_training_items(make_model, users):
    _, _, model = make_model()
    scores = model.score_profiles(users["user_id"])
    _, mask = model.profiles(users["user_id"])
    assert (scores[mask == 0] != 0).all()


@pytest.mark.parametrize("overrides", [{"noise_steps": 1}, {"noise_scale": 0.0}, {"latent_size": 0}])
def test_corner_settings_train_and_predict(make_model, overrides):
    config, splits, model = make_model(**overrides)
    trainer = AlternatingTrainer(config, model)
    trainer.fit(
        loaders.train_loader(config, splits, "train"), loaders.eval_loader(config, splits, "valid"), saved=False
    )
    assert np.isfinite(trainer.best_valid_score)


def test_the_plus_model_differs_from_the_paper_by_its_yaml_only():
    plus, paper = registry.MODELS["DGRMPlus"], registry.MODELS["DGRM"]
    own = set(vars(plus)) - {"__module__", "__doc__", "__static_attributes__", "__firstlineno__"}
    assert issubclass(plus, paper)
    assert not own


class TestDGRMKL(ModelContract):
    model = "DGRMKL"


def test_the_discriminator_of_dgrm_kl_learns(make_model):
    config, splits, model = make_model("DGRMKL", critic_learning_rate=0.01, generator_hidden=[64], noise_max=0.1)
    trainer, loader = AlternatingTrainer(config, model), loaders.train_loader(config, splits, "train")
    before = [parameter.detach().clone() for parameter in model.critic.parameters()]
    for _ in range(20):
        loss = trainer._run_phase(model.phases()[0], loader, 0, tqdm(disable=True))
    moved = [not torch.equal(old, new) for old, new in zip(before, model.critic.parameters(), strict=True)]
    assert all(moved)
    assert loss < 2 * np.log(2)  # a coin's cross-entropy
    assert wasserstein_estimate(model, splits) < 0  # logits: high for real


def test_ratings_of_dgrm_kl_keep_one_scale_in_training_and_test(make_model, users):
    """What the generator is asked to reconstruct are the ratings that prediction gives back."""
    _, _, model = make_model("DGRMKL", noise_scale=0.0)
    model.generator.forward = lambda x_t, z, t: exactly(x_t.places.dense(x_t.value))
    x_0, mask = model.profiles(users["user_id"])
    draw = model.draw(users["user_id"])
    torch.testing.assert_close(draw.x_0.dense(), x_0)
    torch.testing.assert_close(model.score_profiles(users["user_id"]) * mask, x_0)


def test_pairs_are_scored_the_same_in_small_blocks(make_model, monkeypatch):
    from recbole_dgrm.models import base

    config, splits, model = make_model()
    pairs = interaction(config, *splits.triples("test")[:2])
    whole = model.predict(pairs)
    monkeypatch.setattr(base, "BLOCK", 3 * model.width)
    torch.testing.assert_close(model.predict(pairs), whole)


@pytest.mark.parametrize("orientation", ["user", "item"])
@pytest.mark.parametrize("support", ["all", "rated"])
@pytest.mark.parametrize(("level", "steps"), [(0, 0), (0, 1), (3, 1), (5, 4)])
def test_scores_of_pairs_are_entries_of_those_of_all_items(make_model, users, level, steps, support, orientation):
    keys = {"prediction_noise_steps": level, "denoising_steps": steps, "prediction_draws": 2, "blend": 0.4}
    _, _, model = make_model("DGRM", noise_support=support, center="bias", orientation=orientation, **keys)
    model.begin_epoch(0)
    user = users["user_id"]
    scores = model.score_profiles(user)
    row, column = torch.tensor([2, 0, 1, 0]), torch.tensor([3, 1, 7, 0])
    torch.testing.assert_close(scores[row, column], model.score_pairs(user, row, column))


def test_noise_falls_on_rated_entries_only_where_that_is_asked_for(make_model, users):
    _, _, model = make_model(noise_support="rated", condition_dropout=0.5)
    draw = model.draw(users["user_id"])
    _, fake = model.generate(draw)
    unrated = model.profiles(users["user_id"])[1] == 0
    for state in (draw.x_tm1, draw.x_t, draw.condition, fake):
        assert not state.dense()[unrated].any()
    assert draw.x_t.dense()[~unrated].all()
    assert (draw.condition.value == 0).any()


def test_no_row_of_noise_is_drawn_where_only_rated_entries_have_any(make_model, users, monkeypatch):
    monkeypatch.setattr(SharedNoise, "table", property(lambda self: pytest.fail("rows were drawn")))
    _, _, model = make_model("DGRMPlus", latent_size=3, orientation="user")
    for phase in model.phases():
        assert torch.isfinite(phase.loss(users))


def test_the_walk_down_the_chain_ends_at_the_last_prediction(make_model, users):
    _, _, model = make_model()
    user = users["user_id"]
    pairs = torch.cartesian_prod(user, torch.arange(model.width)).T
    steps = list(model.walk(*pairs))
    assert len(steps) == model.options.noise_steps + 1
    torch.testing.assert_close(*steps[0])
    torch.testing.assert_close(*steps[-1])  # x_0 is what the generator predicts at t = 1
    torch.testing.assert_close(steps, list(model.walk(*pairs)))
    _, _, literal = make_model(prediction="posterior", prediction_noise_steps=5, denoising_steps=3)
    literal.load_state_dict(model.state_dict())
    torch.testing.assert_close(literal.score_profiles(user).flatten(), steps[3][0])


@pytest.mark.parametrize("support", ["all", "rated"])
@pytest.mark.parametrize("orientation", ["user", "item"])
def test_a_walk_of_pairs_in_any_order_and_in_small_blocks_is_that_of_each(
    make_model, monkeypatch, orientation, support
):
    keys = {"center": "bias", "blend": 0.4, "noise_support": support}
    _, _, model = make_model("DGRM", orientation=orientation, **keys)
    model.begin_epoch(0)
    user, column = torch.tensor([7, 2, 9, 2, 7]), torch.tensor([3, 0, 8, 19, 3])
    whole = list(model.walk(user, column))
    monkeypatch.setattr(scoring, "BLOCK", 2 * model.width)
    torch.testing.assert_close(list(model.walk(user, column)), whole)
    single = [list(model.walk(user[n : n + 1], column[n : n + 1])) for n in range(5)]
    for step, (by_state, by_x_0_hat) in enumerate(whole):
        torch.testing.assert_close(by_state, torch.cat([each[step][0] for each in single]))
        torch.testing.assert_close(by_x_0_hat, torch.cat([each[step][1] for each in single]))


@pytest.mark.parametrize("orientation", ["user", "item"])
def test_a_prediction_follows_the_weights(make_model, users, orientation):
    """What is kept between batches may not outlive the weights that it was computed from, whoever changes them."""
    keys = {"prediction_noise_steps": 3, "latent_size": 20, "orientation": orientation}
    config, splits, model = make_model(**keys)
    before = model.score_profiles(users["user_id"])
    trainer = AlternatingTrainer(config, model)
    trainer._run_phase(trainer.phases[1], loaders.train_loader(config, splits, "train"), 0, tqdm(disable=True))
    _, _, other = make_model(**keys)
    other.load_state_dict(model.state_dict())
    assert not torch.equal(model.score_profiles(users["user_id"]), before)
    assert torch.equal(model.score_profiles(users["user_id"]), other.score_profiles(users["user_id"]))


@pytest.mark.parametrize(("given", "users", "rows"), [("auto", 4, 32), ("auto", 200, 50), (7, 200, 7)])
def test_rows_of_noise_grow_with_the_batch(make_model, given, users, rows):
    draw = make_model(noise_rows=given)[2].draw(torch.arange(1, 5).repeat(users // 4))
    (noise,) = draw.x_tm1.rows.keys() & draw.x_t.rows.keys()
    assert len(noise.source.table) == rows


def of_share(model, share, user):
    model.closed_form.share.fill_(share)
    return model.score_profiles(user)


@pytest.mark.parametrize("orientation", ["user", "item"])
@pytest.mark.parametrize("protocol", ["rated", "full"])
def test_a_blend_is_the_weighted_mean_of_network_and_another_model(make_model, users, orientation, protocol):
    user = users["user_id"]
    _, _, model = make_model("DGRMPlus", orientation=orientation, protocol=protocol)
    model.begin_epoch(0)
    network, half, other = (of_share(model, share, user) for share in (0.0, 0.25, 1.0))
    assert not torch.allclose(network, other)
    if protocol == "full":
        network = (network - network.mean(1, keepdim=True)) / network.std(1, keepdim=True)
    torch.testing.assert_close(half, 0.75 * network + 0.25 * other)


def test_the_other_model_of_ratings_is_bmf(make_model, users):
    _, _, model = make_model("DGRMPlus")
    keys = {"burn_in": 15, "epochs": 17, "factors": 2, "keep_every": "auto"}
    _, _, bmf = make_model("BMF", **keys)
    model.begin_epoch(0)
    for _ in range(17):
        bmf.sweep()
    torch.testing.assert_close(of_share(model, 1.0, users["user_id"]), bmf.score_profiles(users["user_id"]))


def test_the_share_is_that_of_the_least_squared_error_on_validation(make_model):
    config, splits, model = make_model("DGRMPlus")
    model.begin_epoch(0)
    loader = loaders.eval_loader(config, splits, "valid")
    model.choose(loader, None)
    chosen = model.chosen()["share"]
    user, item, rating = (torch.as_tensor(column) for column in splits.triples("valid"))
    pairs = interaction(config, user, item)

    def error(share):
        model.closed_form.share.fill_(share)
        return (model.predict(pairs) - rating).square().sum()

    assert 0 <= chosen <= 1
    assert error(chosen) <= min(error(share) for share in torch.linspace(0, 1, 101)) + 1e-4
    model.adopt({"share": 0.125})
    assert model.chosen() == {"share": 0.125}


def test_the_share_of_scores_goes_a_step_to_where_the_score_is_better(make_model):
    _, _, model = make_model("DGRMPlus", protocol="full")
    share = model.closed_form.share
    for _ in range(6):
        model.choose(None, lambda: -abs(share.item() - 0.21))
    assert model.chosen()["share"] == pytest.approx(0.2)


def test_a_share_that_is_given_is_not_chosen(make_model):
    _, _, model = make_model("DGRMPlus", blend=0.3)
    model.choose(None, None)
    assert model.chosen() == {}
    assert model.closed_form.share.item() == pytest.approx(0.3)


def test_a_refit_adopts_the_share_that_validation_has_chosen(make_config):
    _, path = run_one(make_config("DGRMPlus"))
    state = read_checkpoint(path / "checkpoint.pt", torch.device("cpu"))
    chosen = state["note"]["selected"]["chosen"]["share"]
    assert state["best_state_dict"]["closed_form.share"].item() == chosen
    assert chosen not in (0.0, 0.5)


def test_more_items_than_a_ridge_regression_can_have_are_refused(make_model, monkeypatch):
    monkeypatch.setattr(model_module, "MOST_ITEMS", 20)
    with pytest.raises(OptionError, match=r"blend=auto inverts a matrix .* 25 items, more than 20; set blend=0"):
        make_model("DGRMPlus", protocol="full")


class TestDGRMAtRatedEntries(ModelContract):
    """DGRM with all generalisation options, and noise at the rated entries alone."""

    model = "DGRMPlus"
    settings: ClassVar = {"learning_rate": 0.01, "generator_hidden": [64]}

    @pytest.fixture
    def make_config(self, make_config):
        keys = {"orientation": "user", "mask_channel": False}
        return lambda *arguments, **overrides: make_config(*arguments, **{**keys, **overrides})
