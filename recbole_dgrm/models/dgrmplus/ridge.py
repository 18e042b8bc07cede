"""Scores of items by a ridge regression on a user's other items, in closed form (EASE, Steck 2019)."""

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from recbole_dgrm.maths.sparse import Places, sparse_product

MOST_ITEMS = 20_000  # the limit for inverting a matrix of items x items


class ItemRidge(nn.Module):
    """The ridge regression ``X ~ X B`` with diag(B) = 0, where X is 1 if a user has an item, else 0.

    Args:
        rows: X, ``(n_users, n_items)``.
        strength: lambda, which is added to the diagonal of ``X'X``.
    """

    weight: Tensor

    def __init__(self, rows: sp.csr_matrix, strength: float):
        super().__init__()
        self.rows, self.strength = rows, strength
        self.register_buffer("weight", torch.zeros(0, 0), persistent=False)

    def solve(self) -> None:
        """Compute B, unless it has been computed."""
        if not len(self.weight):
            gram = (self.rows.T @ self.rows).toarray() + self.strength * np.eye(self.rows.shape[1])
            inverse = torch.linalg.inv(torch.from_numpy(gram))
            weight = (-inverse / inverse.diagonal()).fill_diagonal_(0)
            by_row = weight.float().contiguous()  # rows are read, and LAPACK's inverse is stored by column
            self.weight = by_row.to(self.weight.device)

    def ratings(self, user: Tensor) -> Tensor:
        """The scores ``(B, n_items)`` of users ``(B,)``."""
        self.solve()
        rows = self.rows[user.cpu().numpy()]
        row, column = (torch.as_tensor(index, dtype=torch.long, device=user.device) for index in rows.nonzero())
        places = Places(len(user), rows.shape[1], row, column)
        return sparse_product(places, self.weight.new_ones(len(row)), self.weight)

    def set_users(self, rows: sp.csr_matrix) -> None:
        """Score other users, whose items are the rows of ``rows``."""
        self.rows = rows
