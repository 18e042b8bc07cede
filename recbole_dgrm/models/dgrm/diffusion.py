"""The Gaussian forward chain and its posterior (DGRM paper, section 3.1).

The paper writes R^t for ``x_t``, a batch of rating profiles ``(B, I)`` after ``t`` of ``T`` noising steps. Here it is a
tensor or a ``State``. ``t`` is an integer tensor ``(B,)`` with values in ``1..T``, and every table has length ``T + 1``
with index 0 for the clean profile (``alpha_bar[0] = 1``). The chain is independent of the network. The
backward process of a prediction, Eqs. 18 to 20, is in ``sampling.py``.

Deviations from the paper
    * Eq. 12 is printed with alpha instead of alpha-bar; we use alpha-bar, as Eq. 13 does.
    * Eq. 17 is printed with ``(1 - alpha_bar_{t-1})`` under the root; by Bayes' rule (Eq. 15) it is
      outside of the root. The noise of a posterior step has the variance of Eq. 17, not ``beta_t`` as
      the remark under Eq. 18 states.
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

from recbole_dgrm.models.dgrm.profiles import State

MAX_BETA = 0.999
X = TypeVar("X", Tensor, State)


def linear_variance_betas(steps: int, scale: float, low: float, high: float) -> Tensor:
    """The betas whose ``1 - alpha_bar_t`` rises linearly from ``scale * low`` to ``scale * high`` (Eq. 14).

    Args:
        steps: T, at least 1. With ``T = 1`` the only noise level is ``scale * low``.
        scale: c in [0, 1]; 0 means no noise.
        low, high: a_min < a_max, both in [0, 1].

    Returns:
        beta_1..beta_T as float64, shape ``(T,)``, capped at 0.999.

    Raises:
        ValueError: the noise levels do not rise, so a beta would be negative.
    """
    if steps > 1 and low >= high:
        raise ValueError(f"noise_min={low} must be below noise_max={high}: the noise levels must rise with t")
    level = scale * torch.linspace(low, high if steps > 1 else low, steps, dtype=torch.float64)
    alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), 1 - level])
    beta = 1 - alpha_bar[1:] / alpha_bar[:-1].clamp(min=1e-12)
    return beta.clamp(0.0, MAX_BETA)


class DiffusionChain(nn.Module):
    """The forward chain and its posterior for given betas.

    Args:
        beta: beta_1..beta_T, shape ``(T,)``, each in [0, 1).
    """

    beta: Tensor
    alpha: Tensor
    alpha_bar: Tensor
    noise: Tensor
    weight_x_0: Tensor
    weight_x_t: Tensor
    variance: Tensor

    def __init__(self, beta: Tensor):
        super().__init__()
        self.steps = len(beta)
        beta = torch.cat([torch.zeros(1, dtype=torch.float64), beta.double()])
        alpha = 1 - beta
        alpha_bar = torch.cumprod(alpha, dim=0)
        before = torch.cat([torch.ones(1, dtype=torch.float64), alpha_bar[:-1]])  # alpha_bar_{t-1}
        noisy = alpha_bar < 1
        total = torch.where(noisy, 1 - alpha_bar, 1.0)  # without noise x_t is x_0, and division by 0 is avoided
        tables = {
            "beta": beta,
            "alpha": alpha,
            "alpha_bar": alpha_bar,
            "noise": (
                1 - alpha_bar
            ).sqrt(),  # in float64, because 1 - alpha_bar is as small as 1e-8 in the paper's grid
            "weight_x_0": torch.where(noisy, before.sqrt() * beta / total, 1.0),
            "weight_x_t": torch.where(noisy, alpha.sqrt() * (1 - before) / total, 0.0),
            "variance": torch.where(noisy, beta * (1 - before) / total, 0.0),
        }
        for name, table in tables.items():
            self.register_buffer(name, table.float(), persistent=False)

    def q_sample(self, x_0: X, t: Tensor, eps: X) -> X:
        """``x_t ~ q(x_t | x_0)`` in one jump (Eq. 13); ``t = 0`` gives ``x_0`` itself."""
        return self.alpha_bar[t].sqrt().unsqueeze(-1) * x_0 + self.noise[t].unsqueeze(-1) * eps

    def q_step(self, x_tm1: X, t: Tensor, eps: X) -> X:
        """``x_t ~ q(x_t | x_{t-1})``, one step (Eq. 11)."""
        beta = self.beta[t].unsqueeze(-1)
        return (1 - beta).sqrt() * x_tm1 + beta.sqrt() * eps

    def q_pair(self, x_0: X, t: Tensor, noise: Callable[[], X]) -> tuple[X, X]:
        """A training pair ``(x_{t-1}, x_t)``: jump to t-1, then take one step with fresh noise.

        Args:
            noise: each call returns a new standard normal ``eps`` with the shape of ``x_0``.
        """
        x_tm1 = self.q_sample(x_0, t - 1, noise())
        return x_tm1, self.q_step(x_tm1, t, noise())

    def q_posterior(self, x_0: X, x_t: X, t: Tensor, eps: X) -> X:
        """``x_{t-1} ~ q(x_{t-1} | x_t, x_0)`` (Eqs. 15-17); at ``t = 1`` exactly ``x_0``."""
        mean = self.weight_x_0[t].unsqueeze(-1) * x_0 + self.weight_x_t[t].unsqueeze(-1) * x_t
        return mean + self.variance[t].unsqueeze(-1).sqrt() * eps
