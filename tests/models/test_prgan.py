import copy
from functools import partial

import pytest
import torch

from recbole_dgrm.maths.layers import UniformDropout
from recbole_dgrm.models.prgan import ImageCritic
from recbole_dgrm.testing import ModelContract, interaction


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


@pytest.mark.parametrize("critic_input", ["all", "rated"])
def test_the_critic_reads_whole_generated_vectors_or_their_rated_items(make_model, critic_input):
    config, _, model = make_model("PRGAN", critic_input=critic_input)
    model.generator.mean.data.fill_(7.0)  # far from the residuals 0 of unrated items
    for loss, read in ((model.critic_loss, 1), (model.generator_loss, 0)):  # the critic's loss reads real vectors first
        seen = []
        with model.critic.register_forward_pre_hook(lambda _, given, seen=seen: seen.append(given[1])):
            loss(interaction(config, [3, 1]))
        unrated = seen[read][:, model.options.rated_items :]
        assert (unrated != 0).all() if critic_input == "all" else (unrated == 0).float().mean() > 0.5


def test_the_better_of_generator_and_memory_predicts_and_only_a_better_generator_replaces_the_memory(make_model):
    models = [make_model("PRGAN")[2] for _ in range(2)]
    users = torch.tensor([1, 2])
    for epoch, (score, memory) in enumerate([(0.5, 0.4), (0.4, 0.6), (0.7, 0.7), (0.1, 0.2)]):
        model = models[0]
        model.begin_epoch(epoch)
        model.generator.item_bias.weight.data.add_(torch.rand(model.width, 1))
        model.choose(None, lambda model=model, scores=(score, memory): scores[bool(model.by_memory)])
        better = model.memory if memory > score else model.generator
        expected = better(users).dense() + model.center.rows(users)
        model.end_epoch(max(score, memory))
        assert torch.equal(model.score_profiles(users), expected)
        replaced = torch.equal(model.memory.item_bias.weight, model.generator.item_bias.weight)
        assert replaced == (better is model.generator)
    models[1].adopt(models[0].chosen())
    for epoch, by_memory in enumerate([False, False, False, True]):  # the last replacement was in epoch 2
        models[1].begin_epoch(epoch)
        models[1].end_epoch(None)
        assert bool(models[1].by_memory) == by_memory


def test_a_state_of_version_0_2_0_is_read(make_model):
    _, _, model = make_model("PRGAN")
    old = {name: value for name, value in model.state_dict().items() if name not in ("by_memory", "replaced")}
    model.by_memory.fill_(True)
    model.load_state_dict({**old, "best_score": torch.tensor(0.5)})
    assert not model.by_memory


def test_the_generator_rests_while_the_critic_is_pretrained(make_model):
    _, _, model = make_model("PRGAN", pretrain_epochs=3)
    assert [(phase.name, phase.from_epoch) for phase in model.phases()] == [("critic", 0), ("generator", 3)]
