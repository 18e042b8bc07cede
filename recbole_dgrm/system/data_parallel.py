"""Data-parallel training whose step equals that of one process on the whole batch.

Every process reads all data and walks the same batches in the same order, each of ``world_size`` times
``train_batch_size`` users, and computes a contiguous share of each batch. Losses are sums over users, so the gradients
of the shares are summed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from recbole_dgrm.system import distributed


@dataclass(frozen=True)
class Share:
    """The rows ``start`` to ``stop`` of ``total``."""

    start: int
    stop: int
    total: int

    @property
    def rows(self) -> slice:
        """The share as an index."""
        return slice(self.start, self.stop)

    def of_counts(self, count: Tensor) -> "Share":
        """The same share, counted in what the rows contain: row ``i`` contains ``count[i]``, ``(total,)``."""
        end = [0, *torch.cumsum(count, 0).tolist()]
        return Share(end[self.start], end[self.stop], end[-1])


def share_of_rank(total: int) -> Share:
    """This rank's contiguous share of ``total`` rows.

    If there are fewer rows than processes, each process computes all of them and weighs the loss accordingly: with an
    empty share a process would draw fewer random numbers than the others.
    """
    size, rank = distributed.world_size(), distributed.rank()
    return Share(0, total, total) if total < size else Share(total * rank // size, total * (rank + 1) // size, total)


class SharedDraws(TorchFunctionMode):
    """Within the block, a share of a batch gets the random numbers that it would get within the whole batch.

    Every process draws the numbers of the whole batch and keeps those of its share, so all generators stay in step.

    Args:
        users: the share in users, for tensors drawn by size and for dropout.
        states: the share in rows of a state, for tensors drawn like a state.
    """

    BY_SIZE = (torch.rand, torch.randn, torch.randint)
    LIKE = (torch.rand_like, torch.randn_like, torch.randint_like)

    def __init__(self, users: Share, states: Share):
        super().__init__()
        self.users, self.states = users, states

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Draw for the whole batch if ``func`` draws; call it unchanged otherwise."""
        kwargs = kwargs or {}
        if func in self.LIKE:
            like, *rest = args
            return self._cut(func(_whole(like, self.states), *rest, **kwargs), like.shape[0], self.states)
        if func in self.BY_SIZE:
            *rest, shape = args if isinstance(args[-1], (tuple, list, torch.Size)) else (args,)
            whole = (self.users.total, *shape[1:])
            return self._cut(func(*rest, whole, **kwargs), shape[0], self.users)
        if func is torch.multinomial:
            drawn = func(*args, **(kwargs | {"num_samples": self.users.total}))
            return self._cut(drawn, kwargs["num_samples"], self.users)
        if func is dropout and (args[2] if len(args) > 2 else kwargs.get("training", True)):
            value, *rest = args
            kept = func(torch.ones_like(_whole(value, self.users)), *rest, **kwargs)
            return value * self._cut(kept, value.shape[0], self.users)
        return func(*args, **kwargs)

    @staticmethod
    def _cut(drawn: Tensor, wanted: int, share: Share) -> Tensor:
        if wanted != share.stop - share.start:
            raise RuntimeError(f"{wanted} rows were drawn for {share}: the model draws neither by user nor by state")
        return drawn[share.rows]


def _whole(like: Tensor, share: Share) -> Tensor:
    return like.new_empty(share.total, *like.shape[1:])


class _LossOfShare(nn.Module):
    """The loss of this rank's share as a module, which is what DistributedDataParallel wraps.

    Attributes:
        current: the share that is being computed.
    """

    current: Share | None = None

    def __init__(self, loss: Callable[[Any], Tensor], parameters: list[nn.Parameter], counts: Callable[[Any], Tensor]):
        super().__init__()
        self.learners = nn.ParameterList(parameters)
        self.loss, self.counts = loss, counts

    def forward(self, batch: Any) -> Tensor:
        share = _LossOfShare.current = share_of_rank(len(batch))
        try:
            with SharedDraws(share, share.of_counts(self.counts(batch))):
                loss = self.loss(batch[share.rows])
        finally:
            _LossOfShare.current = None
        return loss / distributed.world_size() if share.total < distributed.world_size() else loss


def data_parallel(
    loss: Callable[[Any], Tensor], parameters: list[nn.Parameter], counts: Callable[[Any], Tensor]
) -> Callable[[Any], Tensor]:
    """Turn a loss over whole batches into one over this rank's shares, with gradients summed over all processes.

    A gradient penalty differentiates with respect to its points while the loss is computed. The parameters still get
    their gradients in one backward pass, which is all that DistributedDataParallel needs.

    Args:
        loss: maps a batch to a scalar, a sum over its users.
        parameters: those that learn from the loss, and no others.
        counts: maps a batch to the number of state rows of each user, ``(B,)``.
    """
    together = DistributedDataParallel(_LossOfShare(loss, parameters, counts))
    together.register_comm_hook(None, _sum)  # by itself it would average
    return together


def _sum(_: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    return dist.all_reduce(bucket.buffer(), async_op=True).get_future().then(lambda done: done.value()[0])


def whole_batch(n_users: int) -> int:
    """The number of users of the whole batch, where ``n_users`` are those of the share that is being computed."""
    share = _LossOfShare.current
    return n_users if share is None else share.total


def gather_batch(*rows: Tensor) -> tuple[Tensor, ...]:
    """For each tensor, the rows of the whole batch, where ``rows`` are those of the share that is being computed."""
    share = _LossOfShare.current
    if share is None or share.total < distributed.world_size():
        return rows
    return tuple(distributed.all_gather_rows(each) for each in rows)
