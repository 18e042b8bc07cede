"""Tables by groups in the report of a benchmark."""

from reports_helpers import NDCG, put, report_text


def grouped(value: float, bias: float = 0.4) -> dict:
    def users(low: float) -> list[dict]:
        return [{"least": 0, "most": 5, "n": 10, NDCG: low}, {"least": 201, "most": None, "n": 20, NDCG: low / 2}]

    items = [{"least": 6, "most": 20, "n": 1200, "rmse": value, "mae": 1.0}]
    only_bias = {"least": 21, "most": 50, "n": 1, NDCG: bias}
    return {
        "users": {"model": users(value), "bias": [*users(bias), only_bias]},
        "items": {"model": items, "bias": items},
    }


def lines(text: str, title: str) -> list[str]:
    part = text.split(f"**{title}")[1].split("\n\n")[1]
    return [part.splitlines()[0], *part.splitlines()[2:]]


def test_a_report_shows_groups_as_means_over_seeds(tmp_path):
    for seed, value in ((1, 0.5), (2, 0.7)):
        put(tmp_path, "A", seed, groups=grouped(value))
        put(tmp_path, "B", seed, groups=grouped(0.5))
    put(tmp_path, "old", 1)
    text = report_text(tmp_path)
    assert lines(text, "Users by their ratings in training: RatedNDCG@5 ↑, board, rated") == [
        "|  | 0 to 5 (10) | 201 or more (20) |",
        "| user + item means | 0.400 | 0.200 |",
        "| A | **0.600** | **0.300** |",
        "| B | 0.500 | 0.250 |",
    ]
    items = lines(text, "Items by their ratings in training: RMSE ↓, board, rated")
    assert items[0] == "|  | 6 to 20 (1,200) |"
    assert items[-2:] == ["| A | 0.600 |", "| B | **0.500** |"]
    assert "Users by their ratings in training: RMSE" not in text
