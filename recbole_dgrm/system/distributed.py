"""Several processes that train one model: who they are, what each has of a batch, how their parts become the whole.

Every process reads all data and walks the same batches in the same order, each of ``size()`` times ``train_batch_size``
users. Of a batch it computes a contiguous part. Losses are sums over users, so the gradients of the parts are summed,
and N processes take the step that one would take on the whole batch. Without a process group all this is one process.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.functional import dropout
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from recbole_dgrm.errors import LostProcess, OptionError

# The processes.

_ALONE: ContextVar[bool] = ContextVar("alone", default=False)


def size() -> int:
    """Number of processes."""
    together = dist.is_available() and dist.is_initialized() and not _ALONE.get()
    return dist.get_world_size() if together else 1


def rank() -> int:
    """Our number among them, from 0."""
    return dist.get_rank() if size() > 1 else 0


def first() -> bool:
    """Whether we are the process that writes files and speaks."""
    return rank() == 0


@contextmanager
def alone() -> Iterator[None]:
    """Inside, the first process is the only one: for what it does without the others."""
    before = _ALONE.set(True)
    try:
        yield
    finally:
        _ALONE.reset(before)


@contextmanager
def joined() -> Iterator[None]:
    """Inside, the processes that ``torchrun`` started (or anything else that sets its variables) are one group.

    All but the first are silent; an exception leaves each of them all the same.
    """
    local = int(os.environ.get("LOCAL_RANK", 0))
    if local < torch.cuda.device_count():
        torch.cuda.set_device(local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    with ExitStack() as stack:
        stack.callback(dist.destroy_process_group)
        if not first():
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        yield


def check_device(device: torch.device) -> None:
    """Refuse two processes on one GPU, which NCCL would not have.

    Raises:
        OptionError: this machine has fewer GPUs than processes.
    """
    local, devices = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if size() > 1 and device.type == "cuda" and local > devices:
        raise OptionError(
            f"{local} processes, but {devices} GPU(s) here; start torchrun with --nproc_per_node={devices}, "
            "or train with --device=cpu"
        )


@contextmanager
def ends_in_order(remedy: str) -> Iterator[None]:
    """Inside, the end of another process is an exception here, so that the record can say how the run ended.

    ``torchrun`` sends SIGTERM to those that are left. It is taken once: afterwards they have 30 seconds to write.

    Args:
        remedy: told to the user.

    Raises:
        LostProcess: another process has ended, or SIGTERM came.
    """
    if size() == 1:
        yield
        return

    def stop(*_: object) -> None:
        raise LostProcess(f"stopped by SIGTERM: torchrun, or another process of the run, has ended; {remedy}")

    signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "gloo/transport" in str(error):  # gloo has no type of its own
            raise LostProcess(f"another process of the run has ended; {remedy}") from error
        raise
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)


# What they tell each other. Through gloo, on the CPU: little, and plain tensors.


def total(value: float) -> float:
    """Sum of everybody's value."""
    if size() == 1:
        return value
    summed = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(summed)
    return summed.item()


def gathered(rows: Tensor) -> Tensor:
    """Everybody's rows ``(n, ...)``, in the order of the processes; n may differ."""
    if size() == 1:
        return rows
    count = torch.tensor([len(rows)])
    counts = [torch.empty_like(count) for _ in range(size())]
    dist.all_gather(counts, count)
    longest = int(max(counts))
    padded = torch.zeros(longest, *rows.shape[1:], dtype=rows.dtype)
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(size())]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)]).to(rows.device)


def of_first(value: float) -> float:
    """The first process's value."""
    return value if size() == 1 else gathered(torch.tensor([value], dtype=torch.float64))[0].item()


def text_of_first(make: Callable[[], str]) -> str:
    """What the first process, and it alone, makes."""
    if size() == 1:
        return make()
    text = make().encode() if first() else b""
    return bytes(gathered(torch.tensor(list(text), dtype=torch.uint8)).tolist()).decode()


# What each does.


