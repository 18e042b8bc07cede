"""The split of the timeline: exact instants, only users and items of training, nothing of the future in training."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from helpers import random_ratings, ratings_of, write_ratings

from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.data.timeline import cut
from recbole_dgrm.errors import DataError, OptionError
from recbole_dgrm.runs import experiment
from recbole_dgrm.runs.trained_run import load_run

START = 1_700_000_001  # float32 knows every 128th second here


@pytest.fixture
def make(make_config, tmp_path):
    """``make(table, model, **overrides)``: the config of a table that is written as a data set."""

    def config(table: pd.DataFrame, model: str = "MF", **overrides):
        write_ratings(tmp_path, "mine", table)
        return make_config(model, "mine", data_path=str(tmp_path), **{"protocol": "temporal", **overrides})

    return config


def over_time(table: pd.DataFrame, step: float = 1.0) -> pd.DataFrame:
    """Times one ``step`` apart, in an order that is not that of the rows."""
    order = np.random.default_rng(3).permutation(len(table))
    return table.assign(timestamp=START + step * order)


def times(table: pd.DataFrame) -> dict[tuple[str, str], float]:
    return {(str(int(user)), str(int(item))): time for user, item, _, time in table.itertuples(index=False)}


def test_the_shares_decide_and_an_instant_is_not_cut():
    time = np.array([5.0, 1.0, 2.0, 2.0, 2.0, 3.0, 4.0, 4.0, 6.0, 0.0])
    part, begins = cut(time, [0.5, 0.3, 0.2], "timestamp")
    assert begins == [3.0, 5.0]
    np.testing.assert_array_equal(part, [2, 0, 0, 0, 0, 1, 1, 1, 2, 0])
    assert cut(np.repeat([7.0, 8.0, 9.0], [98, 1, 1]), [1, 1, 1], "timestamp")[1] == [8.0, 9.0]  # no part is empty


def test_every_validation_rating_is_younger_than_all_of_training_and_every_test_rating_than_both(make):
    table = over_time(random_ratings())
    splits, time = build_splits(make(table)), times(table)
    spans = [[time[pair] for pair in ratings_of(splits, part)] for part in ("train", "valid", "test")]
    assert all(max(one) < min(other) for one, other in pairwise(spans))
    assert list(map(len, spans)) == pytest.approx([0.8 * len(table), 0.1 * len(table), 0.1 * len(table)], abs=1)
    first, second = min(spans[1]), min(spans[2])
    assert f"training ends before timestamp={first:.17g}, the test begins with {second:.17g}" in splits.notes
    order = table.sort_values("timestamp")[["user_id", "item_id"]].astype(str).itertuples(index=False, name=None)
    assert set(ratings_of(splits, "train")) == set(
        list(order)[: len(splits.train)]
    )  # float32 knows four of these times


def newcomers() -> pd.DataFrame:
    """In time order 100 ratings of 10 users and 10 items; of the last 20, eight have a new user, item, or both."""
    table = random_ratings(10, 10, 1.0).sample(frac=1, random_state=1).reset_index(drop=True)
    table.loc[[82, 84, 90, 92], "user_id"] = [100, 101, 100, 101]
    table.loc[[86, 88, 90, 95], "item_id"] = [200, 201, 200, 202]
    return table.assign(timestamp=START + np.arange(100.0))


def test_users_and_items_of_the_future_are_left_out_and_said(make):
    splits = build_splits(make(newcomers()))
    assert splits.sizes() == {"n_users": 10, "n_items": 10, "n_train": 80, "n_valid": 6, "n_test": 7}
    left_out = "ratings of {} are left out: {} users and {} items have no rating in training"
    assert "4 of 10 " + left_out.format("validation", 2, 2) in splits.notes
    assert "3 of 10 " + left_out.format("test", 2, 2) in splits.notes
    for part in ("valid", "test", "known"):
        for side in (0, 1):
            assert set(splits.triples(part)[side]) <= set(splits.triples("train")[side])
    assert len(splits.known) == 86


def test_the_split_depends_on_nothing_but_the_data(make):
    table = newcomers()
    first = build_splits(make(table))
    assert build_splits(make(table, seed=9)).fingerprint() == first.fingerprint()
    assert ratings_of(build_splits(make(table.iloc[::-1])), "test") == ratings_of(first, "test")


def test_the_future_changes_nothing_that_training_knows(make):
    table = over_time(random_ratings()).sort_values("timestamp")
    table["rating"] = np.random.default_rng(0).uniform(1, 5, len(table)).round(6)
    other = table.copy()
    later = other.index[int(0.8 * len(table)) :]
    other.loc[later, "rating"] = other["rating"].max() - 0.3 * np.random.default_rng(1).random(len(later))
    before, after = (build_splits(make(each, rating_scale=[1, 5])) for each in (table, other))
    assert before.scale.continuous  # its threshold is a median, and its bins are quantiles
    assert before.scale == after.scale
    assert ratings_of(before, "train") == ratings_of(after, "train")
    whole = build_splits(make(other, rating_scale=[1, 5], protocol="rated"))
    assert whole.scale.threshold > after.scale.threshold


def test_filters_count_the_ratings_of_training_alone(make):
    table = newcomers()
    table = table[(table["user_id"] != 3) | (table.index >= 77) | (table.index < 40)]
    early = table.iloc[: int(0.8 * len(table))]
    counts = early["user_id"].value_counts()
    least = int(counts.min()) + 1
    splits = build_splits(make(table, user_inter_num_interval=f"[{least},inf)"))
    kept = {user for user, _ in ratings_of(splits, "train")}
    assert kept == {str(user) for user, count in counts.items() if count >= least}
    assert {user for user, _ in ratings_of(splits, "test")} <= kept


def test_of_a_repeated_pair_the_past_is_kept(make):
    table = newcomers()
    again = table.iloc[[3, 5]].assign(timestamp=START + 99.5, rating=table["rating"].iloc[[3, 5]] % 5 + 1)
    splits = build_splits(make(pd.concat([again, table])))  # younger, yet first in the file
    kept = ratings_of(splits, "train", "test")
    for user, item, rating, _ in table.iloc[[3, 5]].itertuples(index=False):
        assert kept[str(int(user)), str(int(item))] == rating
    with pytest.raises(OptionError, match="rm_dup_inter=last would let later ratings remove earlier ones"):
        make(table, rm_dup_inter="last")


def test_what_cannot_be_cut_is_refused(make):
    table = random_ratings(10, 10, 1.0)
    with pytest.raises(DataError, match="timestamp has 1 different time; a temporal split needs at least 3"):
        build_splits(make(table.assign(timestamp=5.0)))
    late = newcomers()
    late.loc[90:, "user_id"] += 500
    with pytest.raises(DataError, match="the test part of mine is empty: each of its ratings has a user or an item"):
        build_splits(make(late))
    with pytest.raises(OptionError, match="is a temporal split, and benchmark_filename is another split"):
        make(late, benchmark_filename=["train", "test"])


def test_a_run_is_refitted_on_the_past_and_loaded_again(make):
    config = make(over_time(random_ratings(), 40))
    record, path = experiment.run_one(config)
    assert record.status == "finished"
    run = load_run(path)
    assert run.evaluate()["test"] == pytest.approx(record.test)
    lists = run.recommend(run.users[:3], topk=2)
    assert len(lists) == 6
    assert np.isfinite(lists["score"]).all()


def test_all_items_are_ranked_where_the_metrics_ask_for_it(make):
    config = make(
        newcomers(),
        metrics=["NDCG", "Recall"],
        topk=[3],
        valid_metric="NDCG@3",
        feedback="implicit",
        unrated_weight=0.1,
    )
    assert config["eval_args"]["mode"] == {"valid": "full", "test": "full"}
    record, _ = experiment.run_one(config)
    assert set(record.test) == {"ndcg@3", "recall@3"}
    assert record.reference["oracle"]["ndcg@3"] == 1
