import pytest
import torch
from torch import nn

from recbole_dgrm.models.dgrm.networks import Critic, Generator, StepEmbedding


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


@pytest.mark.parametrize("latent_size", [0, 4, 12])
@pytest.mark.parametrize("hidden", [[], [8], [8, 8, 8]])
def test_generator_maps_a_state_to_a_profile(latent_size, hidden):
    generator = Generator(12, hidden, latent_size, 10)
    x_0_hat = generator(torch.randn(5, 12), torch.randn(5, latent_size), torch.tensor([1, 2, 3, 4, 5]))
    assert x_0_hat.shape == (5, 12)
    assert len([layer for layer in generator.layers if isinstance(layer, nn.Linear)]) == len(hidden) + 1


def test_generator_reads_state_latent_and_step():
    generator = Generator(6, [16], 3, 10)
    x_t, z, t = torch.randn(4, 6), torch.randn(4, 3), torch.full((4,), 2)
    x_0_hat = generator(x_t, z, t)
    for changed in (generator(x_t + 1, z, t), generator(x_t, z + 1, t), generator(x_t, z, t + 1)):
        assert not torch.allclose(changed, x_0_hat)


def test_critic_gives_one_score_per_pair():
    critic = Critic(6, [8], 10)
    x_tm1, x_t, t = torch.randn(4, 6), torch.randn(4, 6), torch.tensor([1, 2, 3, 4])
    score = critic(x_tm1, x_t, t)
    assert score.shape == (4,)
    for changed in (critic(x_tm1 + 1, x_t, t), critic(x_tm1, x_t + 1, t), critic(x_tm1, x_t, t + 1)):
        assert not torch.allclose(changed, score)
    assert critic(x_tm1[:1], x_t[:1], t[:1]).shape == (1,)


def test_a_batch_equals_its_rows_one_by_one():
    generator, critic = Generator(6, [8], 3, 10), Critic(6, [8], 10)
    x_tm1, x_t, z, t = torch.randn(4, 6), torch.randn(4, 6), torch.randn(4, 3), torch.tensor([1, 5, 3, 3])
    profiles, scores = generator(x_t, z, t), critic(x_tm1, x_t, t)
    for row in range(4):
        one = slice(row, row + 1)
        assert torch.allclose(generator(x_t[one], z[one], t[one]), profiles[one], atol=1e-6)
        assert torch.allclose(critic(x_tm1[one], x_t[one], t[one]), scores[one], atol=1e-6)


@pytest.mark.parametrize("latent_size", [0, 4])
def test_gradients_reach_every_parameter_of_the_generator(latent_size):
    generator = Generator(6, [8, 8], latent_size, 10)
    generator(torch.randn(16, 6), torch.randn(16, latent_size), torch.arange(1, 17)).square().sum().backward()
    for name, parameter in generator.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_gradients_reach_every_parameter_and_both_inputs_of_the_critic():
    critic = Critic(6, [8, 8], 10)
    x_tm1, x_t = torch.randn(2, 16, 6).requires_grad_().unbind()
    x_tm1.retain_grad()
    x_t.retain_grad()
    critic(x_tm1, x_t, torch.arange(1, 17)).square().sum().backward()
    for name, tensor in [*critic.named_parameters(), ("x_tm1", x_tm1), ("x_t", x_t)]:
        assert tensor.grad is not None, name
        assert tensor.grad.abs().sum() > 0, name
