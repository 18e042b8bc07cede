"""Whether chains of samples agree."""

import numpy as np
from numpy.typing import NDArray


def split_r_hat(chains: NDArray[np.floating]) -> float:
    """The potential scale reduction of a quantity in chains ``(n_chains, n)``, each split in halves.

    It is the root of the variance that all halves show together over that within a half (Gelman et al. 2013, section
    11.4): 1 where they agree, and above 1.1 or so where the chains have not mixed. NaN with less than four samples.
    """
    half = chains.shape[1] // 2
    if half < 2:
        return float("nan")
    parts = np.concatenate([chains[:, :half], chains[:, -half:]])
    within, between = parts.var(axis=1, ddof=1).mean(), parts.mean(axis=1).var(ddof=1)
    return float(np.sqrt((half - 1) / half + between / within)) if within > 0 else float("nan")
