import copy

import pytest
import torch
from recbole.model.general_recommender.diffrec import DiffRec as RecBoleDiffRec

from recbole_dgrm.errors import OptionError
from recbole_dgrm.testing import ModelContract, interaction


class TestDiffRec(ModelContract):
    model = "DiffRec"


def test_with_implicit_feedback_it_equals_recboles_on_the_same_weights(make_model):
    config, splits, ours = make_model("DiffRec", protocol="full")
    theirs = RecBoleDiffRec(config, splits.train)
    theirs.mlp.load_state_dict(ours.mlp.state_dict())
    users = interaction(config, [1, 2, 3, 4])
    scores = theirs.eval().full_sort_predict(users)
    torch.testing.assert_close(ours.eval().full_sort_predict(users)[:, 1:], scores[:, 1:])
    losses = []
    for model, rows in ((ours.train(), 4), (theirs.train(), 1)):
        torch.manual_seed(0)
        losses.append(model.calculate_loss(users) / rows)
    torch.testing.assert_close(losses[0], losses[1], check_dtype=False)


def padded(model, users):
    """The profiles of users and their mask, both ``(B, n_items)``."""
    return [torch.nn.functional.pad(each, (1, 0)) for each in model.profiles(users)]


def test_loss_and_gradients_over_rated_items_are_those_of_whole_profiles(make_model):
    config, _, model = make_model("DiffRec")
    users, parameters = torch.tensor([4, 1, 7, 2]), list(model.train().mlp.parameters())
    x_0, mask = padded(model, users)
    torch.manual_seed(3)
    t, _ = model.sample_timesteps(len(users), model.device, "importance")
    x_0_hat = model.mlp(model.q_sample(x_0, t, torch.randn_like(x_0)), t)
    error = ((x_0_hat - x_0) * mask).square().sum(-1) / mask.sum(-1)
    expected = (torch.where(t == 0, 1.0, model.SNR(t - 1) - model.SNR(t)) * error).sum()
    torch.manual_seed(3)
    loss = model.calculate_loss(interaction(config, users))
    torch.testing.assert_close(loss, expected)
    for own, other in zip(*(torch.autograd.grad(each, parameters) for each in (loss, expected)), strict=True):
        torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)


def test_the_history_of_losses_is_recboles(make_model):
    _, _, model = make_model("DiffRec", steps=3)
    other = copy.deepcopy(model)
    for seed in range(8):
        torch.manual_seed(seed)
        steps, losses = torch.randint(3, (17,)), torch.rand(17, dtype=torch.double)
        model.update_Lt_history(steps, losses)
        RecBoleDiffRec.update_Lt_history(other, steps, losses)
        assert torch.equal(model.Lt_history, other.Lt_history)
        assert torch.equal(model.Lt_count, other.Lt_count)
    assert (model.Lt_count == 10).all()  # full


def test_forward_steps_at_prediction_take_the_noise_of_the_user(make_model):
    config, _, model = make_model("DiffRec", sampling_steps=4)
    model.eval()
    batch = model.full_sort_predict(interaction(config, [4, 2]))
    alone = model.full_sort_predict(interaction(config, [2]))
    torch.testing.assert_close(batch[1:], alone)


@pytest.mark.parametrize("sampling_steps", [0, 2])
def test_the_reverse_chain_is_recboles_and_reads_rated_items_only(make_model, sampling_steps):
    """Else the steps would read their own predictions of unrated items, and all users would end alike."""
    _, splits, model = make_model("DiffRec", steps=4, sampling_steps=sampling_steps)
    model.eval()
    users = torch.arange(1, splits.train.user_num)
    x_t, mask = padded(model, users)
    if sampling_steps:
        x_t = model.q_sample(x_t, torch.full_like(users, 1), model.row_noise(users, model.n_items, 0))
    for step in (3, 2, 1, 0):
        x_t = model.p_mean_variance(x_t * mask, torch.full_like(users, step))["mean"]
    torch.testing.assert_close(model.score_profiles(users), x_t[:, 1:] + model.center.rows(users))


def test_predicted_noise_is_for_losses_over_all_items(make_model):
    with pytest.raises(OptionError, match="mean_type=eps needs reconstruct=all"):
        make_model("DiffRec", mean_type="eps")
    make_model("DiffRec", mean_type="eps", reconstruct="all")
