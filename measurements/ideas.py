"""Ideas for better predictions, each alone and blended: what helped and what did not, on validation.

    python measurements/ideas.py ml-100k

Learns from the training part and scores the validation part of five splits; the test part is not loaded. Prints the
mean of RatedRecall@5, RatedNDCG@5 and RMSE (of scores that are ratings) with the deviation over splits.
"""

import argparse
import logging
import sys

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata

from recbole_dgrm.config.layers import load_config
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.evaluation import collector
from recbole_dgrm.evaluation.references import rated_row
from recbole_dgrm.maths.biases import fit_biases
from recbole_dgrm.models.mf import Penalty, half_sweep

SEEDS = range(2020, 2025)
SIZES, FOLDS, SWEEPS = (4, 8, 16, 24), 5, 15


def factorized(ratings: sp.csr_matrix, sizes=SIZES, regularization: float = 0.1) -> NDArray:
    """Predictions ``(users, items)`` of the mean over factorizations (ALS-WR) of several sizes."""
    rng, transposed, total = np.random.default_rng(0), ratings.T.tocsr(), 0.0
    for size in sizes:
        q = np.sqrt(np.abs(ratings.data).mean() / size) * (1 + 0.1 * rng.standard_normal((ratings.shape[1], size)))
        for _ in range(SWEEPS):
            p = half_sweep(ratings, q, Penalty(regularization))
            q = half_sweep(transposed, p, Penalty(regularization))
        total += p @ q.T / len(sizes)
    return total


