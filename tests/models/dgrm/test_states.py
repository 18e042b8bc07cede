"""The algebra of states, and the distributions of the noises that stand in them."""

import math
from copy import deepcopy

import pytest
import torch

from recbole_dgrm.maths.layers import Outputs
from recbole_dgrm.maths.noise import RowNoise
from recbole_dgrm.maths.sparse import Places
from recbole_dgrm.models.dgrm.networks import StateLayer
from recbole_dgrm.models.dgrm.noise import Factors, FirstLayers, GivenRows, SharedNoise, UserRows
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
        noise = SharedNoise(3, 2, 4, CPU)
        drawn.append(torch.cat([noise.another(3).dense()[0] for _ in range(4)]))
    sample = torch.stack(drawn).double()
    margin = 5 / math.sqrt(len(sample))
    assert sample.mean(0).abs().max() < margin
    assert (torch.cov(sample.T) - torch.eye(12)).abs().max() < 2 * margin
    assert (sample**4).mean().item() == pytest.approx(3, abs=0.15)


def test_different_noises_of_a_user_are_different_rows():
    noise = SharedNoise(2, 200, 4, CPU)
    assert (torch.diff(noise.row.sort(dim=1).values) > 0).all()
    assert len(noise.table) == 50  # a row for four users
    assert len(SharedNoise(2, 4, 4, CPU).table) == 32


@pytest.mark.parametrize("width", [3, 40], ids=["fewer items than units", "more"])
def test_sampled_products_of_a_noise_with_several_layers_have_their_joint_covariance(width):
    weights = [torch.randn(width, SIZE), torch.randn(width, 2), torch.randn(width, SIZE)]
    layers = FirstLayers(weights)
    with torch.random.fork_rng(devices=[]):
        drawn = []
        for _ in range(20):
            layers.refresh()
            rows, sign = layers.sample(2000)
            drawn.append(torch.cat([sign * rows.through(weight) for weight in weights], dim=1))
    noise, weight = torch.cat(drawn).double(), torch.cat(weights, dim=1).double()
    wanted = weight.T @ weight
    scale = wanted.diagonal().sqrt()
    assert (noise.mean(0) / scale).abs().max() < 0.03
    assert ((torch.cov(noise.T) - wanted) / scale / scale.unsqueeze(-1)).abs().max() < 0.05


def test_a_refresh_computes_the_products_with_changed_weights_alone(monkeypatch):
    one, other = torch.randn(40, SIZE), torch.randn(40, 2)
    layers, every = FirstLayers([one, other]), torch.eye(SIZE)
    nowhere = Places(SIZE, 40, *torch.zeros(2, 0, dtype=torch.long))
    layers.refresh()
    before = layers.squared_norms(every, one, nowhere)
    torch.testing.assert_close(before, one.square().sum(0))
    one *= 2
    layers.refresh(other)
    torch.testing.assert_close(layers.squared_norms(every, one, nowhere), before)
    layers.refresh(one)
    torch.testing.assert_close(layers.squared_norms(every, one, nowhere), 4 * before)
    one *= 2
    layers.forget()
    torch.testing.assert_close(layers.squared_norms(every, one, nowhere), 16 * before)


def test_norms_follow_the_rows_that_are_stepped_and_only_these_have_a_gradient():
    weight, left = torch.nn.Parameter(torch.randn(9, SIZE)), torch.randn(USERS, SIZE)
    layers, optimizer = FirstLayers([weight]), torch.optim.SGD([weight], lr=0.1)
    layers.refresh(weight)
    for columns in ([1, 4, 0], [4, 8, 8], [2, 3, 5]):
        places = Places(USERS, 9, torch.tensor([0, 2, 3]), torch.tensor(columns), row_gradients=True)
        found, exact = layers.squared_norms(left, weight, places), (left @ weight.T).square().sum(1)
        torch.testing.assert_close(found, exact)
        (wanted,) = torch.autograd.grad(exact.sum(), weight)
        (gradient,) = torch.autograd.grad(found.sum(), weight)
        here = torch.unique(torch.tensor(columns))
        torch.testing.assert_close(gradient.to_dense()[here], wanted[here])
        assert gradient.to_dense().count_nonzero() == gradient.to_dense()[here].count_nonzero()
        weight.grad = gradient.to_dense()
        optimizer.step()


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
        noise, weight = SharedNoise(64, 1024, 4, CPU), torch.randn(64, 256, requires_grad=True)
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
