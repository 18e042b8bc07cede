"""Parts of networks; whole networks, their losses and gradients are compared with dense ones in test_oracle.py."""

import pytest
import torch

from recbole_dgrm.maths.layers import Outputs
from recbole_dgrm.maths.sparse import Places
from recbole_dgrm.models.dgrm.networks import Generator, StateLayer
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


def test_a_layer_over_states_is_one_linear_layer_over_all_inputs():
    layer = StateLayer([6, 3], 2, 5)
    x, z, dense = torch.randn(4, 6), torch.randn(4, 3), torch.randn(4, 2)
    weight = torch.cat([*layer.states, layer.rest.T])
    torch.testing.assert_close(
        layer([state(x), GivenRows(z)], dense), torch.cat([x, z, dense], 1) @ weight + layer.bias
    )
    bound = 11**-0.5
    assert all(parameter.abs().max() <= bound for parameter in layer.parameters())
    assert layer.states[0].abs().max() > 0.8 * bound


def test_of_outputs_any_part_is_that_of_all_of_them():
    outputs = Outputs(torch.randn(4, 3), torch.randn(6, 3), torch.randn(6))
    places = Places(4, 6, torch.tensor([0, 2, 2, 3]), torch.tensor([5, 0, 1, 1]))
    whole, weight = outputs.dense(), torch.randn(6, 2)
    torch.testing.assert_close(outputs.at(places), whole[places.row, places.column])
    torch.testing.assert_close(outputs.through(weight), whole @ weight)
    torch.testing.assert_close(outputs.squares(), whole.square().sum(-1))
    torch.testing.assert_close(outputs.transposed().dense(), whole.T)


def test_outputs_made_without_gradient_stay_without():
    generator = Generator(6, [8], 0, 10)
    with torch.no_grad():
        outputs = generator(state(torch.randn(4, 6)), None, torch.arange(1, 5))
    assert not outputs.dense().requires_grad
    assert not outputs.through(torch.randn(6, 2)).requires_grad
