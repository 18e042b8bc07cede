"""The algebra of states, and the distributions of the noises that stand in them."""

import math
from copy import deepcopy

import pytest
import torch

from recbole_dgrm.maths.layers import Outputs
from recbole_dgrm.maths.noise import RowNoise
from recbole_dgrm.maths.sparse import Places
from recbole_dgrm.models.dgrm.networks import StateLayer
from recbole_dgrm.models.dgrm.noise import Factors, GivenRows, SharedNoise, UserRows
from recbole_dgrm.models.dgrm.profiles import State

CPU = torch.device("cpu")
USERS, ITEMS, SIZE = 5, 9, 4


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture
def places():
    return Places(USERS, ITEMS, torch.tensor([0, 0, 2, 3, 3, 3]), torch.tensor([4, 1, 8, 0, 2, 5]))  # none in 1 and 4


def test_sums_and_multiples_of_states_are_those_of_the_tensors(places):
    rows, other = GivenRows(torch.randn(USERS, ITEMS)), GivenRows(torch.randn(USERS, ITEMS))
    x, eps = State(places, torch.randn(6)), State.of(rows, places)
    a, b = torch.rand(2, USERS, 1)
    state = (a * x + b * eps + State.of(other, places) * torch.tensor([[2.0]])) / (1 + a) + a * eps
    expected = (a * x.dense() + b * rows.value + 2 * other.value) / (1 + a) + a * rows.value
    torch.testing.assert_close(state.dense(), expected)
    weight = torch.randn(ITEMS, SIZE)
    torch.testing.assert_close(state.through(weight), expected @ weight)
    assert len(state.rows) == 2
    kept = torch.tensor([1.0, 0, 0, 1, 1, 1])
    noise = state.dense() - places.dense(state.value)
    torch.testing.assert_close(state.where(kept).dense(), noise + places.dense(state.value * kept))


def test_a_users_shared_rows_are_standard_normal_and_independent_of_each_other():
    """Over many steps: mean 0, variance 1, no covariance between a user's noises, items, or its noise of before."""
    drawn = []
    for _ in range(2500):
        noise = SharedNoise(8, 3, 2, 4, CPU)
        drawn.append(torch.cat([noise.another(3).dense()[0] for _ in range(4)]))
    sample = torch.stack(drawn).double()
    margin = 5 / math.sqrt(len(sample))
    assert sample.mean(0).abs().max() < margin
    assert (torch.cov(sample.T) - torch.eye(12)).abs().max() < 2 * margin
    assert (sample**4).mean().item() == pytest.approx(3, abs=0.15)


def test_different_noises_of_a_user_are_different_rows():
    noise = SharedNoise(4, 2, 50, 4, CPU)
    assert (noise.row.sort(dim=1).values == torch.arange(4)).all()


@pytest.mark.parametrize("width", [3, 40], ids=["fewer items than units", "more"])
def test_the_noise_of_users_through_a_weight_has_its_covariance(width):
    """``n @ W`` for a standard normal n is normal with the covariance ``W'W``; here over many users."""
    weight, user = torch.randn(width, SIZE), torch.arange(40_000)
    noise = UserRows(RowNoise(1, 64, CPU), Factors(), user, 7).through(weight).double()
    wanted = (weight.T @ weight).double()
    scale = wanted.diagonal().sqrt()
    assert (noise.mean(0) / scale).abs().max() < 0.03
    assert ((torch.cov(noise.T) - wanted) / scale / scale.unsqueeze(-1)).abs().max() < 0.05
    kurtosis = ((noise / scale) ** 4).mean(0)
    torch.testing.assert_close(kurtosis, torch.full_like(kurtosis, 3.0), rtol=0, atol=0.25)


def test_the_noise_of_a_user_depends_on_neither_batch_nor_call():
    weight, source, factors = torch.randn(40, SIZE), RowNoise(1, 64, CPU), Factors()

    def noise(*user, stream=0):
        return UserRows(source, factors, torch.tensor(user), stream).through(weight)

    torch.testing.assert_close(noise(5, 3, 8)[1], noise(3)[0])
    assert torch.equal(noise(5, 3), noise(5, 3))
    assert not torch.allclose(noise(5), noise(6))
    assert not torch.allclose(noise(5), noise(5, stream=1))


@pytest.mark.parametrize("dead", [0, 1, SIZE])
def test_factors_of_weights_with_dead_columns_are_finite_and_exact(dead):
    weight = torch.randn(40, SIZE)
    weight[:, :dead] = 0
    factor = Factors()(weight)
    torch.testing.assert_close(factor @ factor.T, weight.T @ weight, rtol=1e-4, atol=1e-4)
    assert (factor.triu(1) == 0).all()


def test_factors_are_kept_until_the_weight_changes_and_not_copied():
    weight, factors = torch.nn.Parameter(torch.randn(40, SIZE)), Factors()
    first = factors(weight)
    assert factors(weight) is first
    weight.grad = torch.ones_like(weight)
    torch.optim.Adam([weight], fused=True).step()
    assert not torch.equal(factors(weight), first)
    assert len(deepcopy(factors)._kept) == 0


def test_gradients_by_several_threads_are_the_same_twice():
    """Sums of what users share have one order; an index of a table would have none with several threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        noise, weight = SharedNoise(32, 64, 1024, 4, CPU), torch.randn(64, 256, requires_grad=True)
        rows, by_rows = noise.another(64), torch.randn(1024, 256)
        key = torch.randperm(1024 * 64)[:40_000].sort().values
        places, layer = Places(1024, 64, key // 64, key % 64), torch.nn.Linear(256, 64)
        found = []
        for _ in range(10):
            noise._products.clear()
            outputs = Outputs.of(rows.through(weight), layer)
            loss = (outputs.hidden * by_rows).sum() + (outputs.at(places) * by_rows.flatten()[:40_000]).sum()
            found.append(torch.autograd.grad(loss, [weight, layer.weight, layer.bias]))
    finally:
        torch.set_num_threads(threads)
    assert all(torch.equal(one, other) for again in found[1:] for one, other in zip(found[0], again, strict=True))


def test_a_layer_over_states_is_one_linear_layer_over_all_inputs():
    layer, nowhere = StateLayer([6, 3], 2, 5), torch.zeros(0, dtype=torch.long)
    x, z, dense = torch.randn(4, 6), torch.randn(4, 3), torch.randn(4, 2)
    state = State.of(GivenRows(x), Places(4, 6, nowhere, nowhere))
    expected = torch.cat([x, z, dense], 1) @ torch.cat([*layer.states, layer.rest.T]) + layer.bias
    torch.testing.assert_close(layer([state, GivenRows(z)], dense), expected)
    bound = 11**-0.5
    assert all(parameter.abs().max() <= bound for parameter in layer.parameters())
    assert layer.states[0].abs().max() > 0.8 * bound


def test_outputs_made_without_gradient_stay_without():
    with torch.no_grad():
        outputs = Outputs.of(torch.randn(4, 3), torch.nn.Linear(3, 6))
    assert not outputs.dense().requires_grad
    assert not outputs.through(torch.randn(6, 2)).requires_grad
