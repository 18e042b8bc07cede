"""The turns of a training epoch, as models declare them and trainers walk them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

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
        second_order: the network whose gradient the loss differentiates again, as a gradient penalty does; it is never
            compiled, because ``torch.compile`` has no second derivative.
    """

    name: str
    parameters: list[nn.Parameter]
    loss: Callable[[Any], Tensor]
    repeat: int
    learning_rate: float
    after_step: Callable[[], None] | None = None
    from_epoch: int = 0
    second_order: nn.Module | None = None
