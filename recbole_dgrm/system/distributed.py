"""Several processes that train one model: their shares of a batch, and the messages between them.

Every process reads all data and iterates over the same batches of ``world_size * train_batch_size`` users. It computes
a contiguous share of each batch, with its own random numbers. Losses are sums over users, so the sum of gradients of
the shares is the gradient of the whole batch.

Without a process group there is one process, and every function here works for it as well.
"""

import os
import signal
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout

import torch
import torch.distributed as dist
from torch import Tensor, nn

from recbole_dgrm.errors import LostProcess, OptionError
from recbole_dgrm.maths.sparse import rows_of, sparse_rows

SEED_STEP = 1_000_003  # the difference between the seeds of consecutive ranks


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def is_main_process() -> bool:
    """Whether this is the process that writes files and prints."""
    return rank() == 0


@contextmanager
def process_group() -> Iterator[None]:
    """Within the block, the processes that ``torchrun`` has started form one group; only the main process prints."""
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
    """Check that there is a GPU for each process, because NCCL does not support two processes on one GPU."""
    local, devices = int(os.environ.get("LOCAL_WORLD_SIZE", 1)), torch.cuda.device_count()
    if world_size() > 1 and device.type == "cuda" and local > devices:
        raise OptionError(
            f"{local} processes, but {devices} GPU(s) here; start torchrun with --nproc_per_node={devices}, "
            "or train with --device=cpu"
        )


@contextmanager
def ends_in_order(remedy: str) -> Iterator[None]:
    """Within the block, the end of another process raises LostProcess, so that the record says how the run ended.

    ``torchrun`` sends SIGTERM to the remaining processes, which then have 30 seconds to write. Only the first SIGTERM
    raises. The message ends with ``remedy``.
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


def share_of_rank(total: int) -> slice:
    """The contiguous share of ``total`` rows that this process computes.

    With fewer rows than processes each process computes all rows, so that no share is empty.
    """
    size = world_size()
    return slice(0, total) if total < size else slice(total * rank() // size, total * (rank() + 1) // size)


def loss_of_share(loss: Tensor, total: int) -> Tensor:
    """The loss of this process's share of ``total`` rows, scaled so that the sum over processes is that of all rows."""
    return loss / world_size() if total < world_size() else loss


def seed_by_rank(seed: int, epoch: int) -> None:
    """Seed each of several processes differently, by its rank and its first epoch; a single one is not changed."""
    if world_size() > 1:
        torch.manual_seed(seed + epoch + SEED_STEP * rank())


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its sum over all processes."""
    if world_size() == 1:
        return
    dense = []
    for parameter in parameters:
        gradient = parameter.grad
        if gradient is not None and gradient.is_sparse:
            rows, values = (all_gather_rows(part) for part in rows_of(gradient))
            parameter.grad = sparse_rows(rows, values, parameter.shape)
        elif gradient is not None:
            dense.append(gradient)
    together = torch.cat([gradient.flatten() for gradient in dense])
    dist.all_reduce(together)
    for gradient, summed in zip(dense, together.split([each.numel() for each in dense]), strict=True):
        gradient.copy_(summed.view_as(gradient))


# Other messages are short tensors on the CPU and use gloo.


def all_reduce_sum(value: float) -> float:
    """Sum of ``value`` over all processes."""
    if world_size() == 1:
        return value
    summed = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(summed)
    return summed.item()


def all_gather_rows(rows: Tensor) -> Tensor:
    """The rows ``(n, ...)`` of all processes, in the order of their ranks; ``n`` may differ between processes."""
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
