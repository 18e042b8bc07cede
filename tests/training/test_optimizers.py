"""Row-wise Adam: what dense and sparse gradients do, and what a step that a row missed is worth."""

import pytest
import torch
from torch import nn

from recbole_dgrm.maths.sparse import rows_of, sparse_rows
from recbole_dgrm.training.optimizers import clip_gradients, with_row_steps

KEYS = {"lr": 0.01, "weight_decay": 0.3}
ROWS = torch.tensor([0, 2, 3])


def row_adam(parameters: list[nn.Parameter], **keys) -> torch.optim.Adam:
    return with_row_steps(torch.optim.Adam(parameters, **keys))


def start(size=(5, 1)) -> nn.Parameter:
    return nn.Parameter(torch.randn(size, generator=torch.Generator().manual_seed(1)))


def gradients(count: int, size=(3, 1)) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(2)
    return [torch.randn(size, generator=generator) for _ in range(count)]


def step(optimizer, parameter: nn.Parameter, gradient: torch.Tensor) -> None:
    parameter.grad = gradient
    optimizer.step()


def test_with_dense_gradients_it_is_adam():
    ours, theirs = start((5, 3)), start((5, 3))
    optimizers = row_adam([ours], **KEYS), torch.optim.Adam([theirs], **KEYS)
    for gradient in gradients(3, (5, 3)):
        for optimizer, parameter in zip(optimizers, (ours, theirs), strict=True):
            step(optimizer, parameter, gradient.clone())
    assert torch.equal(ours, theirs)


def test_rows_with_a_gradient_in_every_step_get_adam_without_first_moment_and_others_stay():
    before, ours, theirs = start(), start(), start()
    optimizer, other = row_adam([ours], **KEYS), torch.optim.Adam([theirs], **KEYS, betas=(0.0, 0.999))
    for gradient in gradients(20):
        rows = sparse_rows(ROWS, gradient, ours.shape)
        step(optimizer, ours, rows)
        step(other, theirs, rows.to_dense())
    torch.testing.assert_close(ours[ROWS], theirs[ROWS])
    assert torch.equal(ours[[1, 4]], before[[1, 4]])


@pytest.mark.parametrize("missed", [3, 30])
def test_a_row_gets_the_weight_decay_and_the_second_moment_of_the_steps_that_it_missed(missed):
    """Dense Adam decays the row in each of these steps; with a small learning rate the sum is nearly that at once."""
    keys = {"lr": 1e-4, "weight_decay": 0.3}
    ours, theirs = start(), start()
    optimizer, other = row_adam([ours], **keys), torch.optim.Adam([theirs], **keys, betas=(0.0, 0.999))
    elsewhere = sparse_rows(torch.tensor([4]), torch.ones(1, 1), ours.shape)
    *early, last = (sparse_rows(ROWS, gradient, ours.shape) for gradient in gradients(500))
    for number, gradient in enumerate([*early, *[elsewhere] * missed, last]):
        if number == len(early):
            before = ours[ROWS].clone()
        step(other, theirs, gradient.to_dense())
        step(optimizer, ours, gradient.clone())
    moved, decay = (theirs[ROWS] - before).abs().max().item(), 1e-4 * 0.3 * missed * before.abs().max().item()
    assert decay > 0.1 * moved
    torch.testing.assert_close(ours[ROWS], theirs[ROWS], rtol=0, atol=0.03 * moved)


def test_its_state_can_be_saved_and_loaded():
    whole, stopped = start((5, 3)), start((5, 3))
    given = [sparse_rows(ROWS, gradient, whole.shape) for gradient in gradients(4, (3, 3))]
    optimizer, early = row_adam([whole], **KEYS), row_adam([stopped], **KEYS)
    for gradient in given:
        step(optimizer, whole, gradient.clone())
    for gradient in given[:2]:
        step(early, stopped, gradient.clone())
    late = row_adam([stopped], **KEYS)
    late.load_state_dict(early.state_dict())
    for gradient in given[2:]:
        step(late, stopped, gradient.clone())
    assert torch.equal(whole, stopped)


def test_sparse_gradients_are_clipped_as_dense_ones():
    tables = start((5, 3)), start((5, 3))
    vectors = start((4,)), start((4,))
    twice = torch.tensor([2, 0, 2])  # the rows of a gradient may be in any order, and repeated
    gradient = sparse_rows(twice, torch.ones(3, 3), tables[0].shape)
    tables[0].grad, tables[1].grad = gradient, gradient.to_dense()
    for vector in vectors:
        vector.grad = torch.ones(4)
    clip_gradients([tables[0], vectors[0]], max_norm=1.0)
    nn.utils.clip_grad_norm_([tables[1], vectors[1]], max_norm=1.0)
    torch.testing.assert_close(tables[0].grad.to_dense(), tables[1].grad)
    torch.testing.assert_close(vectors[0].grad, vectors[1].grad)
    assert rows_of(tables[0].grad)[0].tolist() == [0, 2]
