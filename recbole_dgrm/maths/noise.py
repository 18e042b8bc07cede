"""Random numbers that belong to a row and a use, not to the order of calls."""

import torch
from torch import Tensor

POOL = 1 << 22


class RowNoise:
    """Standard normal noise that depends on the row alone, never on the batch around it.

    A prediction must not depend on who shares the batch, and must be the same when it is asked for twice.
    A pool of normals is drawn once from a seed. Row ``u`` reads the window of the pool that starts at a
    position hashed from ``(u, stream)``.

    Args:
        seed: the seed of the pool.
        width: the length of the longest row that will be asked for.
    """

    def __init__(self, seed: int, width: int, device: torch.device):
        generator = torch.Generator().manual_seed(seed)
        self.pool = torch.randn(POOL + width, generator=generator).to(device)

    def __call__(self, row: Tensor, width: int, stream: int) -> Tensor:
        """Noise ``(B, width)`` for row ids ``(B,)``; every ``stream`` is another draw."""
        return self.pool.unfold(0, width, 1)[self.start(row, stream)]

    def at(self, row: Tensor, column: Tensor, stream: int) -> Tensor:
        """The values ``(n,)`` of the same noise at row ids and columns ``(n,)``."""
        return self.pool[self.start(row, stream) + column]

    def start(self, row: Tensor, stream: int) -> Tensor:
        """Where in the pool the noise of row ids ``(B,)`` begins, ``(B,)``."""
        return (row * 2_654_435_761 + stream * 40_503 * 65_537 + 12_345) % POOL
