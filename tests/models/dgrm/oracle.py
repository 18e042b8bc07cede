"""DGRM as the paper prints it, on tensors of users x items: what the states of the package must agree with.

Nothing here is taken from the package but the weights. Noise, steps and hidden entries are given.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import softplus


@dataclass
class Given:
    """What is random in a training step; all but ``t`` ``(B,)`` and ``share`` ``(B, 1)`` are ``(B, width)``."""

    x_0: Tensor
    mask: Tensor
    t: Tensor
    noises: list[Tensor]
    z: Tensor | None
    kept: Tensor
    share: Tensor | None


class DenseDGRM:
    """The losses of Eqs. 21 and 22 for the weights of a model."""

    def __init__(self, model):
        self.generator, self.critic, self.options = model.generator, model.critic, model.options
        self.cross_entropy, self.implicit = type(model).__name__ == "DGRMKL", model.implicit
        self.mean_count = model.mean_count
        o = self.options
        level = [o.noise_min] if o.noise_steps == 1 else torch.linspace(o.noise_min, o.noise_max, o.noise_steps)
        alpha_bar = torch.cat([torch.ones(1), 1 - o.noise_scale * torch.as_tensor(level)]).double()
        beta = (1 - alpha_bar[1:] / alpha_bar[:-1].clamp(min=1e-12)).clamp(max=0.999)
        self.beta = torch.cat([torch.zeros(1), beta]).float()
        self.alpha_bar = torch.cumprod(1 - self.beta.double(), 0).float()

    def chain(self, given: Given) -> tuple[Tensor, Tensor]:
        """Eqs. 13 and 11: a jump to t - 1 and a step."""
        before, beta = (table[step].unsqueeze(-1) for table, step in self._levels(given.t))
        x_tm1 = before.sqrt() * given.x_0 + (1 - before).sqrt() * given.noises[0]
        return x_tm1, (1 - beta).sqrt() * x_tm1 + beta.sqrt() * given.noises[1]

    def _levels(self, t: Tensor):
        return (self.alpha_bar, t - 1), (self.beta, t)

    def predict(self, given: Given, x_t: Tensor) -> Tensor:
        """``x_0_hat``; what is hidden from the generator looks as if it were not rated."""
        o, rated = self.options, (given.x_0 != 0).float() if self.implicit else given.mask
        hidden = (1 - given.kept) * rated
        if o.noise_support == "rated":
            condition = x_t * (1 - hidden)
        else:
            condition = x_t - self.alpha_bar[given.t].sqrt().unsqueeze(-1) * given.x_0 * hidden
        count = (given.kept * rated).sum(-1, keepdim=True).clamp(min=1)
        condition = (
            condition
            / {"none": 1.0, "sqrt_count": count, "relative_count": count / self.mean_count}[o.condition_scale] ** 0.5
        )
        network, inputs = self.generator, [condition]
        if getattr(o, "mask_channel", False) and not self.implicit:  # hidden ratings leave their places in it
            inputs.append(given.mask / given.mask.sum(-1, keepdim=True).clamp(min=1).sqrt())
        inputs += [] if given.z is None else [given.z]
        hidden_layer = first(network, [*inputs, embedded(network, given.t)])
        return network.output(network.hidden(hidden_layer))

    def fake(self, given: Given, x_0_hat: Tensor, x_t: Tensor) -> Tensor:
        """The masking layer and Eq. 17."""
        before, ab = self.alpha_bar[given.t - 1].unsqueeze(-1), self.alpha_bar[given.t].unsqueeze(-1)
        beta = self.beta[given.t].unsqueeze(-1)
        total = torch.where(ab < 1, 1 - ab, 1.0)
        weight_0 = torch.where(ab < 1, before.sqrt() * beta / total, 1.0)
        weight_t = (1 - beta).sqrt() * (1 - before) / total
        variance = beta * (1 - before) / total
        return weight_0 * x_0_hat * given.mask + weight_t * x_t + variance.sqrt() * given.noises[2]

    def score(self, given: Given, x_tm1: Tensor, x_t: Tensor) -> Tensor:
        """``D(x_{t-1}, x_t, t)``, which sees nothing where there is no noise."""
        if self.options.noise_support == "rated":
            support = (given.x_0 != 0).float() if self.implicit else given.mask
            x_tm1, x_t = x_tm1 * support, x_t * support
        return self.critic.rest(first(self.critic, [x_tm1, x_t, embedded(self.critic, given.t)])).squeeze(-1)

    def critic_loss(self, given: Given) -> Tensor:
        """Eq. 21 or the cross-entropy, and the Lipschitz term by autograd."""
        o = self.options
        x_tm1, x_t = self.chain(given)
        with torch.no_grad():
            fake = self.fake(given, self.predict(given, x_t), x_t)
        real_score, fake_score = self.score(given, x_tm1, x_t), self.score(given, fake, x_t)
        if self.cross_entropy:
            loss = softplus(-real_score).sum() + softplus(fake_score).sum()
        else:
            loss = real_score.sum() - fake_score.sum()
        if o.lipschitz in ("gradient_penalty", "r1"):
            penalty = o.lipschitz == "gradient_penalty"
            point = given.share * x_tm1 + (1 - given.share) * fake if penalty else x_tm1
            point = point.requires_grad_(True)
            (gradient,) = torch.autograd.grad(self.score(given, point, x_t).sum(), point, create_graph=True)
            square = gradient.square().sum(-1)
            loss = loss + o.lipschitz_weight * ((square.sqrt() - 1).square().sum() if penalty else square.sum() / 2)
        return loss

    def generator_loss(self, given: Given) -> Tensor:
        """Eq. 22 or the non-saturating loss, and the reconstruction."""
        o = self.options
        _, x_t = self.chain(given)
        x_0_hat = self.predict(given, x_t)
        target = given.mask
        if o.reconstruct == "hidden":  # of what implicit feedback does not name, the share that is hidden on average
            rated = (given.x_0 != 0).float() if self.implicit else given.mask
            target = rated * (1 - given.kept) + (given.mask - rated) * o.condition_dropout**0.5
        loss = o.reconstruction_weight * ((x_0_hat - given.x_0) * target).square().sum()
        if self.critic is None:
            return loss
        score = self.score(given, self.fake(given, x_0_hat, x_t), x_t)
        return loss + o.adversarial_weight * (softplus(-score).sum() if self.cross_entropy else score.sum())


def first(network, inputs: list[Tensor]) -> Tensor:
    """The first layer as one product of all inputs side by side."""
    weight = torch.cat([*network.first.states, network.first.rest.T])
    return torch.cat(inputs, dim=-1) @ weight + network.first.bias


def embedded(network, t: Tensor) -> Tensor:
    """``v_t``: cosines and sines of t, and a linear layer."""
    layer = network.step_embedding.linear
    half = layer.in_features // 2
    angle = t.unsqueeze(-1) * 10_000 ** (-torch.arange(half) / half)
    return torch.cat([angle.cos(), angle.sin()], dim=-1) @ layer.weight.T + layer.bias
