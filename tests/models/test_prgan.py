import torch

from recbole_dgrm.models.prgan import ImageCritic
from recbole_dgrm.testing import ModelContract


class TestPRGAN(ModelContract):
    model = "PRGAN"
    whole_profiles = True


def test_the_critic_reads_a_2_by_10_image_with_the_published_sizes():
    critic = ImageCritic(k=10)
    seen = []
    for convolution in critic.convolutions:
        convolution[0].register_forward_hook(lambda layer, given, made: seen.append((given[0].shape, made.shape)))
    assert critic(torch.zeros(4, 10), torch.ones(4, 10)).shape == (4,)
    assert [tuple(given) for given, _ in seen] == [(4, 1, 2, 10)] * 3
    assert [tuple(made) for _, made in seen] == [(4, 3, 1, 10), (4, 3, 2, 9), (4, 3, 1, 9)]
    convolutions = 3 * (2 + 1) + 3 * (2 + 1) + 3 * (4 + 1)
    batch_norms = 3 * 6
    linear = (3 * 37 * 30 + 30) + (30 + 1)
    assert sum(parameter.numel() for parameter in critic.parameters()) == convolutions + batch_norms + linear


def test_a_record_holds_p_rated_items_first_its_own_first_of_all(make_model):
    _, splits, model = make_model("PRGAN", rated_items=2, record_items=6)
    users = torch.tensor([3, 1])
    owner, items, real, known = model.records(users)
    x_0, mask = model.profiles(torch.arange(1, splits.train.user_num))
    places, value = model.rated(users)
    assert torch.equal(owner, users[places.row])
    assert torch.equal(items[:, 0], places.column)
    assert torch.equal(real[:, 0], value)
    assert (known[:, :2] == 1).all()
    torch.testing.assert_close(real, x_0[owner.unsqueeze(-1) - 1, items])
    torch.testing.assert_close(known, mask[owner.unsqueeze(-1) - 1, items])
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
