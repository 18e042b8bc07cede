"""Sparse products: sparse rows times a dense matrix, and single entries of a product of two dense matrices.

The gradient of each is computed with the other, so the cost of forward and backward passes is proportional to the
number of entries, and no tensor of rows x columns exists. The kernels are torch's: ``embedding_bag`` for sparse rows,
``sampled_addmm`` for single entries. Both are differentiable once.
"""

import warnings
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor
from torch.nn.functional import embedding, embedding_bag

# torch warns at the first such tensor of a process; it is made here, so that users do not see the warning.
with warnings.catch_warnings(action="ignore"):
    torch.sparse_csr_tensor([0], [], [], (0, 0), dtype=torch.float32, device="cpu", check_invariants=False)


@dataclass(frozen=True, eq=False)
class Places:
    """Places of single entries in a matrix, sorted by row; equal only if they are the same object.

    Attributes:
        n_rows, n_columns: the size of the matrix.
        row, column: ``(n,)`` each.
        row_gradients: whether the gradient of a product with respect to a table ``(n_columns, H)`` is a sparse tensor,
            which has only the rows with an entry here.
    """

    n_rows: int
    n_columns: int
    row: Tensor
    column: Tensor
    row_gradients: bool = False
    _tables: dict[Tensor, Tensor] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def row_start(self) -> Tensor:
        """The index of the first entry of each row, and the number of entries, ``(n_rows + 1,)``."""
        return _starts(self.row, self.n_rows)

    @cached_property
    def by_column(self) -> tuple[Tensor, Tensor, Tensor]:
        """The order of the entries by column, their rows in this order, both ``(n,)``, and the starts of columns."""
        if self.column.is_cpu:  # a counting sort, which takes a tenth of the time of argsort
            number, size = np.arange(len(self.column)), (self.n_rows, self.n_columns)
            matrix = csr_array((number, self.column.numpy(), self.row_start.numpy()), shape=size).tocsc()
            order, row, start = (torch.from_numpy(each) for each in (matrix.data, matrix.indices, matrix.indptr))
            return order, row, start
        order = torch.argsort(self.column, stable=True)
        return order, self.row[order], _starts(self.column[order], self.n_columns)

    @cached_property
    def nonempty(self) -> tuple[Tensor, "Places"]:
        """The columns with an entry, ``(k,)``, and the places in the matrix ``(n_rows, k)`` of these columns."""
        has_entry = torch.zeros(self.n_columns, dtype=torch.bool, device=self.column.device)
        has_entry[self.column] = True
        column = torch.nonzero(has_entry).squeeze(-1)
        number = torch.cumsum(has_entry, 0) - 1
        return column, Places(self.n_rows, len(column), self.row, number.index_select(0, self.column))

    def with_rows_of(self, table: Tensor) -> tuple["Places", Tensor]:
        """Places and a table with the same products; if its gradient is to be sparse, only the rows with an entry."""
        if not (self.row_gradients and table.requires_grad and torch.is_grad_enabled()):
            return self, table
        column, places = self.nonempty
        if table not in self._tables:  # selected once, so that the gradients of all products are summed before
            self._tables[table] = _SelectedRows.apply(table, column)
        return places, self._tables[table]

    def spread(self, value: Tensor) -> Tensor:
        """The row's value, of ``(n_rows, 1)`` or ``(1, 1)``, for each entry, ``(n,)``."""
        return value.expand(self.n_rows, 1).squeeze(-1).index_select(0, self.row)

    def column_values(self, value: Tensor) -> Tensor:
        """A value per column, ``(n_columns,)``, for each entry, ``(n,)``; the sums of its gradient have one order."""
        return embedding(self.column, value.unsqueeze(-1)).squeeze(-1)

    def sums(self, value: Tensor) -> Tensor:
        """The sum of the entries ``(n,)`` of each row, ``(n_rows, 1)``."""
        return value.new_zeros(self.n_rows).index_add(0, self.row, value).unsqueeze(-1)

    def dense(self, value: Tensor) -> Tensor:
        """The matrix ``(n_rows, n_columns)`` with the entries ``(n,)``, 0 elsewhere."""
        matrix = value.new_zeros(self.n_rows, self.n_columns)
        matrix[self.row, self.column] = value
        return matrix


def sparse_rows(row: Tensor, value: Tensor, size: torch.Size) -> Tensor:
    """A sparse tensor with the rows ``value`` at ``row``, and 0 elsewhere."""
    return torch.sparse_coo_tensor(row[None], value, size, check_invariants=False)


def rows_of(sparse: Tensor) -> tuple[Tensor, Tensor]:
    """The rows of a sparse tensor that has any, each once, and their values; the reverse of ``sparse_rows``."""
    if not (torch.diff(sparse._indices()[0]) > 0).all():  # autograd forgets that a gradient is coalesced
        sparse = sparse.coalesce()
    return sparse._indices()[0], sparse._values()


