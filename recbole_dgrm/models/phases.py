"""The turns of a training epoch, as models declare them and trainers walk them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Phase:
    """One turn of an epoch: who learns, from which loss, for how many passes over the users.

    Attributes:
        name: shown beside its loss.
        parameters: the only ones that require gradients, and are stepped, in this phase.
        loss: batch to a scalar, a sum over the rows of the batch.
        repeat: passes over the loader.
        learning_rate: of this phase's optimizer.
        after_step: called after each step, for example to clip weights.
        from_epoch: the phase rests before this epoch.
    """

    name: str
    parameters: list[nn.Parameter]
    loss: Callable[[Any], Tensor]
    repeat: int
    learning_rate: float
    after_step: Callable[[], None] | None = None
    from_epoch: int = 0


class OptimizerGroup(dict[str, torch.optim.Optimizer]):
    """Name to optimizer, with the two methods that RecBole asks of an optimizer."""

    def state_dict(self) -> dict[str, Any]:
        """The state of each, by name."""
        return {name: optimizer.state_dict() for name, optimizer in self.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Give each its state back."""
        for name, optimizer in self.items():
            optimizer.load_state_dict(state[name])


@contextmanager
def only_learning(model: nn.Module, parameters: list[nn.Parameter]) -> Iterator[None]:
    """Inside, only ``parameters`` require gradients; outside, those that did before."""
    before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
    chosen = {id(parameter) for parameter in parameters}
    for parameter, learns in before:
        parameter.requires_grad_(learns and id(parameter) in chosen)
    try:
        yield
    finally:
        for parameter, learns in before:
            parameter.requires_grad_(learns)
