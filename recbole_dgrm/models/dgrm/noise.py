"""Gaussian noise on every entry of a profile; only its products with the first layers are computed.

Training uses *shared rows*: a step samples a few dense Gaussian rows and multiplies them with the first layers once.
Each user has some of these rows, each with a random sign. The noise of a single user has exactly the paper's
distribution, so losses and gradients have the paper's expectation. But two users with the same row are not independent,
which increases the variance of a gradient (``docs/deviations.md``).

Prediction must not depend on the batch, so a user's noise depends only on the user's id. Its product with a weight W is
Gaussian with covariance ``W'W``, so a Cholesky factor of ``W'W`` gives the product from as many normals as W has
columns. No gradient is computed through that factor.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.functional import embedding
from torch.utils.weak import WeakTensorKeyDictionary

from recbole_dgrm.maths.noise import RowNoise

LEAST_ROWS = 32
USERS_PER_ROW = 4
JITTER = 1e-10  # of the mean of the diagonal


def shared_rows(batch: int) -> int:
    """The default number of noise rows that a batch shares.

    Sharing multiplies the variance of a gradient by about 1 + 0.07 x (users per row), so by about 1.3 here.
    """
    return max(LEAST_ROWS, batch // USERS_PER_ROW)


class SharedNoise:
    """The shared rows of one training step, sampled at first use.

    Args:
        n_rows: the number of rows; the noises of a user are different rows.
        width: the length of the rows.
        n_users: B.
        n_noises: the largest number of noises of a user.
    """

    def __init__(self, n_rows: int, width: int, n_users: int, n_noises: int, device: torch.device):
        self.size, self.n_users, self.n_noises, self.device = (n_rows, width), n_users, n_noises, device
        self._used = 0
        self._products: dict[tuple[Tensor, bool], Tensor] = {}

    @cached_property
    def table(self) -> Tensor:
        """The rows, ``(n_rows, width)``."""
        return torch.empty(self.size, device=self.device).normal_()

    @cached_property
    def row(self) -> Tensor:
        """The row of each noise of each user, ``(B, n_noises)``."""
        return torch.rand(self.n_users, self.size[0], device=self.device).topk(self.n_noises).indices

    @cached_property
    def sign(self) -> Tensor:
        """The signs of these rows, -1 or 1, ``(B, n_noises)``."""
        return torch.randint(0, 2, (self.n_users, self.n_noises), device=self.device) * 2.0 - 1

    def another(self, width: int) -> "SharedRows":
        """A new noise ``(B, width)``, independent of the earlier ones."""
        self._used += 1
        return SharedRows(self, width, self.row[:, self._used - 1], self.sign[:, self._used - 1, None])

    def through(self, weight: Tensor) -> Tensor:
        """The table times ``weight``, computed once."""
        key = weight, torch.is_grad_enabled()
        if key not in self._products:
            self._products[key] = self.table[:, : len(weight)] @ weight
        return self._products[key]


@dataclass(frozen=True, eq=False)
class SharedRows:
    """One noise of a training step: for each user a row of the table, ``(B,)``, and a sign, ``(B, 1)``."""

    source: SharedNoise
    width: int
    row: Tensor
    sign: Tensor

    def through(self, weight: Tensor) -> Tensor:
        """The noise times ``weight`` ``(W, H)``, ``(B, H)``."""
        rows = embedding(self.row, self.source.through(weight))  # the gradient of indexing is not deterministic
        return self.sign * rows

    def dense(self) -> Tensor:
        """The noise itself, ``(B, width)``."""
        return self.sign * self.source.table[self.row, : self.width]


@dataclass(frozen=True, eq=False)
class GivenRows:
    """Rows ``(B, W)`` that are given as a tensor."""

    value: Tensor

    def through(self, weight: Tensor) -> Tensor:
        """The rows times ``weight`` ``(W, H)``, ``(B, H)``."""
        return self.value @ weight

    def dense(self) -> Tensor:
        """The rows themselves."""
        return self.value


class Factors:
    """A cache of the Cholesky factors of ``weight' weight``, for weights ``(W, H)`` that have not changed.

    A weight is compared with a copy, because its version counter does not count the steps of fused optimizers.
    """

    def __init__(self) -> None:
        self._kept = WeakTensorKeyDictionary()

    def __call__(self, weight: Tensor) -> Tensor:
        """The lower factor ``(H, H)``."""
        before, factor = self._kept.get(weight, (None, None))
        if before is None or not torch.equal(before, weight):
            factor = _factor(weight.detach())
            self._kept[weight] = weight.detach().clone(), factor
        return factor

    def __deepcopy__(self, memo: dict) -> "Factors":
        return type(self)()


def _factor(weight: Tensor) -> Tensor:
    with torch.autocast(weight.device.type, enabled=False):
        gram = (weight.T @ weight).double()
    gram.diagonal().add_(JITTER * gram.diagonal().mean() + torch.finfo(torch.float32).tiny)
    return torch.linalg.cholesky(gram).float()


@dataclass(frozen=True, eq=False)
class UserRows:
    """The noise of users ``(B,)`` in one ``stream`` of ``source``; only its products can be computed."""

    source: RowNoise
    factors: Factors
    user: Tensor
    stream: int

    def through(self, weight: Tensor) -> Tensor:
        """The noise times ``weight`` ``(W, H)``, ``(B, H)``."""
        width, size = weight.shape
        if width <= size:
            return self.source(self.user, width, self.stream) @ weight
        return self.source(self.user, size, self.stream) @ self.factors(weight).T

    def dense(self) -> Tensor:
        """Not available; use ``GivenRows`` if entries of the noise are needed."""
        raise NotImplementedError("use GivenRows if single entries of the noise are needed")
