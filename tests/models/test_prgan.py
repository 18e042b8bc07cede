import copy
from functools import partial

import pytest
import torch

from recbole_dgrm.maths.layers import UniformDropout
from recbole_dgrm.models.prgan import ImageCritic
from recbole_dgrm.testing import ModelContract


class TestPRGAN(ModelContract):
    model = "PRGAN"


def convolved(critic, condition, vector):
    """The critic's scores by convolutions and batch normalizations of torch."""
    image = torch.stack([condition, vector], dim=1).unsqueeze(1)
    maps = [convolution(image) for convolution in critic.convolutions]
    assert [tuple(each.shape[1:]) for each in maps] == [(3, 1, 10), (3, 2, 9), (3, 1, 9)]
    return critic.layers(torch.cat([each.flatten(1) for each in maps], dim=-1)).squeeze(-1)


def test_the_critic_computes_the_published_convolutions_and_batch_normalizations():
    torch.manual_seed(0)
    critic = ImageCritic(k=10, dropout=0.0)
    expected, vector = copy.deepcopy(critic), torch.randn(40, 10)
    condition = (3 + torch.randn(40, 10)).requires_grad_()  # far from 0, as ratings are
    for training in (True, True, False):
        scores = [f(condition, vector) for f in (critic.train(training), partial(convolved, expected.train(training)))]
        torch.testing.assert_close(*scores, rtol=0, atol=1e-6)
        inputs = ([condition, *each.parameters()] for each in (critic, expected))
        for own, other in zip(
            *(torch.autograd.grad(score.square().sum(), given) for score, given in zip(scores, inputs, strict=True)),
            strict=True,
        ):
            torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(critic.state_dict(), expected.state_dict(), rtol=0, atol=1e-6)


def test_the_critic_has_the_published_sizes():
    convolutions = 3 * (2 + 1) + 3 * (2 + 1) + 3 * (4 + 1)
    batch_norms = 3 * 6
    linear = (3 * 37 * 30 + 30) + (30 + 1)
    assert sum(each.numel() for each in ImageCritic(k=10).parameters()) == convolutions + batch_norms + linear


def test_dropout_by_uniform_numbers_drops_the_share_and_scales_the_rest():
    torch.manual_seed(0)
    dropout, rows = UniformDropout(0.6), torch.ones(200, 200)
    dropped = dropout(rows)
    assert dropped.unique().tolist() == [0.0, 2.5]
    assert float((dropped == 0).float().mean()) == pytest.approx(0.6, abs=0.01)
    assert torch.equal(dropout.eval()(rows), rows)


def test_a_record_holds_p_rated_items_first_its_own_first_of_all(make_model):
    _, splits, model = make_model("PRGAN", rated_items=2, record_items=6)
    users = torch.tensor([3, 1])
    records, real, known = model.records(users)
    row, items = records.row.view_as(real), records.column.view_as(real)
    x_0, mask = model.profiles(torch.arange(1, splits.train.user_num))
    places, value = model.rated(users)
    assert torch.equal(row, places.row.unsqueeze(-1).expand_as(real))
    assert torch.equal(items[:, 0], places.column)
    assert torch.equal(real[:, 0], value)
    assert (known[:, :2] == 1).all()
    torch.testing.assert_close(real, x_0[users[row] - 1, items])
    torch.testing.assert_close(known, mask[users[row] - 1, items])
    assert known[:, 2:].mean() < 0.5 * mask[[2, 0]].mean()  # rated ones are redrawn


def test_the_memory_is_replaced_only_when_validation_says_so(make_model):
    _, _, model = make_model("PRGAN")

    def same() -> bool:
        pairs = zip(model.memory.parameters(), model.generator.parameters(), strict=True)
        return all(torch.equal(own, other) for own, other in pairs)

    def change() -> None:
        for parameter in model.generator.parameters():
            parameter.data.add_(0.1)

    for score, replaced in [(0.5, True), (0.4, False), (0.5, False), (0.6, True), (None, True)]:
        change()
        model.end_epoch(score)
        assert same() == replaced, score


def test_the_generator_rests_while_the_critic_is_pretrained(make_model):
    _, _, model = make_model("PRGAN", pretrain_epochs=3)
    assert [(phase.name, phase.from_epoch) for phase in model.phases()] == [("critic", 0), ("generator", 3)]
