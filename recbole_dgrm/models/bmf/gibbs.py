"""Bayesian matrix factorization by blocked Gibbs sampling, with features of the rows of both sides.

    r_ui = m + b_u + c_i + p_u . q_i + e,    e ~ N(0, 1 / alpha)

A user's row ``x_u = (p_u, b_u)`` is ``eta_u`` with its last entry times a scale ``s``, and

    eta_u ~ N(mu + f_u B, Lambda^-1),    B | Lambda ~ MN(0, I / strength, Lambda^-1),

where ``f_u`` are features of the user; items are modelled in the same way, with their own mu, Lambda, B, strength and
s. Priors: ``(mu, Lambda)`` Normal-Wishart (0, 1, I, d), ``m`` and ``s`` N(0, 1), ``alpha`` and ``strength`` Gamma(1,
1). Ratings should have mean 0 and standard deviation 1.

The factorization is that of Salakhutdinov and Mnih (2008). With features of the items that a user rated it is SVD++
(Koren 2008), with features on both sides its flipped form (Rendle, Zhang and Koren 2019); the prior of the features is
Macau's (Simm et al. 2017). The scale ``s`` is a parameter expansion (Liu and Wu 1999; Gelman 2006): without it the
standard deviation of biases mixes slowly if most rows have one rating.
"""

from collections.abc import Callable
from typing import NamedTuple, Self

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recbole_dgrm.maths.sparse import products_at
from recbole_dgrm.models.bmf.conditionals import Design, Prior
from recbole_dgrm.models.bmf.features import Features

START = 0.1  # standard deviation of the initial rows
START_ALPHA = 1.25  # initial precision of a rating


def regressors(other: Tensor, scale: float) -> Tensor:
    """The regressors of eta: the factors of the ``other`` side, and the scale of the bias."""
    return torch.cat([other[:, :-1], torch.full_like(other[:, :1], scale)], dim=1)


def scaled(eta: Tensor, scale: float) -> Tensor:
    """The rows x of ``eta``, ``(n, d)``: its last entry is multiplied by ``scale``."""
    return torch.cat([eta[:, :-1], eta[:, -1:] * scale], dim=1)


class Sample(NamedTuple):
    """The result of a sweep: a state of the chain, with the conditional means of the users' rows.

    Attributes:
        level, alpha: m, and the precision of a rating.
        user: the means of the users' rows given everything else, ``(n_users, d)``.
        item: the items' rows, ``(n_items, d)``.
        prior, scale: those of the users' rows, from which the rows of other users can be computed.
    """

    level: float
    alpha: float
    user: Tensor
    item: Tensor
    prior: Prior
    scale: float


