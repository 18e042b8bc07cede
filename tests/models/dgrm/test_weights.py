"""The weights of the generator: their start, their decay, and their average."""

import pytest
import torch

from recbole_dgrm.data import loaders
from recbole_dgrm.training.trainers import AlternatingTrainer

USERS = torch.tensor([1, 2, 3, 4])


@pytest.mark.parametrize("center", ["none", "mean", "bias"])
def test_the_output_starts_at_the_mean_and_stays_there_for_items_without_ratings(make_model, center):
    keys = {"center": center, "known_share": 0.1, "rating_scale": [1, 9]}
    config, splits, model = make_model(**keys)
    user, item, rating = (torch.as_tensor(column) for column in splits.triples("train"))
    value = rating - model.center.pairs(user, item - 1)
    start = value.mean().float().expand(model.width)
    torch.testing.assert_close(model.generator.output.bias.detach(), start, atol=1e-6, rtol=1e-6)
    unrated = torch.bincount(item - 1, minlength=model.width) == 0
    assert 0 < unrated.sum() < model.width
    expected = model.center.rows(USERS)[:, unrated] if center != "none" else torch.full((), rating.mean())
    for training in (True, False):
        found = model.score_profiles(USERS)[:, unrated]
        torch.testing.assert_close(found, expected.expand_as(found), rtol=0, atol=0.01)
        if training:
            AlternatingTrainer(config, model).fit(loaders.train_loader(config, splits, "train"))
    assert not torch.allclose(model.generator.output.bias, start)


def test_matrices_of_the_generator_decay_by_the_ratings_of_a_step_and_its_biases_do_not(make_model):
    config, splits, model = make_model(weight_decay=0.1, decay_per_rating=0.01, epochs=1)
    decays = []
    for part in ("train", "known"):
        trainer, loader = AlternatingTrainer(config, model), loaders.train_loader(config, splits, part)
        trainer.fit(loader)
        decays.append(0.1 + 0.01 * len(getattr(splits, part)) / len(loader))
        found = {
            parameter: group["weight_decay"]
            for optimizer in trainer.optimizer.values()
            for group in optimizer.param_groups
            for parameter in group["params"]
        }
        for parameter in model.generator.parameters():
            assert found[parameter] == pytest.approx(decays[-1] if parameter.ndim > 1 else 0.0)
        assert {found[parameter] for parameter in model.critic.parameters()} == {0.1}
    assert decays[1] > decays[0] > 0.2


def test_predictions_use_the_mean_of_the_first_weights_and_then_their_moving_average(make_model):
    config, splits, model = make_model(weight_average=0.6)
    trainer, loader, seen = AlternatingTrainer(config, model), loaders.train_loader(config, splits, "train"), []
    for epoch in range(4):
        trainer._train_epoch(loader, epoch)
        seen.append({name: weight.clone() for name, weight in model.generator.state_dict().items()})
    average = {}
    for name in seen[0]:
        first, second, third, fourth = (weights[name] for weights in seen)
        average[name] = 0.6 * (0.6 * (first + second) / 2 + 0.4 * third) + 0.4 * fourth
        torch.testing.assert_close(model.average.module.state_dict()[name], average[name])
    _, _, other = make_model(weight_average=0.0)
    for weights, equal in ((average, True), (seen[-1], False)):
        other.generator.load_state_dict(weights)
        assert torch.allclose(model.score_profiles(USERS), other.score_profiles(USERS)) == equal
