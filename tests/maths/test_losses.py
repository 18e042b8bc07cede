"""Gradients of the penalties; the values of all losses are compared in ``models/dgrm/test_oracle.py``."""

import pytest
import torch
from helpers import mlp

from recbole_dgrm.maths.losses import gradient_penalty, r1_penalty


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def network_score():
    network = mlp([2, 16, 1])
    return network, lambda x: network(x).squeeze(-1)


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
