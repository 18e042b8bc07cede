"""The resolution of metrics, its limit, and the metric that ``valid_metric: auto`` chooses."""

import logging

import numpy as np
import pandas as pd
import pytest
from helpers import write_ratings
from scipy import stats

from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.evaluation import references, resolution, selection
from recbole_dgrm.evaluation.resolution import LIMIT, POWER_80, SMALLEST, THIRD

NDCG = "ratedndcg@5"
ONE = np.ones(500)


def ratings(n_users: int, items_each: int, rate) -> pd.DataFrame:
    """Every user rates some of 40 items, as ``rate(user, item)`` says."""
    rng = np.random.default_rng(0)
    rows = [(user, item) for user in range(n_users) for item in rng.choice(40, items_each, replace=False)]
    table = pd.DataFrame(rows, columns=["user_id", "item_id"])
    return table.assign(rating=[float(rate(user, item)) for user, item in rows])


def uneven(user: int, item: int) -> int:
    return 1 + (3 * user + 7 * item + user * item) % 5


SETS = {
    "one item": ratings(120, 3, uneven),  # a rating to train, one to validate, one to test
    "equal": ratings(120, 20, lambda user, item: 1 + user % 5),
    "usual": ratings(900, 30, lambda user, item: 1 + (item + user * item % 3) % 5),
}


@pytest.fixture
def make(make_config, tmp_path):
    """``make(name, **keys)``: the config and the splits of one of the ``SETS``."""

    def build(name, **keys):
        write_ratings(tmp_path / "data", name.replace(" ", "_"), SETS[name])
        config = make_config("MF", name.replace(" ", "_"), data_path=str(tmp_path / "data"), **keys)
        return config, build_splits(config)

    return build


def test_it_is_the_span_against_the_standard_error_of_a_comparison():
    rng = np.random.default_rng(1)
    span, difference = rng.random(500), rng.normal(0.1, 0.3, 500)
    found = resolution.resolution(span, difference, ONE)
    assert found == pytest.approx(span.mean() / stats.sem(difference), rel=0.01)  # one more user is counted
    assert resolution.resolution(2 * span, 2 * difference, ONE) == pytest.approx(found)
    assert resolution.resolution(span, difference + 1, ONE) == pytest.approx(found)


def test_it_is_0_without_a_span_and_never_above_the_number_of_users():
    assert resolution.resolution(0 * ONE, ONE, ONE) == 0
    assert resolution.resolution(ONE, 0 * ONE, ONE) == pytest.approx(500)
    assert resolution.resolution(ONE[:1], ONE[:1], ONE[:1]) == pytest.approx(1)


def test_users_of_one_value_under_every_order_take_no_resolution_away():
    rng = np.random.default_rng(2)
    span, difference = rng.random(500), rng.normal(0, 0.3, 500)
    padded = [np.append(part, np.zeros(5000)) for part in (span, difference)]
    alone = resolution.resolution(span, difference, ONE)
    assert resolution.resolution(*padded, np.ones(5500)) == pytest.approx(alone, rel=0.02)


def test_errors_are_pooled_over_ratings_as_a_draw_of_users_shows():
    rng = np.random.default_rng(3)
    counts = rng.integers(1, 30, 400)
    random, bias = rng.gamma(2, 0.6, 400), rng.gamma(2, 0.4, 400)
    rows = {"random": {"rmse": random}, "bias": {"rmse": bias}, "oracle": {"rmse": 0 * bias}}
    found = resolution.of_rows(rows, ["rmse"], counts)["rmse"]
    draws = rng.integers(0, 400, (4000, 400))
    drawn = ((bias - random) * counts)[draws].sum(axis=1) / counts[draws].sum(axis=1)
    gain = ((random - bias) * counts).sum() / counts.sum()
    assert found["ratio"] == pytest.approx(THIRD * gain / drawn.std(), rel=0.05)
    assert (found["users"], found["of"]) == (400, 400)


