"""The processes that train one model together, and the small messages they send each other.

Without a process group there is one process, and every function here works for it as well.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from contextvars import ContextVar

import torch
import torch.distributed as dist
from torch import Tensor

from recbole_dgrm.errors import LostProcess, OptionError

_MAIN_PROCESS_ONLY: ContextVar[bool] = ContextVar("main_process_only", default=False)


def world_size() -> int:
    """Number of processes."""
    together = dist.is_available() and dist.is_initialized() and not _MAIN_PROCESS_ONLY.get()
    return dist.get_world_size() if together else 1


def rank() -> int:
    """Number of this process among them, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def is_main_process() -> bool:
    """Whether this is the process that writes files and prints."""
    return rank() == 0


@contextmanager
def main_process_only() -> Iterator[None]:
    """Within the block, the main process counts as the only one, so that it can work without the others."""
    before = _MAIN_PROCESS_ONLY.set(True)
    try:
        yield
    finally:
        _MAIN_PROCESS_ONLY.reset(before)


@contextmanager
def process_group() -> Iterator[None]:
    """Within the block, the processes that ``torchrun``, or whatever sets its variables, has started form one group.

    All but the main process print nothing; an exception leaves each of them all the same.
    """
    local = int(os.environ.get("LOCAL_RANK", 0))
    if local < torch.cuda.device_count():
        torch.cuda.set_device(local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    with ExitStack() as stack:
        stack.callback(dist.destroy_process_group)
        if not is_main_process():
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
            stack.enter_context(redirect_stdout(nowhere))
            stack.enter_context(redirect_stderr(nowhere))
        yield


def check_device(device: torch.device) -> None:
    """Refuse to start two processes on one GPU, which NCCL does not support.

    Raises:
        OptionError: this machine has fewer GPUs than processes.
    """
    local, devices = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if world_size() > 1 and device.type == "cuda" and local > devices:
        raise OptionError(
            f"{local} processes, but {devices} GPU(s) here; start torchrun with --nproc_per_node={devices}, "
            "or train with --device=cpu"
        )


@contextmanager
def ends_in_order(remedy: str) -> Iterator[None]:
    """Within the block, the end of another process raises an exception here, so that the record says how the run ended.

    ``torchrun`` sends SIGTERM to the processes that are left, which then have 30 seconds to write. Only the first
    SIGTERM raises.

    Args:
        remedy: what the user can do about it, for the message.

    Raises:
        LostProcess: another process has ended, or SIGTERM came.
    """
    if world_size() == 1:
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


# The messages go through gloo, on the CPU: they are short, and plain tensors.


def all_reduce_sum(value: float) -> float:
    """Sum of ``value`` over all processes."""
    if world_size() == 1:
        return value
    summed = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(summed)
    return summed.item()


def all_gather_rows(rows: Tensor) -> Tensor:
    """Rows ``(n, ...)`` of all processes, in the order of their ranks; each may have another ``n``."""
    if world_size() == 1:
        return rows
    count = torch.tensor([len(rows)])
    counts = [torch.empty_like(count) for _ in range(world_size())]
    dist.all_gather(counts, count)
    longest = int(max(counts))
    padded = torch.zeros(longest, *rows.shape[1:], dtype=rows.dtype)
    padded[: len(rows)] = rows
    parts = [torch.empty_like(padded) for _ in range(world_size())]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)]).to(rows.device)


def broadcast(value: float) -> float:
    """The ``value`` of the main process."""
    return value if world_size() == 1 else all_gather_rows(torch.tensor([value], dtype=torch.float64))[0].item()


def broadcast_text(make: Callable[[], str]) -> str:
    """The text that ``make`` returns in the main process; the others do not call it."""
    if world_size() == 1:
        return make()
    text = make().encode() if is_main_process() else b""
    return bytes(all_gather_rows(torch.tensor(list(text), dtype=torch.uint8)).tolist()).decode()
