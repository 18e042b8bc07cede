"""Products of few entries against dense ones, in values and in gradients."""

import pytest
import torch
from torch import Tensor

from recbole_dgrm.maths.layers import SparseLinear
from recbole_dgrm.maths.sparse import Places, outer_products, products_at, sparse_product, squared_norms, symmetric

ROWS, COLUMNS, SIZE = 6, 9, 4
CASES = {
    "each row has some": [(0, 1), (0, 4), (1, 0), (2, 8), (3, 3), (3, 5), (4, 2), (5, 7)],
    "empty rows at the start, between and at the end": [(1, 2), (1, 8), (4, 0)],
    "unsorted columns": [(0, 8), (0, 1), (0, 5), (2, 7), (2, 0), (5, 3), (5, 2)],
    "duplicates": [(0, 3), (0, 3), (1, 2), (1, 7), (1, 2), (5, 8), (5, 8), (5, 8)],
    "one column only": [(0, 4), (2, 4), (3, 4)],
    "all of them": [(row, column) for row in range(ROWS) for column in range(COLUMNS)],
    "nothing": [],
}
every_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def places_of(entries: list[tuple[int, int]], n_rows: int = ROWS, n_columns: int = COLUMNS) -> Places:
    row, column = torch.tensor(entries, dtype=torch.long).reshape(-1, 2).T
    return Places(n_rows, n_columns, row.contiguous(), column.contiguous())


def selection(places: Places) -> Tensor:
    """The matrices ``(n, n_rows, n_columns)`` that are 1 at one place each: whatever is made of these is dense."""
    one = torch.zeros(len(places.row), places.n_rows, places.n_columns)
    one[torch.arange(len(places.row)), places.row, places.column] = 1
    return one


def dense_product(places: Places, value: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("nrc,n,ch->rh", selection(places), value, weight)


def dense_entries(places: Places, left: Tensor, right: Tensor) -> Tensor:
    return torch.einsum("nrc,rh,ch->n", selection(places), left, right)


def assert_alike(function, dense, places: Places, *given: Tensor, tolerance: float = 1e-5) -> None:
    """Values, and gradients by both tensors of a loss that weighs all values differently, are those of ``dense``."""
    given = tuple(each.detach().requires_grad_() for each in given)
    found, expected = function(places, *given), dense(places, *given)
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
    above = torch.randn_like(expected)
    for ours, theirs in zip(*(torch.autograd.grad(each, given, above) for each in (found, expected)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@every_case
def test_products_of_whole_tensors_and_of_parts_are_those_of_dense_ones(case):
    places = places_of(CASES[case])
    value, wide = torch.randn(2 * len(places.row))[::2], torch.randn(SIZE, 2 * COLUMNS)
    for first, left, right in (
        (value.clone(), torch.randn(ROWS, SIZE), torch.randn(COLUMNS, SIZE)),
        (value, torch.randn(SIZE, ROWS).T, wide[:, :COLUMNS].T),
    ):
        assert_alike(sparse_product, dense_product, places, first, right)
        assert_alike(products_at, dense_entries, places, left, right)


@every_case
def test_sums_spread_dense_and_the_order_by_column(case):
    places = places_of(CASES[case])
    value, by_row = torch.randn(len(places.row)), torch.randn(ROWS, 1)
    torch.testing.assert_close(places.sums(value), torch.einsum("nrc,n->r", selection(places), value).unsqueeze(-1))
    assert torch.equal(places.spread(by_row), by_row[places.row, 0])
    assert torch.equal(places.spread(by_row[:1]), by_row[0].expand(len(places.row)))
    if case != "duplicates":
        assert torch.equal(places.dense(value), torch.einsum("nrc,n->rc", selection(places), value))
    order, row, start = places.by_column
    assert places.row_start.tolist() == [int((places.row < each).sum()) for each in range(ROWS + 1)]
    assert start.tolist() == [int((places.column < each).sum()) for each in range(COLUMNS + 1)]
    assert torch.equal(row, places.row[order])
    assert sorted(order.tolist()) == list(range(len(places.row)))


@pytest.mark.parametrize("n_rows", [0, 1, 5, 6, 40])
def test_squared_norms_in_both_forms(n_rows):
    left, right = torch.randn(n_rows, 9, requires_grad=True), torch.randn(30, 9, requires_grad=True)
    found, expected = squared_norms(left, right), (left @ right.T).square().sum(dim=-1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    above = torch.randn(n_rows)
    for ours, theirs in zip(
        *(torch.autograd.grad(each, (left, right), above) for each in (found, expected)), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


def test_a_sparse_layer_is_a_linear_one_over_the_dense_rows():
    torch.manual_seed(5)
    linear = torch.nn.Linear(COLUMNS, SIZE)
    torch.manual_seed(5)
    layer, places = SparseLinear(COLUMNS, SIZE), places_of(CASES["unsorted columns"])
    value = torch.randn(len(places.row))
    torch.testing.assert_close(layer(places, value), linear(places.dense(value)), rtol=1e-5, atol=1e-5)
    assert layer.weight.is_contiguous()


def test_sums_of_triangles_are_gram_matrices():
    table = torch.randn(ROWS, SIZE)
    gram = symmetric(outer_products(table).sum(0, keepdim=True), SIZE)
    torch.testing.assert_close(gram, (table.T @ table).unsqueeze(0))
