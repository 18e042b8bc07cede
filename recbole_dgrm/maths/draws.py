"""Columns drawn for rows without replacement, at the price of those that are drawn.

Every place has a key, which is noise that belongs to the row, and the places with the lowest keys of a row are drawn. A
key that is low enough to matter is rare, and where in the pool of noise such ones are is found once. So a draw looks at
few places; only if they are too few for a row does it look at all.
"""

import torch
from torch import Tensor

from recbole_dgrm.maths.noise import RowNoise
from recbole_dgrm.maths.sparse import Places

LOW = 2.0  # low keys per column that is drawn, and
SPARE = 40  # a few more: some are excluded, and the number of low ones varies
APART = 64.0  # no two normals are so far apart
WORTH = 0.25  # share of low keys from which on it is cheaper to look at all


class LowestKeys:
    """Draws ``count`` of ``width`` columns for rows.

    Args:
        noise: has the keys; each of its streams is another draw.
    """

    def __init__(self, noise: RowNoise, width: int, count: int):
        self.noise, self.width, self.count = noise, width, min(count, width)
        share = (LOW * count + SPARE) / width
        bound = torch.special.ndtri(torch.tensor(share)) if share < WORTH else -torch.inf
        self.low = torch.nonzero(noise.pool < bound).squeeze(-1)

    def __call__(self, row: Tensor, stream: int, without: Places) -> Places:
        """The places drawn for row ids ``(B,)``, those of a row in the order of their keys.

        Args:
            without: places that are not drawn, each there once. If too few others are left of a row, all are drawn.
        """
        drawn = self._of_low(row, stream, without)
        left = self.width - torch.diff(without.row_start)
        enough = torch.diff(drawn.row_start) >= left.clamp(max=self.count)
        return drawn if enough.all() else self._of_all(row, stream, without)

    def _of_low(self, row: Tensor, stream: int, without: Places) -> Places:
        start = self.noise.start(row, stream)
        first, end = torch.searchsorted(self.low, start), torch.searchsorted(self.low, start + self.width)
        index = torch.repeat_interleave(torch.arange(len(row), device=row.device), end - first)
        before = torch.cumsum(end - first, 0) - end
        place = self.low[torch.arange(len(index), device=row.device) - before[index]]
        column = place - start[index]
        taken = without.row * self.width + without.column
        free = ~torch.isin(index * self.width + column, taken, assume_unique=True)
        index, column, key = index[free], column[free], self.noise.pool[place[free]]
        order = torch.argsort(index * APART + key.double())  # by row, and by key within each
        found = Places(len(row), self.width, index[order], column[order])
        kept = torch.arange(len(order), device=row.device) - found.row_start[found.row] < self.count
        return Places(len(row), self.width, found.row[kept], found.column[kept])

    def _of_all(self, row: Tensor, stream: int, without: Places) -> Places:
        key = self.noise(row, self.width, stream)
        key[without.row, without.column] = torch.inf
        lowest, column = key.topk(self.count, largest=False)
        drawn = lowest < torch.inf
        return Places(len(row), self.width, drawn.nonzero()[:, 0], column[drawn])
