import torch

from recbole_dgrm.maths.losses import masked_squared_error
from recbole_dgrm.testing import ModelContract


class TestICDAE(ModelContract):
    model = "ICDAE"


def gradient_norms(make_model, exponent: float) -> tuple[float, float]:
    """Encoder gradient per rating for a user with few and one with very many (equal, large) ratings."""
    _, _, model = make_model("ICDAE", activity_exponent=exponent, latent_size=8)
    torch.manual_seed(0)
    torch.nn.init.uniform_(model.encoder.weight, 0.0, 0.5)  # sums grow with the number of ratings
    norms = []
    for count in (2, model.width):
        profile = torch.zeros(1, model.width)
        profile[0, :count] = 5.0
        model.activity = lambda user, count=count: torch.tensor([[count]])
        model.zero_grad()
        output = model.decoder(model.encode(torch.tensor([1]), profile))
        masked_squared_error(output, profile, (profile > 0).float()).backward()
        norms.append(float(model.encoder.weight.grad.norm()) / count)
    return norms[0], norms[1]


def test_the_gradient_of_active_users_vanishes_without_the_cure_and_not_with_it(make_model):
    few, many = gradient_norms(make_model, exponent=0.0)
    assert many < 0.01 * few
    few, many = gradient_norms(make_model, exponent=1.0)
    assert many > 0.05 * few


def test_exponent_0_is_a_plain_sum(make_model):
    _, _, model = make_model("ICDAE", activity_exponent=0.0)
    user = torch.tensor([1, 2])
    x_0, _ = model.profiles(user)
    expected = torch.sigmoid(model.encoder(x_0) + model.user_node(user))
    torch.testing.assert_close(model.encode(user, x_0), expected)
