import pytest
import torch
from helpers import mlp

from recbole_dgrm.maths.losses import (
    critic_loss,
    generator_loss,
    gradient_penalty,
    masked_squared_error,
    r1_penalty,
)

REAL, FAKE = torch.tensor([1.0, -2.0, 4.0]), torch.tensor([0.5, 2.0, 3.0])


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def linear_score(weight):
    return lambda x: x @ weight


def network_score(sizes=(2, 16, 1)):
    network = mlp(sizes)
    return network, lambda x: network(x).squeeze(-1)


def test_eq_21_a_trained_critic_scores_real_low_and_fake_high():
    assert critic_loss(REAL, FAKE).item() == pytest.approx(3.0 - 5.5)
    assert critic_loss(REAL - 1, FAKE) < critic_loss(REAL, FAKE)
    assert critic_loss(REAL, FAKE + 1) < critic_loss(REAL, FAKE)


def test_eq_22_the_generator_wants_its_fakes_scored_low():
    assert generator_loss(FAKE).item() == pytest.approx(5.5)
    assert generator_loss(FAKE - 1) < generator_loss(FAKE)


def test_eq_22_masked_error_counts_masked_entries_only():
    x_0, mask = torch.tensor([[4.0, 5.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    x_0_hat = torch.tensor([[3.0, 50.0], [-50.0, 4.0]])
    assert masked_squared_error(x_0_hat, x_0, mask).item() == pytest.approx(1 + 4)


def test_eq_22_masked_error_gives_no_gradient_to_unrated_entries():
    x_0_hat = torch.zeros(1, 3, requires_grad=True)
    masked_squared_error(x_0_hat, torch.tensor([[5.0, 0.0, 3.0]]), torch.tensor([[1.0, 0.0, 1.0]])).backward()
    assert x_0_hat.grad.tolist() == [[-10, 0, -6]]


def twice(x):
    return torch.cat([x, x])


def test_losses_are_sums_so_twice_the_batch_is_twice_the_loss():
    x_0_hat, x_0, mask = torch.randn(3, 4, 6)
    weight = torch.randn(6)
    assert critic_loss(twice(REAL), twice(FAKE)).item() == pytest.approx(2 * critic_loss(REAL, FAKE).item())
    assert generator_loss(twice(FAKE)).item() == pytest.approx(2 * generator_loss(FAKE).item())
    once = masked_squared_error(x_0_hat, x_0, mask).item()
    assert masked_squared_error(twice(x_0_hat), twice(x_0), twice(mask)).item() == pytest.approx(2 * once)
    for penalty in (
        lambda x: gradient_penalty(linear_score(weight), x, -x),
        lambda x: r1_penalty(linear_score(weight), x),
    ):
        assert penalty(twice(x_0)).item() == pytest.approx(2 * penalty(x_0).item())


@pytest.mark.parametrize("norm", [0.5, 1.0, 3.0])
def test_penalties_of_a_linear_score_follow_from_the_norm_of_its_weight(norm):
    weight = norm * torch.tensor([0.6, -0.8])
    real, fake = torch.randn(2, 7, 2)
    assert gradient_penalty(linear_score(weight), real, fake).item() == pytest.approx(7 * (norm - 1) ** 2, abs=1e-5)
    assert r1_penalty(linear_score(weight), real).item() == pytest.approx(7 * norm**2 / 2, rel=1e-5)


def test_gradient_penalty_looks_at_points_between_real_and_fake():
    seen = []

    def score(x):
        seen.append(x.detach())
        return x.sum(dim=-1)

    real, fake = torch.zeros(500, 2), torch.tensor([1.0, 2.0]).expand(500, 2)
    gradient_penalty(score, real, fake)
    share = seen[0][:, 0]
    assert torch.allclose(seen[0][:, 1], 2 * share)  # one share per row
    assert 0 <= share.min() < 0.1
    assert 0.9 < share.max() <= 1


def test_r1_penalty_looks_at_the_real_points():
    real = torch.tensor([[3.0, 4.0]])
    assert r1_penalty(lambda x: x.square().sum(dim=-1), real).item() == pytest.approx((6**2 + 8**2) / 2)


@pytest.mark.parametrize("penalty", [lambda s, x: gradient_penalty(s, x, -x), r1_penalty], ids=["gradient", "r1"])
def test_penalties_give_gradients_to_the_scores_parameters_and_not_to_the_data(penalty):
    network, score = network_score()
    x = torch.randn(8, 2, requires_grad=True)
    penalty(score, x).backward()
    assert x.grad is None
    for layer in (network[0], network[2]):
        assert layer.weight.grad.abs().sum() > 0


def test_gradient_penalty_of_a_flat_score_has_finite_gradients():
    network, score = network_score()
    with torch.no_grad():
        network[0].bias.fill_(-100)  # every ReLU is off: the score is constant
    loss = gradient_penalty(score, torch.randn(4, 2), torch.randn(4, 2))
    loss.backward()
    assert loss.item() == pytest.approx(4)
    for parameter in network.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


def trained_wasserstein_estimate(penalty, apart):
    """Between two round Gaussians whose means are ``apart``, after 100 critic steps on fresh draws."""
    network, score = network_score()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)

    def draw():
        return torch.randn(256, 2) / 2, torch.randn(256, 2) / 2 + torch.tensor([apart, 0.0])

    for _ in range(100):
        real, fake = draw()
        optimizer.zero_grad()
        (critic_loss(score(real), score(fake)) + penalty(score, real, fake)).backward()
        optimizer.step()
    real, fake = draw()
    return -critic_loss(score(real), score(fake)).item() / len(real)


@pytest.mark.parametrize("apart", [4.0, 0.0])
def test_eq_21_with_gradient_penalty_estimates_the_distance_of_two_gaussians(apart):
    """A slope k costs ``-k apart + 10 (k - 1)^2`` per pair: the best is ``k = 1 + apart / 20``."""

    def penalty(score, real, fake):
        return 10 * gradient_penalty(score, real, fake)

    assert trained_wasserstein_estimate(penalty, apart) == pytest.approx(apart * (1 + apart / 20), abs=0.3)


def test_eq_21_with_r1_penalty_tells_two_gaussians_apart():
    """R1 bounds the slope at real points only, so the estimate has no upper bound."""

    def penalty(score, real, fake):
        return r1_penalty(score, real)

    assert trained_wasserstein_estimate(penalty, 4.0) > 2
    assert abs(trained_wasserstein_estimate(penalty, 0.0)) < 0.5