def test_at_the_limit_a_tenth_of_the_span_is_found_four_times_out_of_five():
    rng = np.random.default_rng(4)
    n = 500
    deviation = np.sqrt(n) / LIMIT  # for a span of 1
    drawn = rng.normal(SMALLEST, deviation, (4000, n))
    assert np.mean(stats.ttest_1samp(drawn, 0, axis=1).pvalue < 0.05) == pytest.approx(0.8, abs=0.02)
    assert pytest.approx(stats.norm.ppf(0.975) + stats.norm.ppf(0.8), abs=0.01) == POWER_80


@pytest.mark.parametrize(("name", "users"), [("one item", 0), ("equal", 0)])
@pytest.mark.parametrize("part", ["valid", "test"])
def test_where_no_order_differs_from_another_a_ranking_tells_nothing(make, name, users, part):
    found = references.measure(*make(name), part).resolution
    assert found[NDCG] == {"ratio": 0, "users": users, "of": 120}
    assert not resolution.is_precise(found, NDCG)
    assert found["rmse"]["ratio"] > 0
    assert "ratingkl" not in found


def test_under_a_full_ranking_each_metric_has_a_resolution(make):
    found = references.measure(*make("usual", protocol="full", topk=[3, 5], valid_metric="NDCG@5")).resolution
    assert {"recall@3", "ndcg@3", "ndcg@5", "mrr@5"} <= set(found)
    assert all(0 < one["ratio"] <= one["of"] == 900 for one in found.values())


def test_the_rows_of_validation_have_not_learnt_from_it(make):
    config, splits = make("usual", refit=True)
    found = references.measure(config, splits, "valid")
    assert found == references.measure(config.replaced(refit=False), splits, "valid")


@pytest.mark.parametrize(
    ("name", "keys", "chosen", "told"),
    [
        ("usual", {}, "RatedNDCG@5", ""),
        ("usual", {"topk": [3, 5]}, "RatedNDCG@3", ""),
        ("usual", {"metrics": ["RMSE", "MAE"]}, "RMSE", ""),
        (
            "one item",
            {},
            "RMSE",
            "RMSE for early stopping and tuning; on validation RatedNDCG@5 (resolution 0; a model can change it for 0",
        ),
        ("equal", {}, "RMSE", "valid_metric=auto chooses RMSE for"),
        ("one item", {"metrics": ["RatedNDCG"]}, "RatedNDCG@5", ""),
        ("one item", {"valid_metric": "ratedndcg@5"}, "ratedndcg@5", ""),
    ],
)
def test_auto_chooses_the_ranking_metric_if_it_is_precise_else_rmse(make, caplog, name, keys, chosen, told):
    with caplog.at_level(logging.WARNING):
        used, found = selection.with_chosen_metric(*make(name, **keys))
    assert used["valid_metric"] == used.run.valid_metric == chosen
    assert used["valid_metric_bigger"] == (chosen != "RMSE")
    assert bool(found) == ("valid_metric" not in keys)
    assert told in caplog.text
    assert ("too noisy to compare models" in caplog.text) == bool(told)


def test_rmse_with_a_smaller_resolution_is_not_chosen():
    found = {NDCG: {"ratio": 10.0, "users": 9, "of": 9}, "rmse": {"ratio": 9.0, "users": 9, "of": 9}}
    assert selection._choice(["RatedNDCG@5", "RMSE"], found) == "RatedNDCG@5"
    found["rmse"]["ratio"] = 11.0
    assert selection._choice(["RatedNDCG@5", "RMSE"], found) == "RMSE"
    found[NDCG]["ratio"] = LIMIT
    assert selection._choice(["RatedNDCG@5", "RMSE"], found) == "RatedNDCG@5"


def test_a_metric_of_unknown_resolution_counts_as_precise():
    assert resolution.is_precise({}, NDCG)
    assert resolution.too_noisy({}, [NDCG, "rmse"]) == ""
    one, other = ({NDCG: {"ratio": ratio, "users": users, "of": 1000}} for ratio, users in ((20.0, 300), (30.0, 350)))
    mean = resolution.averaged([one, {}, other])
    assert mean == {NDCG: {"ratio": 25, "users": 325, "of": 1000}}
    said = "RatedNDCG@5 (resolution 25; a model can change it for 325 of 1,000 users) is too noisy to compare models"
    assert resolution.too_noisy(mean, [NDCG, "rmse"]) == said
