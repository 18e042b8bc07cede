"""The conditional distributions of ``gibbs.py``: rows given those of the other side, and the prior given the rows.

Rows of one side are independent given the other side, so they are solved in blocks by batched Cholesky factors.
"""

from typing import NamedTuple

import numpy as np
import scipy
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from torch import Tensor

from recbole_dgrm.maths.sparse import Places, outer_products, sparse_product, symmetric
from recbole_dgrm.models.bmf.features import Features, product

ROWS = 4096  # rows that are solved at once


class Prior(NamedTuple):
    """The prior of rows, ``eta ~ N(mean + F coefficients, precision^-1)``.

    Attributes:
        mean, precision: mu ``(d,)`` and Lambda ``(d, d)``.
        coefficients: B, the coefficients of the features' components, ``(f, d)``.
        strength: the precision of the prior of the coefficients.
    """

    mean: NDArray[np.float64]
    precision: NDArray[np.float64]
    coefficients: NDArray[np.float64]
    strength: float

    def centre(self, features: Features | None) -> NDArray[np.float64]:
        """The prior means of rows, ``(n, d)``, or ``(d,)`` without features."""
        return self.mean if features is None else self.mean + features.times(self.coefficients)

    def redrawn(self, eta: NDArray, features: Features | None, rng: np.random.Generator) -> "Prior":
        """A new sample of the prior, given rows ``(n, d)`` and their features."""
        mean, precision = self._normal_wishart(eta - self.centre(features) + self.mean, rng)
        if features is None:
            return Prior(mean, precision, self.coefficients, self.strength)
        root, denominator = np.linalg.cholesky(precision), (features.size**2 + self.strength)[:, None]
        noise = product(rng.standard_normal(self.coefficients.shape), np.linalg.inv(root))
        centre = features.size[:, None] / denominator * product(features.left.T, eta - mean)
        coefficients = centre + noise / np.sqrt(denominator)
        strength = rng.gamma(1 + coefficients.size / 2) / (1 + np.square(product(coefficients, root)).sum() / 2)
        return Prior(mean, precision, coefficients, strength)

    def _normal_wishart(self, left: NDArray, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
        """A sample of mu and Lambda, given rows minus their features' part ``(n, d)``, and the coefficients."""
        (n, d), mean = left.shape, left.mean(axis=0)
        spread = np.eye(d) + product((left - mean).T, left - mean) + n / (n + 1) * np.outer(mean, mean)
        spread += self.strength * product(self.coefficients.T, self.coefficients)
        scale = np.linalg.inv(spread)
        drawn = scipy.stats.wishart.rvs(d + n + len(self.coefficients), (scale + scale.T) / 2, random_state=rng)
        precision = np.reshape(drawn, (d, d))
        root = np.linalg.cholesky(precision * (n + 1))
        return n / (n + 1) * mean + rng.standard_normal(d) @ np.linalg.inv(root), precision


class Design:
    """The ratings of the rows of one side, in blocks that are solved at once.

    Args:
        ratings: ``(n, n_columns)``.
    """

    def __init__(self, ratings: sp.csr_matrix):
        self.places, self.rated = places_of(ratings), np.diff(ratings.indptr) > 0
        self.rating = torch.as_tensor(ratings.data, dtype=torch.float32)
        self._blocks = [places_of(ratings[start : start + ROWS]) for start in range(0, ratings.shape[0], ROWS)]

    def without(self, other: Tensor, level: float) -> Tensor:
        """The ratings minus ``level`` and the biases of the ``other`` side, ``(nnz,)``."""
        return self.rating - level - self.places.column_values(other[:, -1].contiguous())

    def posterior(
        self, table: Tensor, target: Tensor, prior: Prior, features: Features | None, alpha: float, noise: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The posterior mean and a sample of rows ``(n, d)``, in the regression ``target ~ row . table[column]``.

        Args:
            table: the regressors, ``(n_columns, d)``.
            target: the observation for each rating, ``(nnz,)``, with the precision ``alpha``.
            prior, features: those of the rows.
            noise: standard normals, ``(n, d)``.
        """
        rows, start, first = noise.new_empty(2, *noise.shape), 0, 0
        precision = torch.as_tensor(prior.precision, dtype=torch.float32)
        pull = torch.as_tensor(prior.centre(features), dtype=torch.float32).expand(noise.shape) @ precision
        products = outer_products(table)
        for places in self._blocks:
            here, part = slice(start, start + places.n_rows), target[first : first + len(places.row)]
            root = torch.linalg.cholesky(alpha * grams(places, products, table.shape[1]) + precision)
            right = alpha * sparse_product(places, part, table) + pull[here]
            half = torch.linalg.solve_triangular(root, right.unsqueeze(-1), upper=False)
            both = torch.cat([half, half + noise[here].unsqueeze(-1)], dim=-1)
            rows[:, here] = torch.linalg.solve_triangular(root.mT, both, upper=True).permute(2, 0, 1)
            start, first = here.stop, first + len(part)
        return rows[0], rows[1]


def places_of(ratings: sp.csr_matrix) -> Places:
    """The places of the entries of a sparse matrix."""
    row, column = np.repeat(np.arange(ratings.shape[0]), np.diff(ratings.indptr)), ratings.indices.astype(np.int64)
    n_rows, n_columns = ratings.shape
    return Places(n_rows, n_columns, torch.from_numpy(row), torch.from_numpy(column))


def grams(places: Places, products: Tensor, size: int) -> Tensor:
    """For each row of ``places`` the sum over its columns of ``t t'``, from ``outer_products``: ``(n, size, size)``."""
    return symmetric(sparse_product(places, products.new_ones(len(places.row)), products), size)


def posterior_variances(places: Places, asked: Places, table: Tensor, precision: Tensor, alpha: float) -> Tensor:
    """The posterior variances ``(n,)`` of ``row . table[column]`` at the places ``asked``.

    Args:
        places: the places of the ratings from which the rows ``(B, d)`` are estimated.
        table, precision, alpha: as in ``Design.posterior``.
    """
    root, parts = torch.linalg.cholesky(alpha * grams(places, outer_products(table), table.shape[1]) + precision), []
    for row, column in zip(asked.row.split(ROWS), asked.column.split(ROWS), strict=True):
        half = torch.linalg.solve_triangular(root[row], table[column].unsqueeze(-1), upper=False)
        parts.append(half.squeeze(-1).square().sum(-1))
    return torch.cat(parts)
