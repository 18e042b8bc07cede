"""One optimizer per training phase, and a context in which only the parameters of a phase learn."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from recbole_dgrm.maths.sparse import rows_of, sparse_rows

ROWS = 1024  # rows that are updated at once, so that they stay in the cache


def with_row_steps(adam: torch.optim.Adam) -> torch.optim.Adam:
    """The same optimizer with ``RowSteps``."""
    return type("RowAdam", (RowSteps, type(adam)), {})(adam.param_groups)


class RowSteps:
    """A mixin for Adam; of a parameter with a sparse gradient, only the rows that have a gradient are updated.

    In steps without a gradient for a row, dense Adam still moves the row, by its first moment and by weight decay. Here
    a row does not move then. It has no first moment, so that its step is as long as dense Adam's step and the movement
    after it together. Its next step includes the weight decay of the steps that it missed, and its second moment decays
    and grows as if it had made them. The second moment is the mean over the row, so that the state of the optimizer is
    small.
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Step all parameters that have a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None and parameter.grad.is_sparse:
                    self._step_rows(group, parameter, *rows_of(parameter.grad))
                    parameter.grad = None
        return super().step(closure)

    def _step_rows(self, group: dict[str, Any], parameter: nn.Parameter, rows: Tensor, gradient: Tensor) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["square"] = parameter.new_zeros(len(parameter), 1)
            state["last"] = parameter.new_zeros(len(parameter), 1)  # the last step of each row
        state["step"] += 1
        now, keep, decay = state["step"].item(), group["betas"][1], group["weight_decay"]
        for row, data in zip(rows.split(ROWS), gradient.split(ROWS), strict=True):
            weight, square = parameter.index_select(0, row), state["square"][row]
            count = now - state["last"][row]
            state["last"][row] = now
            square *= keep**count
            if decay:
                square += (1 - keep ** (count - 1)) * decay**2 * _mean_squares(weight)
            square += (1 - keep) * _mean_squares(torch.add(data, weight, alpha=decay))
            state["square"][row] = square
            rate = group["lr"] / (square / (1 - keep**now)).sqrt_().add_(group["eps"])
            weight *= (1 - rate * count * decay).clamp_(min=0)
            parameter.index_copy_(0, row, weight.addcmul_(rate, data, value=-1))


def _mean_squares(rows: Tensor) -> Tensor:
    return torch.linalg.vector_norm(rows, dim=1, keepdim=True).square_() / rows.shape[1]


class OptimizerGroup(dict[str, torch.optim.Optimizer]):
    """Optimizers by name, with the two optimizer methods that RecBole calls."""

    def state_dict(self) -> dict[str, Any]:
        """The state of each optimizer, by name."""
        return {name: optimizer.state_dict() for name, optimizer in self.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of each optimizer."""
        for name, optimizer in self.items():
            optimizer.load_state_dict(state[name])


def clip_gradients(parameters: Iterable[nn.Parameter], **limits: Any) -> None:
    """Call torch's ``clip_grad_norm_``, which takes no sparse gradients, with the values of these."""
    stand_ins = []
    for parameter in parameters:
        if (gradient := parameter.grad) is not None:
            if gradient.is_sparse:
                rows, values = rows_of(gradient)
                parameter.grad, gradient = sparse_rows(rows, values, gradient.shape), values
            stand_ins.append(torch.empty_like(gradient))
            stand_ins[-1].grad = gradient
    clip_grad_norm_(stand_ins, **limits)


@contextmanager
def only_learning(model: nn.Module, parameters: list[nn.Parameter]) -> Iterator[None]:
    """Within the block, only ``parameters`` of ``model`` require gradients."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    chosen = {id(parameter) for parameter in parameters}
    for parameter, learns in before:
        parameter.requires_grad_(learns and id(parameter) in chosen)
    try:
        yield
    finally:
        for parameter, learns in before:
            parameter.requires_grad_(learns)