def sparse_product(places: Places, value: Tensor, weight: Tensor) -> Tensor:
    """Sparse rows, entries ``(n,)`` at ``places``, times ``weight`` ``(n_columns, H)``: ``(n_rows, H)``."""
    places, weight = places.with_rows_of(weight)
    return _SparseProduct.apply(places, value, weight)


def products_at(places: Places, left: Tensor, right: Tensor) -> Tensor:
    """The entries ``(n,)`` at ``places`` of ``left @ right.T``, for ``(n_rows, H)`` and ``(n_columns, H)``."""
    places, right = places.with_rows_of(right)
    return _ProductsAt.apply(places, left, right)


def outer_products(table: Tensor) -> Tensor:
    """The upper triangles of ``t t'`` for the rows ``t`` of ``table`` ``(n, d)``: ``(n, d * (d + 1) / 2)``."""
    row, column = torch.triu_indices(table.shape[1], table.shape[1], device=table.device)
    return table.index_select(1, row) * table.index_select(1, column)


def symmetric(triangle: Tensor, size: int) -> Tensor:
    """The symmetric matrices ``(n, size, size)`` with these upper triangles, ``(n, size * (size + 1) / 2)``."""
    row, column = torch.triu_indices(size, size, device=triangle.device)
    place = row.new_empty(size, size)
    place[row, column] = place[column, row] = torch.arange(len(row), device=row.device)
    return triangle.index_select(1, place.flatten()).unflatten(1, place.shape)


def squared_norms(left: Tensor, right: Tensor) -> Tensor:
    """The sums of squares of the rows of ``left @ right.T``, ``(B,)``, for ``(B, H)`` and ``(I, H)``.

    They are computed from the Gram matrix of ``right``, or with few rows from the product, which is then not larger
    than ``right``.
    """
    if 3 * len(left) < 2 * right.shape[1]:
        return (left @ right.T).square().sum(dim=-1)
    return (left * (left @ gram(right))).sum(dim=-1)


def gram(right: Tensor) -> Tensor:
    """The Gram matrix ``right.T @ right``."""
    return _Gram.apply(right)


class _Gram(torch.autograd.Function):
    """``right.T @ right`` with one product in the backward pass instead of two."""

    @staticmethod
    def forward(ctx: Any, right: Tensor) -> Tensor:
        ctx.save_for_backward(right)
        return right.T @ right

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (right,) = ctx.saved_tensors
        return right @ (grads[0] + grads[0].T)


class _SelectedRows(torch.autograd.Function):
    """Different rows of a table; its gradient is sparse."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, row: Tensor) -> Tensor:
        ctx.size = table.shape
        ctx.save_for_backward(row)
        return table.index_select(0, row)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (row,) = ctx.saved_tensors
        return sparse_rows(row, grads[0], ctx.size), None


class _SparseProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, places: Places, value: Tensor, weight: Tensor) -> Tensor:
        ctx.places = places
        ctx.save_for_backward(value, weight)
        return _bags(places.column, places.row_start, value, weight)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        (grad,), places = grads, ctx.places
        value, weight = ctx.saved_tensors
        by_value = _sampled(places, grad, weight) if ctx.needs_input_grad[1] else None
        return None, by_value, _by_column(places, value, grad) if ctx.needs_input_grad[2] else None


class _ProductsAt(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, places: Places, left: Tensor, right: Tensor) -> Tensor:
        ctx.places = places
        ctx.save_for_backward(left, right)
        return _sampled(places, left, right)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, Tensor | None, Tensor | None]:
        (grad,), places = grads, ctx.places
        left, right = ctx.saved_tensors
        by_left = _bags(places.column, places.row_start, grad, right) if ctx.needs_input_grad[1] else None
        by_right = _by_column(places, grad, left) if ctx.needs_input_grad[2] else None
        return None, by_left, by_right


def _starts(index: Tensor, size: int) -> Tensor:
    return torch.searchsorted(index, torch.arange(size + 1, device=index.device))


def _bags(index: Tensor, start: Tensor, value: Tensor, table: Tensor) -> Tensor:
    """For each bag of entries the weighted sum of the rows ``index`` of ``table``, with the weights ``value``."""
    weights = value.detach()
    return embedding_bag(index, table.detach(), start, mode="sum", per_sample_weights=weights, include_last_offset=True)


def _by_column(places: Places, value: Tensor, table: Tensor) -> Tensor:
    """The transposed sparse matrix times ``table`` ``(n_rows, H)``: ``(n_columns, H)``."""
    order, row, start = places.by_column
    return _bags(row, start, value.index_select(0, order), table)


def _sampled(places: Places, left: Tensor, right: Tensor) -> Tensor:
    size = places.n_rows, places.n_columns
    if not len(places.row):
        return left.new_zeros(0)
    if len(places.row) > size[0] * size[1]:  # repeated places; the kernel takes at most rows x columns entries
        return (left @ right.T)[places.row, places.column]
    nothing = left.new_zeros(len(places.row))
    pattern = torch.sparse_csr_tensor(places.row_start, places.column, nothing, size, check_invariants=False)
    return torch.sparse.sampled_addmm(pattern, left, right.T, beta=0.0).values()