class Side(nn.Module):
    """The state of a chain for the rows of one side.

    Args:
        ratings: ``(n, n_columns)``, with the rows of this side.
        features: features of the rows, or None.
        n_factors: k; a row has ``d = k + 1`` entries, and the last is the bias.
        rng: the random generator of the initial rows.
    """

    scale: Tensor
    coefficients: Tensor
    strength: Tensor

    def __init__(self, ratings: sp.csr_matrix, features: Features | None, n_factors: int, rng: np.random.Generator):
        super().__init__()
        self.design, self.features = Design(ratings), features
        self.known = features and features.at(self.design.rated)
        first = START * rng.standard_normal((ratings.shape[0], n_factors + 1), dtype=np.float32)
        self.eta = nn.Parameter(torch.from_numpy(first), requires_grad=False)
        n_components = 0 if features is None else len(features.size)
        self.register_buffer("scale", torch.tensor(1.0, dtype=torch.float64))
        self.register_buffer("coefficients", torch.zeros(n_components, n_factors + 1, dtype=torch.float64))
        self.register_buffer("strength", torch.tensor(1.0, dtype=torch.float64))

    @property
    def rows(self) -> Tensor:
        """The rows x ``(n, d)``."""
        return scaled(self.eta, self.scale.item())

    def redraw(self, other: Tensor, level: float, alpha: float, rng: np.random.Generator) -> tuple[Tensor, Prior]:
        """Sample prior, rows and scale, given the rows of the ``other`` side ``(n_columns, d)``.

        Returns:
            The conditional means of the rows, ``(n, d)``, and their prior.
        """
        eta = self.eta.numpy()[self.design.rated].astype(np.float64)
        before = Prior(np.zeros(eta.shape[1]), np.eye(eta.shape[1]), self.coefficients.numpy(), self.strength.item())
        prior = before.redrawn(eta, self.known, rng)
        self.coefficients.copy_(torch.from_numpy(prior.coefficients))
        self.strength.fill_(prior.strength)
        target, scale = self.design.without(other, level), self.scale.item()
        noise = torch.from_numpy(rng.standard_normal(self.eta.shape, dtype=np.float32))
        mean, draw = self.design.posterior(regressors(other, scale), target, prior, self.features, alpha, noise)
        self.eta.copy_(draw)
        self._redraw_scale(target - products_at(self.design.places, draw[:, :-1], other[:, :-1]), alpha, rng)
        return scaled(mean, scale), prior

    def _redraw_scale(self, target: Tensor, alpha: float, rng: np.random.Generator) -> None:
        """Sample s, given the observed bias of each rating, ``(nnz,)``."""
        bias = self.design.places.spread(self.eta[:, -1:]).double()
        precision = alpha * bias.square().sum().item() + 1
        mean = alpha * (bias * target).sum().item() / precision
        self.scale.fill_(mean + rng.standard_normal() / np.sqrt(precision))


class Chain(nn.Module):
    """One Markov chain. The state of the module is that of the chain, and each sweep has its own random generator, so
    that a chain can be resumed.

    Args:
        ratings: ``(n_users, n_items)``, with mean 0 and standard deviation 1.
        features: features of users and of items, or None.
        n_factors: k.
        seed: the seed of this chain.
    """

    user: Side
    item: Side
    level: Tensor
    alpha: Tensor
    sweeps: Tensor

    def __init__(
        self,
        ratings: sp.csr_matrix,
        features: tuple[Features | None, Features | None],
        n_factors: int,
        seed: tuple[int, ...],
    ):
        super().__init__()
        self.seed, rng = seed, np.random.default_rng(seed)
        self.user = Side(ratings, features[0], n_factors, rng)
        self.item = Side(ratings.T.tocsr(), features[1], n_factors, rng)
        self.register_buffer("level", torch.tensor(0.0, dtype=torch.float64))
        self.register_buffer("alpha", torch.tensor(START_ALPHA, dtype=torch.float64))
        self.register_buffer("sweeps", torch.tensor(0))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """Do nothing: a chain stays on the CPU if the model is moved to another device."""
        return self

    @torch.no_grad()
    def sweep(self) -> Sample:
        """Sample all variables once."""
        self.sweeps += 1
        rng = np.random.default_rng((*self.seed, int(self.sweeps)))
        level, alpha, item, scale = self.level.item(), self.alpha.item(), self.item.rows, self.user.scale.item()
        mean, prior = self.user.redraw(item, level, alpha, rng)
        self.item.redraw(self.user.rows, level, alpha, rng)
        self._redraw_errors(rng)
        return Sample(level, alpha, mean, item, prior, scale)

    def _redraw_errors(self, rng: np.random.Generator) -> None:
        """Sample alpha and m, given the rows."""
        user, item, design = self.user.rows, self.item.rows, self.user.design
        one = torch.ones_like(user[:, :1]), torch.ones_like(item[:, :1])
        left, right = torch.cat([user, one[0]], dim=1), torch.cat([item[:, :-1], one[1], item[:, -1:]], dim=1)
        error = (design.rating - products_at(design.places, left, right)).double()
        squares = (error - self.level).square().sum().item()
        alpha = rng.gamma(1 + len(error) / 2) / (1 + squares / 2)
        precision = alpha * len(error) + 1
        self.alpha.fill_(alpha)
        self.level.fill_(alpha * error.sum().item() / precision + rng.standard_normal() / np.sqrt(precision))
