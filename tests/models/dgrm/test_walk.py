"""The backward process at prediction: its steps, and states that have the law of those in training."""

import pytest
import torch
from helpers import with_random_outputs
from scipy.sparse import vstack

from recbole_dgrm.data import loaders
from recbole_dgrm.maths.layers import Outputs
from recbole_dgrm.models.dgrm.sampling import Sampler
from recbole_dgrm.training.trainers import AlternatingTrainer

USERS = torch.tensor([1, 2, 3, 4])
LITERAL = {"prediction": "posterior", "prediction_noise_steps": 5, "denoising_steps": 3}


def exactly(rows: torch.Tensor) -> Outputs:
    """Outputs of a network that predicts ``rows``."""
    return Outputs(rows, torch.eye(rows.shape[1]), torch.zeros(rows.shape[1]))


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_states_of_the_walk_have_the_law_of_those_in_training(make_model, monkeypatch, scale):
    """A generator that is exact at rated places and wrong at all others: the states are those of Eq. 13."""
    _, splits, model = make_model(noise_scale=scale)
    model = model.with_profiles(vstack([splits.train.inter_matrix("csr", "rating")] * 100).tocsr())
    users = torch.arange(model.n_users)
    x_0, mask = model.profiles(users)
    states = {}

    def denoise(self, x_t, streams, t):
        states[t] = x_t.dense()
        return exactly(torch.where(mask == 1, x_0, 100.0))

    monkeypatch.setattr(Sampler, "_denoise", denoise)
    list(model.sampler(users).walk())
    assert list(states) == [5, 4, 3, 2, 1]
    for t, x_t in states.items():
        noise = (x_t - model.chain.alpha_bar[t].sqrt() * x_0) / model.chain.noise[t]
        for eps in (noise[mask == 1], noise[mask == 0]):
            assert abs(eps.mean()) < 4 / len(eps) ** 0.5
            assert abs(eps.var() - 1) < 4 * (2 / len(eps)) ** 0.5


def test_the_error_hardly_grows_from_step_to_step(make_model):
    """With states that no training has shown, the error of the last step is many times that of the first."""
    keys = {"noise_scale": 0.1, "center": "mean", "learning_rate": 0.01, "epochs": 40}
    config, splits, model = make_model(dataset="board", **keys)
    AlternatingTrainer(config, model).fit(loaders.train_loader(config, splits, "train"))
    user, item, rating = (torch.as_tensor(column) for column in splits.triples("test"))
    errors = [(x_0_hat - rating).square().mean().sqrt() for _, x_0_hat in model.walk(user, item - 1)]
    assert errors[0] < 1
    assert max(errors) < 1.3 * errors[0]


@pytest.mark.parametrize(("level", "count"), [(5, 0), (5, 1), (5, 3), (5, 5), (2, 2), (1, 1)])
@pytest.mark.parametrize("prediction", ["posterior", "x_0_hat"])
def test_each_step_denoises_the_state_that_the_one_before_left(make_model, monkeypatch, prediction, level, count):
    keys = {"prediction": prediction, "prediction_noise_steps": level, "denoising_steps": count}
    _, _, model = make_model(**keys)
    sampler, mask, chain = model.sampler(USERS), model.profiles(USERS)[1], model.chain
    seen, streams, denoise, eps = [], sampler._streams(0, level, True), Sampler._denoise, Sampler._eps

    def recorded(self, x_t, streams, t):
        seen.append((t, x_t.dense(), denoise(self, x_t, streams, t)))
        return seen[-1][-1]

    monkeypatch.setattr(Sampler, "_denoise", recorded)
    monkeypatch.setattr(Sampler, "_eps", lambda self, stream, entries: eps(self, stream, entries=True))
    found = sampler.draw(0)
    assert [t for t, _, _ in seen] == [level - step for step in range(max(1, count))]
    x_t = chain.q_sample(model.profiles(USERS)[0], torch.tensor([level]), eps(sampler, streams.first, True).dense())
    for t, read, x_0_hat in seen:
        torch.testing.assert_close(read, x_t)
        noise = eps(sampler, streams.posterior(t), True).dense()
        x_t = chain.q_posterior(x_0_hat.dense() * mask, read, torch.tensor([t]), noise)
        unmasked = chain.q_posterior(x_0_hat.dense(), read, torch.tensor([t]), noise) / chain.alpha_bar[t - 1].sqrt()
    if prediction == "x_0_hat" or count in (0, level):
        assert torch.equal(found.dense(), seen[-1][-1].dense())
    else:
        torch.testing.assert_close(found.dense(), unmasked)


def test_without_denoising_steps_the_prediction_is_the_generators_own_output(make_model):
    """Section 4.4.2: T' = 0."""
    _, _, none = make_model(**{**LITERAL, "denoising_steps": 0})
    _, _, hat = make_model(prediction="x_0_hat", prediction_noise_steps=5, denoising_steps=1)
    hat.load_state_dict(none.state_dict())
    torch.testing.assert_close(none.score_profiles(USERS), hat.score_profiles(USERS))


def test_posterior_prediction_is_rescaled_to_ratings(make_model):
    """A perfect generator and T' < T: the mean of x_{T-T'} is shrunk, the prediction is not."""
    _, _, model = make_model(
        **LITERAL, prediction_draws=200, noise_scale=1.0, noise_max=0.5, center="none", weight_average=0.0
    )
    x_0, mask = model.profiles(USERS)
    model.generator.forward = lambda x_t, z, t: exactly(x_0)
    rated = mask.bool()
    error = model.score_profiles(USERS)[rated].mean() - x_0[rated].mean()
    assert abs(float(error)) < 0.05


def test_the_walk_down_the_chain_ends_at_the_last_prediction(make_model):
    model = with_random_outputs(make_model(prediction_draws=1)[2])
    pairs = torch.cartesian_prod(USERS, torch.arange(model.width)).T
    steps = list(model.walk(*pairs))
    assert len(steps) == model.options.noise_steps + 1
    torch.testing.assert_close(*steps[0])
    torch.testing.assert_close(*steps[-1])  # x_0 is what the generator predicts at t = 1
    torch.testing.assert_close(steps, list(model.walk(*pairs)))
    for count in (3, 5):
        _, _, literal = make_model(**{**LITERAL, "denoising_steps": count, "prediction_draws": 1})
        literal.load_state_dict(model.state_dict())
        torch.testing.assert_close(literal.score_profiles(USERS).flatten(), steps[count][0])
    assert not torch.allclose(steps[0][0], steps[5][0])
