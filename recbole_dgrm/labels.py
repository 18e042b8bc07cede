"""Metric keys as people read them, and which way is better."""

SMALLER_IS_BETTER = ("rmse", "mae", "ratingkl")
LABELS = {
    "ratedrecall": "RatedRecall", "ratedndcg": "RatedNDCG", "ratingkl": "RatingKL", "rmse": "RMSE", "mae": "MAE",
    "ndcg": "NDCG", "mrr": "MRR", "gauc": "GAUC", "map": "MAP", "auc": "AUC",
}  # fmt: skip


def smaller_is_better(key: str) -> bool:
    """Whether less of the metric is better."""
    return key.partition("@")[0] in SMALLER_IS_BETTER


def metric_label(key: str) -> str:
    """``ratedndcg@5`` as people write it, with an arrow towards better."""
    name, at, n = key.partition("@")
    return f"{LABELS.get(name, name.capitalize())}{at}{n} {'↓' if smaller_is_better(key) else '↑'}"