@dataclass(frozen=True)
class Part:
    """Rows ``start`` to ``stop`` of ``total``."""

    start: int
    stop: int
    total: int

    @classmethod
    def own(cls, total: int) -> "Part":
        """Ours, of ``total`` rows in as many contiguous parts as there are processes.

        Fewer rows than processes are everybody's: each computes all of them, at a share of the weight. An empty part
        would let a process fall behind in random numbers.
        """
        if total < size():
            return cls(0, total, total)
        return cls(total * rank() // size(), total * (rank() + 1) // size(), total)

    @property
    def rows(self) -> slice:
        """As an index."""
        return slice(self.start, self.stop)

    def of_counts(self, count: Tensor) -> "Part":
        """The same part in terms of what its rows have: ``count`` ``(total,)`` each."""
        end = [0, *torch.cumsum(count, 0).tolist()]
        return Part(end[self.start], end[self.stop], end[-1])


class SharedDraws(TorchFunctionMode):
    """Inside, the random numbers of a part of a batch are those that it would get within the whole batch.

    Every process draws the numbers of the whole batch and keeps its part's, so that all generators stay in step.

    Args:
        users: the part, by users; for what is drawn by size, and for dropout.
        states: the part, by rows of a state; for what is drawn like a state.
    """

    BY_SIZE = (torch.rand, torch.randn, torch.randint)
    LIKE = (torch.rand_like, torch.randn_like, torch.randint_like)

    def __init__(self, users: Part, states: Part):
        super().__init__()
        self.users, self.states = users, states

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Draw for the whole batch where ``func`` draws; everything else is as it was."""
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
    def _cut(drawn: Tensor, wanted: int, part: Part) -> Tensor:
        if wanted != part.stop - part.start:
            raise RuntimeError(f"{wanted} rows were drawn for a part of {part}: a model draws by something else")
        return drawn[part.rows]


def _whole(like: Tensor, part: Part) -> Tensor:
    return like.new_empty(part.total, *like.shape[1:])


class _LossOfPart(nn.Module):
    """What DistributedDataParallel wants: parameters, and a ``forward`` that gives their loss.

    Attributes:
        current: the part that is computed at the moment.
    """

    current: Part | None = None

    def __init__(self, loss: Callable[[Any], Tensor], parameters: list[nn.Parameter], counts: Callable[[Any], Tensor]):
        super().__init__()
        self.learners = nn.ParameterList(parameters)
        self.loss, self.counts = loss, counts

    def forward(self, batch: Any) -> Tensor:
        part = Part.own(len(batch))
        _LossOfPart.current = part
        try:
            with SharedDraws(part, part.of_counts(self.counts(batch))):
                loss = self.loss(batch[part.rows])
        finally:
            _LossOfPart.current = None
        return loss / size() if part.total < size() else loss


def divided(
    loss: Callable[[Any], Tensor], parameters: list[nn.Parameter], counts: Callable[[Any], Tensor]
) -> Callable[[Any], Tensor]:
    """A loss over whole batches as its sum over our part of them; its gradients are summed over all processes.

    A gradient penalty differentiates by its points while the loss is computed; the parameters get their gradients in
    one backward pass, which is all that DistributedDataParallel needs.

    Args:
        loss: batch to a scalar, a sum over its users.
        parameters: those that learn from it, and no others.
        counts: batch to the rows of a state that belong to each of its users, ``(B,)``.
    """
    together = DistributedDataParallel(_LossOfPart(loss, parameters, counts))
    together.register_comm_hook(None, _sum)  # by itself it would average
    return together


def _sum(_: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    return dist.all_reduce(bucket.buffer(), async_op=True).get_future().then(lambda done: done.value()[0])


def of_whole_batch(*rows: Tensor) -> tuple[Tensor, ...]:
    """Rows of the part that is computed at the moment, of each tensor, to those of the whole batch."""
    part = _LossOfPart.current
    return rows if part is None or part.total < size() else tuple(gathered(each) for each in rows)
