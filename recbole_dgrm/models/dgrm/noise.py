"""Gaussian noise on every entry of a profile; only its products with the first layers are computed.

Training uses *shared rows*: a step samples a few dense Gaussian rows and multiplies them with the first layers once.
Each user has some of these rows, each with a random sign. The noise of a single user has exactly the paper's
distribution, so losses and gradients have the paper's expectation. But two users with the same row are not independent,
which increases the variance of a gradient (``docs/deviations.md``). With ``step_cost: ratings`` only products with the
first layers are sampled, once per phase; they have no gradient (``FirstLayers``).

Prediction must not depend on the batch, so a user's noise depends only on the user's id. Its product with a weight W is
Gaussian with covariance ``W'W``, so a Cholesky factor of ``W'W`` gives the product from as many normals as W has
columns. No gradient is computed through that factor.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations_with_replacement
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding
from torch.utils.weak import WeakTensorKeyDictionary

from recbole_dgrm.maths.noise import RowNoise
from recbole_dgrm.maths.sparse import Places, gram

LEAST_ROWS = 32
USERS_PER_ROW = 4
SAMPLED_ROWS = 2048
JITTERS = (1e-10, 1e-8, 1e-6, 1e-4)  # of the mean of the diagonal; the first with which there is a factor


def shared_rows(batch: int) -> int:
    """The number of noise rows that a batch shares.

    Sharing multiplies the variance of a gradient by about 1 + 0.07 x (users per row), so by about 1.3 here.
    """
    return max(LEAST_ROWS, batch // USERS_PER_ROW)


class SharedNoise:
    """The shared rows of one training step, sampled at first use.

    Args:
        width: the length of the rows.
        n_users: B; the noises of a user are different rows.
        n_noises: the largest number of noises of a user.
    """

    def __init__(self, width: int, n_users: int, n_noises: int, device: torch.device):
        self.size, self.n_users, self.n_noises, self.device = (shared_rows(n_users), width), n_users, n_noises, device
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


class FirstLayers:
    """Several first layers' weights ``(W, H_k)``, and products of noise with them as they were at the last ``refresh``.

    The products of one row of noise with all weights are jointly Gaussian, and their covariance is the joint Gram
    matrix of the weights. So they can be sampled from as many normals as the weights have columns. They have no
    gradient.
    """

    def __init__(self, weights: Sequence[Tensor]):
        ends = torch.tensor([weight.shape[1] for weight in weights]).cumsum(0).tolist()
        self._columns = {weight: slice(end - weight.shape[1], end) for weight, end in zip(weights, ends, strict=True)}
        self._gram: Any = None  # a tensor, after a refresh
        self._last: tuple[Tensor, Tensor] | None = None  # rows, and their Gram matrix before the last step

    def forget(self) -> None:
        """Forget the Gram matrix, because any weight may have changed."""
        self._gram = None

    @torch.no_grad()
    def refresh(self, *changed: Tensor) -> None:
        """Compute the Gram matrix of the current weights, of which only ``changed`` are new, and sample products."""
        if self._gram is None:
            changed, size = tuple(self._columns), max(column.stop for column in self._columns.values())
            self._gram = changed[0].new_empty(size, size)
        for pair in combinations_with_replacement(self._columns, 2):
            if any(weight is each for weight in pair for each in changed):
                block, (row, column) = pair[0].T @ pair[1], (self._columns[weight] for weight in pair)
                self._gram[row, column], self._gram[column, row] = block, block.T
        self._last = None
        normal = torch.randn(SAMPLED_ROWS, len(self._gram), device=self._gram.device)
        self._products = normal @ _factor(self._gram).T

    def sample(self, n_users: int) -> tuple["SampledRows", Tensor]:
        """A new noise of users, as rows of the sampled products, and their random signs, ``(B, 1)``."""
        if self._gram is None:
            self.refresh()
        row = torch.randint(SAMPLED_ROWS, (n_users,), device=self._products.device)
        return SampledRows(self, row), torch.randint(2, (n_users, 1), device=row.device) * 2.0 - 1

    def products(self, weight: Tensor) -> Tensor:
        """The sampled products with ``weight``, ``(SAMPLED_ROWS, H_k)``."""
        return self._products[:, self._columns[weight]]

    def squared_norms(self, left: Tensor, weight: Tensor, places: Places) -> Tensor:
        """The sums of squares of the rows of ``left @ weight.T``, ``(B,)``, for ``(B, H_k)``.

        Of ``weight``, only the rows that the last call had may have changed since then, and only rows with an entry at
        ``places`` have a gradient.
        """
        if self._gram is None:
            self.refresh()
        total = self._gram[self._columns[weight], self._columns[weight]]
        if self._last:
            row, before = self._last
            total += gram(weight.detach().index_select(0, row)) - before
        part = gram(places.with_rows_of(weight)[1])
        self._last = places.nonempty[0], part.detach()
        return (left * (left @ (total + (part - part.detach())))).sum(dim=-1)


@dataclass(frozen=True, eq=False)
class SampledRows:
    """One noise of a training step, of which only products exist: for each user a row of them, ``(B,)``."""

    layers: FirstLayers
    row: Tensor

    def through(self, weight: Tensor) -> Tensor:
        """The noise times ``weight`` ``(W, H)``, ``(B, H)``."""
        return self.layers.products(weight).index_select(0, self.row)

    def dense(self) -> Tensor:
        """Not available."""
        raise NotImplementedError("noise whose products are sampled has no entries")


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
            factor = _factor(gram(weight.detach()))
            self._kept[weight] = weight.detach().clone(), factor
        return factor

    def __deepcopy__(self, memo: dict) -> "Factors":
        return type(self)()


def _factor(covariance: Tensor) -> Tensor:
    """The lower Cholesky factor of a covariance, which rounding may have made slightly indefinite."""
    covariance = covariance.double()
    mean = covariance.diagonal().mean()
    for jitter in JITTERS:
        covariance.diagonal().add_(jitter * mean + torch.finfo(torch.float32).tiny)
        factor, failed = torch.linalg.cholesky_ex(covariance)
        if not failed:
            break
    return factor.float()


@dataclass(frozen=True, eq=False)
class UserRows:
    """The noise of users ``(B,)`` in one ``stream`` of ``source``; only its products can be computed."""

    source: RowNoise
    factor: Callable[[Tensor], Tensor]
    user: Tensor
    stream: int

    def through(self, weight: Tensor) -> Tensor:
        """The noise times ``weight`` ``(W, H)``, ``(B, H)``."""
        width, size = weight.shape
        if width <= size:
            return self.source(self.user, width, self.stream) @ weight
        return self.source(self.user, size, self.stream) @ self.factor(weight).T

    def dense(self) -> Tensor:
        """Not available; use ``GivenRows`` if entries of the noise are needed."""
        raise NotImplementedError("use GivenRows if single entries of the noise are needed")
