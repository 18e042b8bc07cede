import pytest
import torch
from torch import nn

from recbole_dgrm.maths.layers import Outputs
from recbole_dgrm.maths.losses import gradient_penalty, r1_penalty
from recbole_dgrm.maths.sparse import Places
from recbole_dgrm.models.dgrm.networks import Critic, Generator, StateLayer, StepEmbedding
from recbole_dgrm.models.dgrm.noise import GivenRows
from recbole_dgrm.models.dgrm.profiles import State

NOWHERE = torch.zeros(0, dtype=torch.long)


def state(rows: torch.Tensor) -> State:
    """A state that is the dense ``rows``."""
    return State.of(GivenRows(rows), Places(*rows.shape, NOWHERE, NOWHERE))


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def test_step_embedding_gives_every_step_its_own_code():
    codes = StepEmbedding(10)(torch.arange(1, 51))
    assert codes.shape == (50, 10)
    distance = torch.cdist(codes, codes) + torch.eye(50)
    assert distance.min() > 1e-3


def test_step_embedding_starts_from_the_sinusoidal_code():
    embedding = StepEmbedding(4)
    with torch.no_grad():
        embedding.linear.weight.copy_(torch.eye(4))
        embedding.linear.bias.zero_()
    code = embedding(torch.tensor([0, 2]))
    assert code[0].tolist() == [1, 1, 0, 0]
    assert code[1].tolist() == pytest.approx([-0.416147, 0.999800, 0.909297, 0.019999], abs=1e-5)  # angles 2 and 0.02


def test_a_layer_over_states_is_one_linear_layer_over_all_inputs():
    layer = StateLayer([6, 3], 2, 5)
    x, z, beside = torch.randn(4, 6), torch.randn(4, 3), torch.randn(4, 2)
    weight = torch.cat([*layer.states, layer.rest.T])
    torch.testing.assert_close(
        layer([state(x), GivenRows(z)], beside), torch.cat([x, z, beside], 1) @ weight + layer.bias
    )
    bound = 11**-0.5
    assert all(parameter.abs().max() <= bound for parameter in layer.parameters())
    assert layer.states[0].abs().max() > 0.8 * bound


@pytest.mark.parametrize("latent_size", [0, 4, 12])
@pytest.mark.parametrize("hidden", [[8], [8, 8, 8]])
def test_generator_maps_a_state_to_a_profile(latent_size, hidden):
    generator = Generator(12, hidden, latent_size, 10)
    z = GivenRows(torch.randn(5, latent_size)) if latent_size else None
    x_0_hat = generator(state(torch.randn(5, 12)), z, torch.tensor([1, 2, 3, 4, 5])).dense()
    assert x_0_hat.shape == (5, 12)
    assert len([layer for layer in generator.modules() if isinstance(layer, nn.Linear)]) == len(hidden) + 1


def test_generator_reads_state_latent_and_step():
    generator = Generator(6, [16], 3, 10)
    x_t, z, t = torch.randn(4, 6), torch.randn(4, 3), torch.full((4,), 2)
    x_0_hat = generator(state(x_t), GivenRows(z), t).dense()
    for changed in (
        generator(state(x_t + 1), GivenRows(z), t),
        generator(state(x_t), GivenRows(z + 1), t),
        generator(state(x_t), GivenRows(z), t + 1),
    ):
        assert not torch.allclose(changed.dense(), x_0_hat)


def test_of_outputs_any_part_is_that_of_all_of_them():
    outputs = Outputs(torch.randn(4, 3), torch.randn(6, 3), torch.randn(6))
    places = Places(4, 6, torch.tensor([0, 2, 2, 3]), torch.tensor([5, 0, 1, 1]))
    whole, weight = outputs.dense(), torch.randn(6, 2)
    torch.testing.assert_close(outputs.at(places), whole[places.row, places.column])
    torch.testing.assert_close(outputs.through(weight), whole @ weight)
    torch.testing.assert_close(outputs.squares(), whole.square().sum(-1))
    column = torch.tensor([4, 0])
    torch.testing.assert_close(outputs.transposed(column).dense(), whole[:, column].T)


