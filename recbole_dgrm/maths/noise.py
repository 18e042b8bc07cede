"""Random numbers that depend on a row and a stream, not on the order of calls."""

import torch
from torch import Tensor

POOL = 1 << 22


class RowNoise:
    """Standard normal noise that depends only on the row, not on its batch.

    A prediction must not depend on the other users of the batch, and must be the same each time. A pool of normals is
    sampled once from a seed. Row ``u`` gets the window of the pool that starts at a hash of ``(u, stream)``.

    Args:
        seed: the seed of the pool.
        width: the largest width of a row.
    """

    def __init__(self, seed: int, width: int, device: torch.device):
        generator = torch.Generator().manual_seed(seed)
        self.pool = torch.randn(POOL + width, generator=generator).to(device)

    def __call__(self, row: Tensor, width: int, stream: int) -> Tensor:
        """Noise ``(B, width)`` for row ids ``(B,)``; every ``stream`` has different noise."""
        return self.pool.unfold(0, width, 1)[self.start(row, stream)]

    def at(self, row: Tensor, column: Tensor, stream: int) -> Tensor:
        """The values ``(n,)`` of the same noise at row ids and columns ``(n,)``."""
        return self.pool[self.start(row, stream) + column]

    def start(self, row: Tensor, stream: int) -> Tensor:
        """The first index in the pool of the noise of row ids ``(B,)``, ``(B,)``."""
        return (row * 2_654_435_761 + stream * 40_503 * 65_537 + 12_345) % POOL