def autoencoded(
    condition: NDArray,
    target: NDArray,
    mask: NDArray,
    epochs: int = 30,
    *,
    share: float | NDArray = 0.6,
    weight: NDArray | None = None,
    decay: float = 0.0,
    draws: int = 0,
) -> NDArray:
    """A denoising autoencoder over rows: loss on hidden entries, input scaled by the root of their number.

    Args:
        share: of the entries that is hidden, one for all or ``(rows, 1)``.
        weight: of the loss, ``(rows, 1)``.
        decay: of an exponential moving average of the parameters, which predicts; 0 = the parameters themselves.
        draws: predictions from the profile less half its entries that are averaged; 0 = one from the whole profile.
    """
    torch.manual_seed(0)
    x, y, m = (torch.as_tensor(part, dtype=torch.float32) for part in (condition, target, mask))
    share, weight = (
        torch.as_tensor(np.broadcast_to(part, (len(x), 1)).astype(np.float32))
        for part in (share, 1.0 if weight is None else weight)
    )
    network = torch.nn.Sequential(torch.nn.Linear(x.shape[1], 256), torch.nn.ReLU(), torch.nn.Linear(256, x.shape[1]))
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(decay)
    )
    optimizer = torch.optim.Adam(network.parameters(), 1e-3, weight_decay=1.0)
    rows = torch.nonzero(m.sum(dim=1)).squeeze(-1)

    def read(network, batch: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        # what was completed where nothing is rated stays; nothing is there in a plain profile
        shown = x[batch] * (1 - m[batch] + kept)
        return network(shown / kept.sum(dim=1, keepdim=True).clamp(min=1).sqrt())

    for _ in range(epochs):
        for batch in rows[torch.randperm(len(rows))].split(128):
            hidden = (torch.rand_like(m[batch]) < share[batch]) * m[batch]
            out = read(network, batch, m[batch] - hidden)
            optimizer.zero_grad()
            (weight[batch] * ((out - y[batch]) * hidden).square()).sum().backward()
            optimizer.step()
            average.update_parameters(network)
    every = torch.arange(len(x))
    with torch.no_grad():
        kept = [(torch.rand_like(m) < 0.5) * m for _ in range(draws)] or [m]
        return torch.stack([read(average if decay else network, every, part) for part in kept]).mean(0).double().numpy()


def smoothed(profile: NDArray, neighbours: int = 20) -> NDArray:
    """Profiles spread over the graph of items: each entry also lies, weakened, on the items most alike (cosine)."""
    norm = np.sqrt((profile**2).sum(axis=0)) + 10.0
    alike = (profile.T @ profile) / np.outer(norm, norm)
    np.fill_diagonal(alike, 0)
    least = np.sort(alike, axis=1)[:, [-neighbours]]
    return profile @ np.where(alike >= least, alike, 0)


def linear_items(residual: NDArray, ridge: float = 200.0) -> NDArray:
    """EASE (Steck 2019) over residuals."""
    inverse = np.linalg.inv(residual.T @ residual + ridge * np.eye(residual.shape[1]))
    weight = -inverse / np.diag(inverse)
    np.fill_diagonal(weight, 0)
    return residual @ weight


def out_of_fold(ratings: sp.coo_matrix, seed: int) -> NDArray:
    """For each rating the prediction of factorizations that have not seen it."""
    fold, found = np.random.default_rng(seed).integers(0, FOLDS, ratings.nnz), np.zeros(ratings.nnz)
    for number in range(FOLDS):
        seen = fold != number
        part = sp.csr_matrix((ratings.data[seen], (ratings.row[seen], ratings.col[seen])), ratings.shape)
        found[~seen] = factorized(part)[ratings.row[~seen], ratings.col[~seen]]
    return found


def predictions(ratings: sp.csr_matrix, shrinkage: float, seed: int) -> dict[str, NDArray]:
    """Each idea's scores, ``(users, items)``."""
    coo = ratings.tocoo()
    user, item, rating = coo.row, coo.col, coo.data
    biases = fit_biases(user, item, rating, *ratings.shape, shrinkage)
    center = biases.mean + biases.user[:, None] + biases.item

    def table(values: NDArray) -> sp.csr_matrix:
        return sp.csr_matrix((values, (user, item)), ratings.shape)

    residual = rating - center[user, item]
    mask, dense = table(np.ones_like(rating)).toarray(), table(residual).toarray()
    within = np.empty_like(rating)
    for number in range(ratings.shape[0]):
        mine = slice(ratings.indptr[number], ratings.indptr[number + 1])
        within[mine] = rankdata(rating[mine]) / (mine.stop - mine.start + 1)
    found = {
        "user + item means": center,
        "ALS, 8 factors": factorized(ratings, (8,)),
        "ALS, 32 factors, lambda .13": factorized(ratings, (32,), 0.13),
        "ALS, mean of 4, 8, 16, 24 factors": factorized(ratings),
        "ALS on residuals, 20 factors, lambda .15": center + factorized(table(residual), (20,), 0.15),
        "ALS on squared ratings": factorized(table(rating**2 / rating.max())),
        "ALS on 'rated 4 or better'": factorized(table(1.0 + 3.0 * (rating >= 4))),
        "ALS on ranks within the user": factorized(table(1.0 + 4.0 * within)),
        "EASE on residuals": center + linear_items(dense),
        "user-wise autoencoder": center + autoencoded(dense, dense, mask),
        "item-wise autoencoder": center + autoencoded(dense.T, dense.T, mask.T).T,
    }
    count = mask.sum(axis=1, keepdims=True)
    spread = (dense**2).sum(axis=1, keepdims=True) / np.maximum(count, 1)
    bag = found["ALS, mean of 4, 8, 16, 24 factors"]
    found |= {
        "user-wise, moving average of the weights (.99)": center + autoencoded(dense, dense, mask, decay=0.99),
        "user-wise, errors divided by the user's variance": center
        + autoencoded(dense, dense, mask, weight=spread.mean() / (spread + 0.3)),
        "user-wise, the more hidden the more is rated": center
        + autoencoded(dense, dense, mask, share=np.clip(1 - 20 / np.maximum(count, 1), 0.3, 0.9)),
        "user-wise, the less hidden the more is rated": center
        + autoencoded(dense, dense, mask, share=np.clip(30 / np.maximum(count, 1), 0.3, 0.9)),
        "user-wise, mean of 8 predictions from half the profile": center + autoencoded(dense, dense, mask, draws=8),
        "user-wise, condition spread over the item graph": center
        + autoencoded(dense + (1 - mask) * smoothed(dense), dense, mask),
        "user-wise, condition completed by the mean ALS": center
        + autoencoded(dense + (1 - mask) * (bag - center), dense, mask),
    }
    unseen = table(rating - out_of_fold(coo, seed)).toarray()
    user_wise, item_wise = found["user-wise autoencoder"], found["item-wise autoencoder"]
    return found | {
        "mean ALS + autoencoder of what it leaves, out of fold": bag + autoencoded(dense, unseen, mask),
        "mean ALS and ALS on residuals": (bag + found["ALS on residuals, 20 factors, lambda .15"]) / 2,
        "mean ALS and user-wise, condition spread over the item graph": (
            bag + found["user-wise, condition spread over the item graph"]
        )
        / 2,
        "mean ALS and EASE": (bag + found["EASE on residuals"]) / 2,
        "mean ALS and user-wise": (bag + user_wise) / 2,
        "mean ALS (.7) and user-wise (.3)": 0.7 * bag + 0.3 * user_wise,
        "mean ALS (.5), user-wise and item-wise": bag / 2 + (user_wise + item_wise) / 4,
    }


def main() -> None:
    """Parse the command line and print a Markdown table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("--data_path")
    given = vars(parser.parse_args())
    logging.disable()
    scores: dict[str, list[list[float]]] = {}
    for seed in SEEDS:
        config = load_config(config_dict={"model": "MF", "seed": seed, **given})
        splits = build_splits(config, with_test=False)
        user, item, rating = splits.triples("train")
        shape = splits.train.user_num, splits.train.item_num
        found = predictions(sp.csr_matrix((rating, (user, item)), shape), config["bias_shrinkage"], seed)
        user, item, rating = splits.triples("valid")
        for name, score in found.items():
            rule = collector.rated_protocol(config, splits.scale)
            pairs = collector.RatedPredictions(user, item, score[user, item], rating, rule, splits.scale)
            row = rated_row(config, pairs)
            scores.setdefault(name, []).append([row[key] for key in ("ratedrecall@5", "ratedndcg@5", "rmse")])
        print(f"split {seed} is done", file=sys.stderr, flush=True)
    print("| idea | RatedRecall@5 | RatedNDCG@5 | RMSE |\n|---|---:|---:|---:|")
    for name, rows in scores.items():
        values = zip(np.mean(rows, axis=0), np.std(rows, axis=0, ddof=1), strict=True)
        print(f"| {name} | " + " | ".join(f"{mean:.4f} ± {std:.4f}" for mean, std in values) + " |")


if __name__ == "__main__":
    main()