def test_critic_gives_one_score_per_pair():
    critic = Critic(6, [8], 10)
    x_tm1, x_t, t = torch.randn(4, 6), torch.randn(4, 6), torch.tensor([1, 2, 3, 4])
    score = critic(state(x_tm1), state(x_t), t)
    assert score.shape == (4,)
    for changed in (
        critic(state(x_tm1 + 1), state(x_t), t),
        critic(state(x_tm1), state(x_t + 1), t),
        critic(state(x_tm1), state(x_t), t + 1),
    ):
        assert not torch.allclose(changed, score)
    assert critic(state(x_tm1[:1]), state(x_t[:1]), t[:1]).shape == (1,)


def test_a_batch_equals_its_rows_one_by_one():
    generator, critic = Generator(6, [8], 3, 10), Critic(6, [8], 10)
    x_tm1, x_t, z, t = torch.randn(4, 6), torch.randn(4, 6), torch.randn(4, 3), torch.tensor([1, 5, 3, 3])
    profiles = generator(state(x_t), GivenRows(z), t).dense()
    scores = critic(state(x_tm1), state(x_t), t)
    for row in range(4):
        one = slice(row, row + 1)
        profile = generator(state(x_t[one]), GivenRows(z[one]), t[one]).dense()
        assert torch.allclose(profile, profiles[one], atol=1e-6)
        assert torch.allclose(critic(state(x_tm1[one]), state(x_t[one]), t[one]), scores[one], atol=1e-6)


@pytest.mark.parametrize("latent_size", [0, 4])
def test_gradients_reach_every_parameter_of_the_generator(latent_size):
    generator = Generator(6, [8, 8], latent_size, 10)
    z = GivenRows(torch.randn(16, latent_size)) if latent_size else None
    generator(state(torch.randn(16, 6)), z, torch.arange(1, 17)).dense().square().sum().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_outputs_made_without_gradient_stay_without():
    generator = Generator(6, [8], 0, 10)
    with torch.no_grad():
        outputs = generator(state(torch.randn(4, 6)), None, torch.arange(1, 5))
    assert not outputs.dense().requires_grad
    assert not outputs.through(torch.randn(6, 2)).requires_grad


def test_gradients_reach_every_parameter_and_both_inputs_of_the_critic():
    critic = Critic(6, [8, 8], 10)
    x_tm1, x_t = torch.randn(2, 16, 6).requires_grad_().unbind()
    x_tm1.retain_grad()
    x_t.retain_grad()
    critic(state(x_tm1), state(x_t), torch.arange(1, 17)).square().sum().backward()
    for name, tensor in [*critic.named_parameters(), ("x_tm1", x_tm1), ("x_t", x_t)]:
        assert tensor.grad is not None, name
        assert tensor.grad.abs().sum() > 0, name


@pytest.mark.parametrize("everywhere", [True, False])
@pytest.mark.parametrize("hidden", [[], [8], [8, 7], [9, 8, 7]])
@pytest.mark.parametrize("penalty", ["gradient_penalty", "r1"])
def test_penalties_in_hidden_space_equal_those_of_autograd_by_the_state(penalty, hidden, everywhere):
    critic, t = Critic(12, hidden, 10), torch.tensor([1, 2, 3, 4, 5])
    real, x_t = torch.randn(2, 5, 12)
    mask = torch.ones(5, 12) if everywhere else (torch.rand(5, 12) < 0.6).float()
    places = Places(5, 12, *mask.nonzero(as_tuple=True))
    point = (real * mask).requires_grad_(True)
    (gradient,) = torch.autograd.grad(critic(state(point), state(x_t), t).sum(), point, create_graph=True)
    square = (gradient * mask).square().sum(-1)
    beside = critic.beside(state(x_t), t)

    def squared_norms(by_hidden):
        return critic.squared_norms(by_hidden, None if everywhere else places)

    hidden_point = critic.read(state(real * mask)) + beside
    if penalty == "r1":
        expected, found = square.sum() / 2, r1_penalty(critic.score, hidden_point, squared_norms)
    else:  # real and fake the same, so that all points between them are
        expected = (square.sqrt() - 1).square().sum()
        found = gradient_penalty(critic.score, hidden_point, hidden_point, squared_norms)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    wanted = torch.autograd.grad(expected, list(critic.parameters()), allow_unused=True, materialize_grads=True)
    given = torch.autograd.grad(found, list(critic.parameters()), allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(given, wanted, rtol=1e-5, atol=1e-6)
