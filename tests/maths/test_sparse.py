"""Products of few entries against dense ones, in values and in gradients."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from recbole_dgrm.maths.layers import SparseLinear
from recbole_dgrm.maths.sparse import Places, products_at, sparse_product, squared_norms

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
def test_sparse_rows_times_a_matrix(case):
    places = places_of(CASES[case])
    assert_alike(sparse_product, dense_product, places, torch.randn(len(places.row)), torch.randn(COLUMNS, SIZE))


@every_case
def test_entries_of_a_product(case):
    assert_alike(
        products_at, dense_entries, places_of(CASES[case]), torch.randn(ROWS, SIZE), torch.randn(COLUMNS, SIZE)
    )


@given(
    st.integers(1, 5).flatmap(
        lambda n_rows: st.integers(1, 5).flatmap(
            lambda n_columns: st.tuples(
                st.just((n_rows, n_columns)),
                st.lists(st.tuples(st.integers(0, n_rows - 1), st.integers(0, n_columns - 1)), max_size=12),
            )
        )
    ),
    st.integers(1, 3),
)
def test_any_places_sorted_by_row(drawn, size):
    (n_rows, n_columns), entries = drawn
    places = places_of(sorted(entries, key=lambda entry: entry[0]), n_rows, n_columns)
    assert_alike(sparse_product, dense_product, places, torch.randn(len(entries)), torch.randn(n_columns, size))
    assert_alike(products_at, dense_entries, places, torch.randn(n_rows, size), torch.randn(n_columns, size))


@pytest.mark.parametrize("wanted", [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize("function", [sparse_product, products_at])
def test_what_needs_no_gradient_gets_none(function, wanted):
    places = places_of(CASES["unsorted columns"])
    first = torch.randn(len(places.row)) if function is sparse_product else torch.randn(ROWS, SIZE)
    given = [
        tensor.requires_grad_(need) for tensor, need in zip((first, torch.randn(COLUMNS, SIZE)), wanted, strict=True)
    ]
    found = function(places, *given)
    assert found.requires_grad == any(wanted)
    if found.requires_grad:
        found.sum().backward()
    assert [tensor.grad is not None for tensor in given] == list(wanted)


@every_case
def test_parts_of_tensors_and_transposed_ones_do_as_well(case):
    places = places_of(CASES[case])
    value, wide = torch.randn(2 * len(places.row))[::2], torch.randn(SIZE, 2 * COLUMNS)
    assert_alike(sparse_product, dense_product, places, value, wide.T[COLUMNS:])
    assert_alike(products_at, dense_entries, places, torch.randn(SIZE, ROWS).T, wide[:, :COLUMNS].T)


@every_case
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_precision_is_that_of_float32_whatever_autocast_says(case, kind):
    places = places_of(CASES[case])
    value, left, right = torch.randn(len(places.row)), torch.randn(ROWS, SIZE), torch.randn(COLUMNS, SIZE)
    value, left = value.to(kind), left.to(kind)  # what autocast gives a layer after another one
    product, entries = sparse_product(places, value, right), products_at(places, left, right)
    with torch.autocast("cpu", torch.bfloat16):
        reduced = sparse_product(places, value, right), products_at(places, left, right)
    for found, expected in zip(reduced, (product, entries), strict=True):
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)
    torch.testing.assert_close(product, dense_product(places, value.float(), right), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(entries, dense_entries(places, left.float(), right), rtol=1e-5, atol=1e-5)


@every_case
@pytest.mark.parametrize("function", [sparse_product, products_at])
def test_gradients_have_the_kind_of_what_was_given(case, function):
    places = places_of(CASES[case])
    first = torch.randn(len(places.row)) if function is sparse_product else torch.randn(ROWS, SIZE)
    reduced, weight = first.bfloat16().requires_grad_(), torch.randn(COLUMNS, SIZE, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = function(places, reduced, weight)
    found.square().sum().backward()
    assert (reduced.grad.dtype, weight.grad.dtype) == (torch.bfloat16, torch.float32)
    exact, same = reduced.detach().float().requires_grad_(), weight.detach().requires_grad_()
    function(places, exact, same).square().sum().backward()
    torch.testing.assert_close(reduced.grad, exact.grad.bfloat16())
    torch.testing.assert_close(weight.grad, same.grad)


@every_case
def test_sums_spread_and_dense(case):
    places = places_of(CASES[case])
    value, by_row = torch.randn(len(places.row)), torch.randn(ROWS, 1)
    torch.testing.assert_close(places.sums(value), torch.einsum("nrc,n->r", selection(places), value).unsqueeze(-1))
    assert torch.equal(places.spread(by_row), by_row[places.row, 0])
    assert torch.equal(places.spread(by_row[:1]), by_row[0].expand(len(places.row)))
    if case != "duplicates":
        assert torch.equal(places.dense(value), torch.einsum("nrc,n->rc", selection(places), value))


@every_case
def test_entries_are_found_by_row_and_by_column(case):
    places = places_of(CASES[case])
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


@pytest.mark.parametrize("n_rows", [5, 40])
def test_squared_norms_are_those_of_float32_whatever_autocast_says(n_rows):
    left, right = torch.randn(n_rows, 9).bfloat16(), torch.randn(30, 9)
    with torch.autocast("cpu", torch.bfloat16):
        found = squared_norms(left, right)
    assert torch.equal(found, squared_norms(left.float(), right))


def test_the_form_of_squared_norms_follows_the_number_of_rows():
    largest = []

    class Watched(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            result = func(*args, **(kwargs or {}))
            if func is Tensor.matmul:
                largest.append(result.numel())
            return result

    for n_rows, most in [(5, 5 * 1000), (6, 9 * 9)]:  # the product for few rows, the Gram matrix for more
        left, right = torch.randn(n_rows, 9), torch.randn(1000, 9)
        with Watched():
            squared_norms(left, right)
        assert max(largest) == most
        largest.clear()


def test_a_sparse_layer_is_a_linear_one_over_the_dense_rows():
    layer, places = SparseLinear(COLUMNS, SIZE), places_of(CASES["unsorted columns"])
    value = torch.randn(len(places.row))
    expected = torch.nn.functional.linear(places.dense(value), layer.weight.T, layer.bias)
    torch.testing.assert_close(layer(places, value), expected, rtol=1e-5, atol=1e-5)
    assert layer.weight.is_contiguous()


def test_a_sparse_layer_is_drawn_as_a_linear_one():
    torch.manual_seed(5)
    linear = torch.nn.Linear(COLUMNS, SIZE)
    torch.manual_seed(5)
    sparse = SparseLinear(COLUMNS, SIZE)
    assert torch.equal(sparse.weight, linear.weight.T)
    assert torch.equal(sparse.bias, linear.bias)
