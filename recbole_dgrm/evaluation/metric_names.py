"""Metric keys as people read them, and which way is better."""

OVER_RATINGS = ("rmse", "mae", "ratingkl")  # of all ratings together, no means over users; smaller is better
LABELS = {
    "ratedrecall": "RatedRecall", "ratedndcg": "RatedNDCG", "ratingkl": "RatingKL", "rmse": "RMSE", "mae": "MAE",
    "ndcg": "NDCG", "mrr": "MRR", "gauc": "GAUC", "map": "MAP", "auc": "AUC",
}  # fmt: skip
STILL = "still improving"  # said of a training that ended while validation was at its best
BELOW = "†"  # marks a value that is worse than that of the bias row
REFERENCES = {
    True: {"random": "random order", "bias": "user + item means", "oracle": "oracle: the true ratings"},
    False: {"random": "random order", "bias": "item popularity", "oracle": "oracle: the test items first"},
}


def reference_label(name: str, mode: str) -> str:
    """What tables call a reference row where models are tested by ``mode``."""
    return REFERENCES[mode == "labeled"][name]


def smaller_is_better(key: str) -> bool:
    """Whether less of the metric is better."""
    return key.partition("@")[0] in OVER_RATINGS


def is_mean_over_users(key: str) -> bool:
    """Whether the metric is the mean of a value per user."""
    return key.partition("@")[0] not in OVER_RATINGS


def is_worse(key: str, value: float, than: float, rounding: float = 0.0) -> bool:
    """Whether ``value`` of the metric is worse than ``than`` by more than ``rounding``."""
    return (value - than if smaller_is_better(key) else than - value) > rounding


def metric_label(key: str) -> str:
    """``ratedndcg@5`` as people write it, with an arrow towards better."""
    name, at, n = key.partition("@")
    return f"{LABELS.get(name, name.capitalize())}{at}{n} {'↓' if smaller_is_better(key) else '↑'}"
