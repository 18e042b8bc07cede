import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_dgrm.models.dgrm.diffusion import MAX_BETA, DiffusionChain, linear_variance_betas

SMALL_NOISE = {
    "beta": [0.0100, 0.0227, 0.0233, 0.0238, 0.0244],
    "alpha_bar": [0.9900, 0.9675, 0.9450, 0.9225, 0.9000],
    "weight_x_0": [1, 0.6958, 0.4159, 0.2987, 0.2343],
    "weight_x_t": [0, 0.3042, 0.5840, 0.7012, 0.7655],
    "variance": [0, 0.0070, 0.0137, 0.0169, 0.0189],
}
LARGE_NOISE = {
    "beta": [0.01, 0.25, 0.3333, 0.5, 0.999],
    "alpha_bar": [0.99, 0.7425, 0.495, 0.2475, 0.00025],
    "weight_x_0": [1, 0.9660, 0.5688, 0.4675, 0.4971],
    "weight_x_t": [0, 0.0336, 0.4163, 0.4745, 0.0238],
    "variance": [0, 0.0097, 0.1700, 0.3355, 0.7519],
}
repeatable = settings(max_examples=60, deadline=None, derandomize=True)


def make_chain(steps=5, scale=1.0, low=0.01, high=1.0):
    return DiffusionChain(linear_variance_betas(steps, scale, low, high))


def all_steps(chain):
    return torch.arange(1, chain.steps + 1)


@st.composite
def noise_levels(draw):
    steps = draw(st.integers(1, 50))
    scale = draw(st.just(0.0) | st.floats(1e-5, 1))
    low = draw(st.just(0.0) | st.floats(5e-4, 0.99))
    high = draw(st.floats(low + 1e-3, 1.0))
    return steps, scale, low, high


@pytest.mark.parametrize("name", SMALL_NOISE)
@pytest.mark.parametrize(("high", "oracle"), [(0.1, SMALL_NOISE), (1.0, LARGE_NOISE)], ids=["small", "large"])
def test_eqs_14_to_17_tables_of_five_steps(high, oracle, name):
    table = getattr(make_chain(5, 1.0, 0.01, high), name)
    assert table[1:].tolist() == pytest.approx(oracle[name], abs=5.1e-5)
    clean = {"beta": 0, "alpha_bar": 1, "weight_x_0": 1, "weight_x_t": 0, "variance": 0}
    assert table[0] == clean[name]


@repeatable
@given(noise_levels())
def test_eq_14_noise_levels_rise_linearly_up_to_the_cap(levels):
    steps, scale, low, high = levels
    chain, beta = make_chain(*levels), linear_variance_betas(*levels)
    assert beta.shape == (steps,)
    assert ((beta >= 0) & (beta <= MAX_BETA)).all()
    if (beta == MAX_BETA).any():
        return
    for t in range(1, steps + 1):
        share = (t - 1) / (steps - 1) if steps > 1 else 0
        expected = scale * (low + share * (high - low))
        assert 1 - chain.alpha_bar[t].item() == pytest.approx(expected, abs=2e-7)


@pytest.mark.parametrize(("low", "high"), [(0.2, 0.1), (0.1, 0.1)])
def test_levels_that_do_not_rise_are_refused_with_both_values_named(low, high):
    with pytest.raises(ValueError, match=rf"noise_min={low} must be below noise_max={high}"):
        linear_variance_betas(5, 1.0, low, high)


@pytest.mark.parametrize("steps", [1, 5])
def test_scale_0_means_no_noise_and_a_posterior_that_is_the_prediction(steps):
    chain = make_chain(steps, scale=0.0)
    t = all_steps(chain)
    x_0, x_0_hat, eps = torch.randn(3, steps, 7, generator=torch.Generator().manual_seed(0))
    assert torch.equal(chain.q_sample(x_0, t, eps), x_0)
    assert torch.equal(chain.q_step(x_0, t, eps), x_0)
    assert torch.equal(chain.q_posterior(x_0_hat, x_0, t, eps), x_0_hat)
    for state in chain.q_pair(x_0, t, lambda: eps):
        assert torch.equal(state, x_0)


