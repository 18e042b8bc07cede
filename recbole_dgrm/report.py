"""What a record says, as a table for the terminal. Reads records only; runs nothing."""

from typing import Any

from rich.table import Table

SMALLER_IS_BETTER = ("rmse", "mae", "ratingkl")
LABELS = {
    "ratedrecall": "RatedRecall", "ratedndcg": "RatedNDCG", "ratingkl": "RatingKL", "rmse": "RMSE", "mae": "MAE",
    "ndcg": "NDCG", "mrr": "MRR", "gauc": "GAUC", "map": "MAP", "auc": "AUC",
}  # fmt: skip


def metric_label(key: str) -> str:
    """``ratedndcg@5`` as people write it, with an arrow towards better."""
    name, at, n = key.partition("@")
    return f"{LABELS.get(name, name.capitalize())}{at}{n} {'↓' if name in SMALLER_IS_BETTER else '↑'}"


def result_table(record: dict[str, Any]) -> Table:
    """Test metrics of a finished record beside its reference rows, and the skill below."""
    keys = list(record["test"])
    place = f"{record['dataset']}, protocol {record['protocol']}, seed {record['seed']}"
    table = Table(title=f"{record['model']} on the test part of {place}", title_justify="left")
    table.add_column("")
    for key in keys:
        table.add_column(metric_label(key), justify="right")
    for name, row in record["reference"].items():
        table.add_row(name, *(_number(row.get(key)) for key in keys), style="dim")
    table.add_section()
    table.add_row(record["model"], *(_number(record["test"][key]) for key in keys), style="bold")
    table.add_row("skill", *(_number(record["skill"].get(key)) for key in keys))
    return table


def explanation(record: dict[str, Any]) -> str:
    """A few lines that say how to read the table."""
    rated = record["config"]["eval_args"]["mode"] == "labeled"
    bias, oracle = ("user + item means", "the true ratings") if rated else ("item popularity", "the test items first")
    data, timing = record["data"], record["timing"]
    return (
        f"random: expectation of a random order · bias: {bias} · oracle: {oracle}\n"
        "skill: (model - random) / (oracle - random), 1 cannot be beaten\n"
        f"{data['n_train']:,} ratings to train, {data['n_valid']:,} to validate, {data['n_test']:,} to test · "
        f"best of validation: epoch {timing['best_epoch']} · {timing['train_s']:.0f} s of training"
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
