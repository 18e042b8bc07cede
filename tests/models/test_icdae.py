import pytest
import torch

from recbole_dgrm.maths.losses import masked_squared_error
from recbole_dgrm.maths.sparse import Places
from recbole_dgrm.testing import ModelContract
from recbole_dgrm.testing.contract import interaction


class TestICDAE(ModelContract):
    model = "ICDAE"


def gradient_norms(make_model, exponent: float) -> tuple[float, float]:
    """Encoder gradient per rating for a user with few and one with very many (equal, large) ratings."""
    _, _, model = make_model("ICDAE", activity_exponent=exponent, latent_size=8)
    torch.manual_seed(0)
    weight = torch.empty(8, model.width).uniform_(0.0, 0.5)  # sums grow with the number of ratings
    model.encoder.weight.data.copy_(weight.T)
    norms = []
    for count in (2, model.width):
        profile = torch.zeros(1, model.width)
        profile[0, :count] = 5.0
        model.activity = lambda user, count=count: torch.tensor([[count]])
        model.zero_grad()
        places = Places(1, model.width, torch.zeros(count, dtype=torch.long), torch.arange(count))
        output = model.decoder(model.encode(torch.tensor([1]), places, profile[0, :count]))
        masked_squared_error(output, profile, (profile > 0).float()).backward()
        norms.append(float(model.encoder.weight.grad.norm()) / count)
    return norms[0], norms[1]


def test_the_gradient_of_active_users_vanishes_without_the_cure_and_not_with_it(make_model):
    few, many = gradient_norms(make_model, exponent=0.0)
    assert many < 0.01 * few
    few, many = gradient_norms(make_model, exponent=1.0)
    assert many > 0.05 * few


def encoded(model, user, x_0):
    """The hidden layer of whole profiles ``(B, I)``, by plain products."""
    total = x_0 @ model.encoder.weight / model.activity(user) ** model.options.activity_exponent
    return torch.sigmoid(total + model.encoder.bias + model.user_node(user))


@pytest.mark.parametrize("protocol", ["rated", "full"])
def test_loss_and_gradients_are_those_of_whole_profiles(make_model, protocol):
    config, _, model = make_model("ICDAE", protocol=protocol, corruption=0.4)
    user = torch.tensor([4, 1, 7, 2])
    places, value = model.rated(user)
    (x_0, mask), parameters = model.profiles(user), list(model.parameters())
    torch.manual_seed(3)
    kept = places.dense((torch.rand(len(value)) >= 0.4).float() / 0.6)
    assert 0 < kept.count_nonzero() < len(value)
    dense = masked_squared_error(model.decoder(encoded(model, user, x_0 * kept)), x_0, mask)
    torch.manual_seed(3)
    loss = model.calculate_loss(interaction(config, user))
    torch.testing.assert_close(loss, dense, rtol=1e-5, atol=1e-5)
    for found, expected in zip(*(torch.autograd.grad(each, parameters) for each in (loss, dense)), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
