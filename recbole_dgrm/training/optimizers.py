"""One optimizer per training phase, and a context in which only the parameters of a phase learn."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class OptimizerGroup(dict[str, torch.optim.Optimizer]):
    """Optimizers by name, with the two optimizer methods that RecBole calls."""

    def state_dict(self) -> dict[str, Any]:
        """The state of each optimizer, by name."""
        return {name: optimizer.state_dict() for name, optimizer in self.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the state of each optimizer."""
        for name, optimizer in self.items():
            optimizer.load_state_dict(state[name])


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
