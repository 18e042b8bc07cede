"""Steps of DGRM whose cost follows the ratings: their losses, and which weights they change."""

import pytest
import torch
from helpers import with_random_outputs

from recbole_dgrm.data import loaders
from recbole_dgrm.errors import OptionError
from recbole_dgrm.models.dgrm import model as model_module
from recbole_dgrm.training.optimizers import only_learning
from recbole_dgrm.training.trainers import AlternatingTrainer


def test_automatic_steps_cost_by_ratings_if_few_entries_are_rated(make_model, monkeypatch):
    assert not make_model()[2].by_ratings
    monkeypatch.setattr(model_module, "SPARSE", 1.0)
    assert make_model()[2].by_ratings
    assert not make_model(step_cost="items")[2].by_ratings
    assert not make_model(learner="rmsprop")[2].by_ratings


USERS = torch.tensor([1, 2, 3, 4])


@pytest.mark.parametrize("name", ["critic", "generator"])
def test_steps_that_cost_by_ratings_have_the_losses_of_exact_ones_on_average(make_model, name):
    """Losses of the same weights over many draws of noise; the noise differs, but not its distribution."""
    keys = {"latent_size": 4, "critic_hidden": [10], "generator_hidden": [12]}
    means, errors = [], []
    for cost in ("items", "ratings"):
        model = make_model(step_cost=cost, **keys)[2]
        (phase,) = (each for each in model.phases() if each.name == name)
        torch.manual_seed(0)
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
        drawn = []
        with torch.random.fork_rng(devices=[]):
            for _ in range(150):
                model.first_layers.refresh()
                drawn.append(phase.loss({"user_id": USERS.repeat(20)}).item())
        drawn = torch.tensor(drawn, dtype=torch.double)
        means.append(drawn.mean())
        errors.append(drawn.std() / len(drawn) ** 0.5)
    assert abs(means[0] - means[1]) < 4 * (errors[0] ** 2 + errors[1] ** 2) ** 0.5
    assert errors[1] < 0.05 * abs(means[1])


@pytest.mark.parametrize("model", ["DGRM", "DGRMPlus"])
def test_a_step_that_costs_by_ratings_changes_only_rows_of_rated_items(make_model, model):
    config, splits, model = make_model(model, step_cost="ratings", train_batch_size=1)
    with_random_outputs(model)
    (batch, *_) = loaders.train_loader(config, splits, "train")
    trainer, before = AlternatingTrainer(config, model), {name: p.clone() for name, p in model.named_parameters()}
    rated = model.rated(batch[model.row_field])[0].column.unique().tolist()
    assert 0 < len(rated) < model.width
    for phase in trainer.phases:
        with only_learning(model, phase.parameters):
            trainer._step(phase, batch, 0)
    for name, parameter in model.named_parameters():
        if not name.startswith("average") and parameter.dim() == 2 and len(parameter) == model.width:
            moved = (parameter != before[name]).any(dim=1).nonzero().flatten().tolist()
            assert moved == rated, name


def test_entries_without_ratings_have_weights_of_0_if_steps_cost_by_ratings(make_model):
    model = make_model(step_cost="ratings", known_share=0.1)[2]
    unrated = torch.bincount(model._column, minlength=model.width) == 0
    assert unrated.any()
    for weight in (*model.critic.first.states, model.generator.first.states[0]):
        assert torch.equal((weight == 0).all(dim=1), unrated)


def test_sparse_gradients_need_adam(make_model):
    with pytest.raises(OptionError, match="step_cost=ratings needs learner=adam, not rmsprop"):
        make_model(step_cost="ratings", learner="rmsprop")
