"""How metrics and reference rows are named in tables, and whether larger or smaller values of a metric are better."""

OVER_RATINGS = ("rmse", "mae", "ratingkl")  # pooled over all ratings, not averaged per user; smaller is better
SMALLER = (*OVER_RATINGS, "giniindex", "averagepopularity")
OVER_LISTS = ("itemcoverage", "giniindex", "shannonentropy")  # of all lists together, no means over users
SPELLINGS = (
    "RatedRecall RatedNDCG RatingKL RMSE MAE NDCG MRR GAUC MAP AUC "
    "ItemCoverage GiniIndex ShannonEntropy AveragePopularity TailPercentage"
)
LABELS = {name.lower(): name for name in SPELLINGS.split()}
STILL = "still improving"  # the status of a training that ended in its best epoch
BIAS = "bias "  # prefix of the bias row's metrics in per_user.npz
BELOW = "†"  # marks a value that is worse than that of the bias row
REFERENCES = {
    True: {"random": "random order", "bias": "user + item means", "oracle": "oracle: the true ratings"},
    False: {"random": "random order", "bias": "item popularity", "oracle": "oracle: the test items first"},
}


AUTO, RANKING, ERROR = "auto", "ratedndcg", "rmse"  # a value of valid_metric, and what is chosen from then
ASKED = f"valid_metric={AUTO}"


def candidates(names: list[str], topk: list[int]) -> list[str]:
    """The metrics that ``auto`` chooses from: RatedNDCG at the first N of ``topk`` and RMSE, if they are computed."""
    computed = {name.lower() for name in names}
    labels = {RANKING: f"{LABELS[RANKING]}@{topk[0]}", ERROR: LABELS[ERROR]}
    return [labels[name] for name in labels if name in computed]


def reference_label(name: str, mode: str) -> str:
    """The name of a reference row in tables, for the evaluation ``mode`` of RecBole."""
    return REFERENCES[mode == "labeled"][name]


def smaller_is_better(key: str) -> bool:
    """Whether a smaller value of the metric is better."""
    return key.partition("@")[0] in SMALLER


def is_mean_over_users(key: str) -> bool:
    """Whether the metric is the mean of a value per user."""
    return key.partition("@")[0] not in (*OVER_RATINGS, *OVER_LISTS)


def is_worse(key: str, value: float, than: float, rounding: float = 0.0) -> bool:
    """Whether ``value`` of the metric is worse than ``than`` by more than ``rounding``."""
    return (value - than if smaller_is_better(key) else than - value) > rounding


def metric_label(key: str) -> str:
    """``RatedNDCG@5 ↑`` for ``ratedndcg@5``: the name for tables, with an arrow in the direction of better values."""
    name, at, n = key.partition("@")
    return f"{LABELS.get(name, name.capitalize())}{at}{n} {'↓' if smaller_is_better(key) else '↑'}"
