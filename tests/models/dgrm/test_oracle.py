"""Losses and gradients of the states against the paper's equations on dense tensors, with the same noise."""

import pytest
import torch
from helpers import PAPER, paper_keys
from oracle import DenseDGRM, Given

from recbole_dgrm.models.dgrm import model as model_module

PLUS = {"model": "DGRMPlus", **paper_keys(), "orientation": "user", "mask_channel": False, "blend": 0.0}
MASK = {**PLUS, "mask_channel": True}
SIZES = {"generator_hidden": [12, 8], "critic_hidden": [10], "latent_size": None}
HIDDEN = {"condition_dropout": 0.5, "reconstruct": "hidden"}
MORE = {**HIDDEN, "condition_scale": "sqrt_count", "noise_support": "rated"}
CASES = {
    "the defaults": {},
    "the paper": PAPER,
    "no noise": {"noise_scale": 0.0},
    "one step": {"noise_steps": 1, "prediction_noise_steps": 0},
    "fixed step": {"fixed_step": 5},
    "one rating per user": {"ratings": "one"},
    "a user without any": {"ratings": "none"},
    "fewer items than hidden units": {"generator_hidden": [64, 8], "critic_hidden": [64]},
    "no z": {"latent_size": 0},
    "z wider than a profile": {"latent_size": 40},
    "hidden entries": HIDDEN,
    "scaled condition": {"condition_dropout": 0.3, "condition_scale": "sqrt_count"},
    "condition scaled to the mean count": {"condition_scale": "relative_count", "prediction_noise_steps": 2},
    "r1": {"lipschitz": "r1"},
    "clipping": {"lipschitz": "weight_clipping"},
    "linear critic": {"critic_hidden": []},
    "no critic": {"adversarial_weight": 0.0},
    "noise at rated entries": {"noise_support": "rated"},
    "noise at rated entries, sparse gradients": {"noise_support": "rated", "step_cost": "ratings"},
    "noise at rated entries, all else too": {**MORE, "center": "bias", "lipschitz": "r1"},
    "cross-entropy with penalty": {"model": "DGRMKL", "lipschitz": "gradient_penalty"},
    "mask, hidden entries": {**MASK, **MORE},
    "mask, a user without any": {**MASK, "ratings": "none", "latent_size": 0},
    "items": {**PLUS, "orientation": "item"},
    "items, all else too": {**MASK, **MORE, "orientation": "item", "center": "bias", "latent_size": 3},
    "implicit": {"protocol": "full"},
    "implicit, items": {**MASK, "protocol": "full", "orientation": "item"},
    "implicit, hidden": {"protocol": "full", **HIDDEN},
    "implicit, noise at rated entries": {"protocol": "full", "noise_support": "rated", "condition_dropout": 0.5},
    "implicit, cross-entropy": {"protocol": "full", "model": "DGRMKL"},
}


@pytest.fixture
def build(make_model):
    def made(ratings="all", model="DGRM", **keys):
        torch.manual_seed(0)
        _, _, built = make_model(model, **{**SIZES, **keys})
        user = torch.arange(1, 11)
        if ratings != "all":
            built._indptr, built._column, built._value = cut(built, user, ratings)
        return built, user

    return made


def cut(model, user, ratings: str):
    """Profiles whose users 1 and 2 have one rating, or of whom user 1 has none."""
    counts = torch.diff(model._indptr)
    most = torch.full_like(counts, 99)
    most[1:3] = 1
    if ratings == "none":
        most[1] = 0
    within = torch.arange(len(model._column)) - model._indptr[:-1].repeat_interleave(counts)
    taken = within < most.repeat_interleave(counts)
    return torch.cat([torch.zeros(1, dtype=torch.long), torch.minimum(counts, most).cumsum(0)]), *(
        table[taken] for table in (model._column, model._value)
    )


class Recorder:
    """Runs a loss of a model and keeps what was drawn."""

    def __init__(self, model, monkeypatch):
        self.model, self.share = model, None
        noises, condition, rand = model._noises, model_module.condition, torch.rand

        def recorded_noises(x_0):
            noise, z = noises(x_0)
            self.drawn = []
            self.z = None if z is None else z.dense()[:, : model.generator.latent_size]

            def recorded():
                self.drawn.append(noise())
                return self.drawn[-1]

            return recorded, z

        def recorded_condition(x_t, kept, scale, *rest):
            self.kept = x_t.places.dense(kept)
            return condition(x_t, kept, scale, *rest)

        def recorded_rand(*size, **keys):
            drawn = rand(*size, **keys)
            if size[1:] == (1,):
                self.share = drawn
            return drawn

        monkeypatch.setattr(model, "_noises", recorded_noises)
        monkeypatch.setattr(model_module, "condition", recorded_condition)
        monkeypatch.setattr(torch, "rand", recorded_rand)

    def given(self, user, t) -> Given:
        x_0, mask = self.model.profiles(user)
        return Given(x_0, mask, t, [eps.dense() for eps in self.drawn], self.z, self.kept, self.share)


def gradients(model, loss):
    model.zero_grad()
    loss.backward()
    found = {name: parameter.grad for name, parameter in model.named_parameters() if parameter.grad is not None}
    return {name: gradient.to_dense() if gradient.is_sparse else gradient for name, gradient in found.items()}


@pytest.mark.parametrize("case", CASES)
def test_losses_and_gradients_are_those_of_the_paper_on_dense_tensors(build, monkeypatch, case):
    model, user = build(**CASES[case])
    recorder, oracle = Recorder(model, monkeypatch), DenseDGRM(model)
    drawn_steps = []
    draw = model.draw

    def recorded_draw(user):
        drawn_steps.append(draw(user))
        return drawn_steps[-1]

    monkeypatch.setattr(model, "draw", recorded_draw)
    for phase in model.phases():
        loss = phase.loss({model.row_field: user})
        expected = getattr(oracle, f"{phase.name}_loss")(recorder.given(user, drawn_steps[-1].t))
        torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
        found, wanted = gradients(model, loss), gradients(model, expected)
        assert found.keys() == wanted.keys()
        for name, gradient in wanted.items():
            scale = float(gradient.abs().max().clamp(min=1))
            torch.testing.assert_close(found[name] / scale, gradient / scale, rtol=1e-5, atol=1e-5, msg=name)
