"""The time that the operations of a training step need, each by itself: what is left when nothing is lost between them.

``Ledger`` is active while a model trains and keeps each operation of ``KINDS`` that torch carries out, in backward
passes as well, once for each distinct layout (shape, strides, type) of its tensors, with these tensors and a count.
Afterwards it carries out each one alone, again and again, and takes the fastest. The limit is the sum over all calls:

    products    matrix products, at the rate that this machine reaches for these very sizes
    sparse      embedding bags and sampled products: a row of a matrix for each rated entry
    picks       rows of a tensor by an index, and the sums by index that are their gradients
    normals     drawing normal numbers

and the optimizer's step, measured alone by the caller. All else that a training does is not in the limit: activations,
losses and other elementwise work, sorting, searching, Python, autograd, the loader. An operation alone finds its
tensors in the caches, so it is faster than it can be in a training, and the limit is never too long for that reason.

Bytes over the bandwidth of a copy would be no limit: tables of some thousand rows lie in the caches, where embedding
bags read several times as fast as a copy of large tensors; and normals cost arithmetic, not bytes. On the other hand
this limit is no bound on better kernels of the same operations. What the kernels reach is printed for this: the GFLOP/s
of products, to compare with ``product_rate`` of large matrices, and the GB/s of the rows that sparse operations read,
to compare with ``copy_rate``, both measured before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

KINDS = {
    "products": ("mm", "addmm", "bmm", "baddbmm", "mv", "addmv"),
    "sparse": ("_embedding_bag", "_embedding_bag_forward_only", "sparse_sampled_addmm"),
    "picks": ("index", "index_select", "index_put", "index_put_", "_index_put_impl_", "index_add", "index_add_"),
    "normals": ("normal_", "randn", "randn_like"),
}
KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}
LARGE = 2048  # rows and columns of the matrices of ``product_rate``
COPIED = 1 << 28  # bytes of the copy of ``copy_rate``, more than caches hold


def fastest(work: Callable[[], object], least: float) -> float:
    """Seconds of the fastest of calls that take ``least`` seconds together, at least one, after a first call."""
    work()
    best, begun = float("inf"), perf_counter()
    while best == float("inf") or perf_counter() - begun < least:
        start = perf_counter()
        work()
        best = min(best, perf_counter() - start)
    return best


def product_rate() -> float:
    """GFLOP/s of a product of two large square matrices."""
    left, right = torch.randn(2, LARGE, LARGE)
    return 2 * LARGE**3 / fastest(lambda: left @ right, 0.5) / 1e9


def copy_rate() -> float:
    """Gbyte/s of a plain copy of one large tensor into another, read and written bytes together."""
    source = torch.zeros(COPIED // 4)
    target = torch.empty_like(source)
    return 2 * COPIED / fastest(lambda: target.copy_(source), 0.5) / 1e9


@dataclass
class Call:
    """An operation with the tensors of its first call, and how often it was called with tensors so laid out."""

    kind: str
    work: Callable[[], object]
    work_done: float
    count: int = 0


class Ledger(TorchDispatchMode):
    """Keeps the operations of ``KINDS`` that are carried out while it is active."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: dict[tuple, Call] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in KIND_OF:
            key = func, *map(_layout, tree_leaves((args, kwargs)))
            if key not in self.calls:
                self.calls[key] = Call(KIND_OF[name], lambda: func(*args, **kwargs), _work(name, args))
            self.calls[key].count += 1
        return func(*args, **kwargs)

    @torch.no_grad()
    def limit(self, least: float = 0.05) -> "Limit":
        """Carry out every operation alone."""
        found = Limit(dict.fromkeys(KINDS, 0.0), dict.fromkeys(KINDS, 0.0))
        for call in self.calls.values():
            found.seconds[call.kind] += call.count * fastest(call.work, least)
            found.work[call.kind] += call.count * call.work_done
        return found


@dataclass
class Limit:
    """The seconds of each kind, and its work: operations of products, bytes of gathered rows of sparse ones."""

    seconds: dict[str, float]
    work: dict[str, float]

    def rate(self, kind: str) -> float:
        """1e9 units of work a second: GFLOP/s or Gbyte/s; 0 without any."""
        return self.work[kind] / self.seconds[kind] / 1e9 if self.seconds[kind] else 0.0


def _layout(leaf: Any) -> Any:
    if not isinstance(leaf, Tensor):
        return str(leaf)
    entries = leaf.stride() if leaf.layout == torch.strided else leaf._nnz()
    return leaf.shape, entries, leaf.dtype


def _work(name: str, args: Any) -> float:
    """Multiplications and additions of a product, bytes of the rows that a sparse operation reads, else 0."""
    if KIND_OF[name] == "products":
        left, right = args[-2:]
        return 2 * left.numel() * (right.shape[-1] if right.dim() > 1 else 1)
    if name == "sparse_sampled_addmm":
        return args[0]._nnz() * args[1].shape[1] * args[1].element_size()
    if KIND_OF[name] == "sparse":
        return args[1].numel() * args[0].shape[1] * args[0].element_size()
    return 0.0