@repeatable
@given(noise_levels(), st.floats(-5, 5), st.floats(-5, 5))
def test_eq_17_posterior_is_bayes_rule(levels, x_0, x_t):
    """Prior N(sqrt(ab_{t-1}) x_0, 1 - ab_{t-1}), observed as x_t = sqrt(1 - beta) x_{t-1} + N(0, beta)."""
    betas = linear_variance_betas(*levels).tolist()
    chain = make_chain(*levels)
    ab_before = 1.0
    for t, beta in enumerate(betas, start=1):
        prior_mean, prior_variance = math.sqrt(ab_before) * x_0, 1 - ab_before
        observed_variance = beta + (1 - beta) * prior_variance
        gain = math.sqrt(1 - beta) * prior_variance / observed_variance if observed_variance else 0.0
        mean = prior_mean + gain * (x_t - math.sqrt(1 - beta) * prior_mean)
        variance = (1 - gain * math.sqrt(1 - beta)) * prior_variance

        step = torch.tensor([t])
        given_x_0, given_x_t = torch.tensor([[x_0]]), torch.tensor([[x_t]])
        got_mean = chain.q_posterior(given_x_0, given_x_t, step, torch.zeros(1, 1)).item()
        got_with_noise = chain.q_posterior(given_x_0, given_x_t, step, torch.ones(1, 1)).item()
        assert got_mean == pytest.approx(mean, abs=1e-5)
        assert chain.variance[t].item() == pytest.approx(variance, rel=1e-5, abs=1e-9)
        assert got_with_noise - got_mean == pytest.approx(math.sqrt(variance), abs=1e-5)
        ab_before *= 1 - beta


@repeatable
@given(noise_levels())
def test_posterior_at_step_1_is_exactly_x_0_whatever_x_t_and_the_noise(levels):
    x_0, x_t, eps = torch.randn(3, 2, 4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(make_chain(*levels).q_posterior(x_0, 100 * x_t, torch.tensor([1, 1]), 100 * eps), x_0)


def test_eq_13_q_sample_takes_each_row_at_its_own_level():
    x_t = make_chain().q_sample(torch.full((3, 1), 2.0), torch.tensor([1, 3, 5]), torch.ones(3, 1))
    expected = [2 * math.sqrt(ab) + math.sqrt(1 - ab) for ab in (0.99, 0.495, 0.0002475)]
    assert x_t.squeeze(-1).tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("scale", [1e-4, 1e-2])
@pytest.mark.parametrize("low", [1e-4, 1e-3, 1e-2])
def test_eq_13_keeps_the_smallest_noise_of_the_papers_grid(scale, low):
    chain = make_chain(5, scale, low, 0.1)
    x_1 = chain.q_sample(torch.zeros(1, 1), torch.tensor([1]), torch.ones(1, 1))
    assert x_1.item() == pytest.approx(math.sqrt(scale * low), rel=1e-2)


@pytest.mark.parametrize(
    ("t", "beta", "ab_before", "ab"),
    [(1, 0.01, 1.0, 0.99), (2, 0.25, 0.99, 0.7425), (4, 0.5, 0.495, 0.2475), (5, 0.999, 0.2475, 0.0002475)],
)
def test_eqs_11_and_13_q_pair_has_the_moments_of_two_successive_states(t, beta, ab_before, ab):
    """Two states are the mean and a sum of two noises; a row without noise and two with one of them show which."""
    noises = iter([torch.tensor([[0.0], [1.0], [0.0]]), torch.tensor([[0.0], [0.0], [1.0]])])
    states = make_chain().q_pair(torch.full((3, 1), 3.0), torch.full((3,), t), lambda: next(noises))
    mean, *loadings = torch.cat(states, dim=1).double()
    loadings = torch.stack(loadings) - mean
    between = math.sqrt(1 - beta) * (1 - ab_before)
    assert mean.tolist() == pytest.approx([3 * math.sqrt(ab_before), 3 * math.sqrt(ab)], abs=1e-6)
    assert (loadings.T @ loadings).flatten().tolist() == pytest.approx(
        [1 - ab_before, between, between, 1 - ab], abs=1e-6
    )
