from functools import partial

import pytest
import torch
from helpers import mlp
from torch.nn.functional import binary_cross_entropy_with_logits

from recbole_dgrm.maths.losses import (
    critic_loss,
    discriminator_loss,
    generator_loss,
    gradient_penalty,
    masked_squared_error,
    non_saturating_loss,
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


def test_eqs_21_and_22_are_sums_in_which_real_is_low():
    assert critic_loss(REAL, FAKE).item() == pytest.approx(3.0 - 5.5)
    assert generator_loss(FAKE).item() == pytest.approx(5.5)


def test_eq_5_and_its_generators_loss_are_sums_of_cross_entropies_in_which_real_is_high():
    one, none = torch.ones(3), torch.zeros(3)
    entropy = partial(binary_cross_entropy_with_logits, reduction="sum")
    torch.testing.assert_close(discriminator_loss(REAL, FAKE), entropy(REAL, one) + entropy(FAKE, none))
    torch.testing.assert_close(non_saturating_loss(FAKE), entropy(FAKE, one))


def test_eq_22_masked_error_counts_masked_entries_only():
    x_0, mask = torch.tensor([[4.0, 5.0], [0.0, 2.0]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    x_0_hat = torch.tensor([[3.0, 50.0], [-50.0, 4.0]], requires_grad=True)
    loss = masked_squared_error(x_0_hat, x_0, mask)
    assert loss.item() == pytest.approx(1 + 4)
    loss.backward()
    assert x_0_hat.grad.tolist() == [[-2, 0], [0, 4]]


@pytest.mark.parametrize("norm", [0.5, 1.0, 3.0])
def test_penalties_of_a_linear_score_follow_from_the_norm_of_its_weight(norm):
    weight = norm * torch.tensor([0.6, -0.8])
    real, fake = torch.randn(2, 7, 2)
    assert gradient_penalty(linear_score(weight), real, fake).item() == pytest.approx(7 * (norm - 1) ** 2, abs=1e-5)
    assert r1_penalty(linear_score(weight), real).item() == pytest.approx(7 * norm**2 / 2, rel=1e-5)
    point = torch.tensor([[3.0, 4.0]])
    assert r1_penalty(lambda x: x.square().sum(dim=-1), point).item() == pytest.approx((6**2 + 8**2) / 2)


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
