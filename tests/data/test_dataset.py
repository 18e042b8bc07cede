"""Bad input one by one, and the split."""

import numpy as np
import pandas as pd
import pytest
from helpers import checkerboard, random_ratings, ratings_of, write_ratings

from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.errors import DataError, OptionError


@pytest.fixture
def build(make_config, tmp_path):
    """``build(table, **overrides)``: the splits of a table written as a data set."""

    def make(table: pd.DataFrame, **overrides):
        write_ratings(tmp_path, "mine", table)
        return build_splits(make_config(dataset="mine", data_path=str(tmp_path), **overrides))

    return make


def test_a_missing_folder_says_where_the_file_belongs(make_config, tmp_path):
    with pytest.raises(DataError, match=r"there is no folder .*nowhere.*--data_path=DIR"):
        build_splits(make_config(dataset="nowhere", data_path=str(tmp_path)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty\.inter does not exist"):
        build_splits(make_config(dataset="empty", data_path=str(tmp_path)))


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("user_id:", "other:", "has no column user_id:token"),
        ("item_id:", "other:", "has no column item_id:token"),
        ("rating:", "other:", "has no column rating:float"),
        ("rating:float", "rating", "must name columns as name:type"),
        ("timestamp:float", "rating:float", "has 2 columns 'rating'; rename all but one"),
    ],
)
def test_a_header_that_lacks_something_is_refused(make_config, tmp_path, old, new, said):
    path = write_ratings(tmp_path, "mine", random_ratings().assign(again=1.0))
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DataError, match=rf"mine\.inter.*{said}"):
        build_splits(make_config(dataset="mine", data_path=str(tmp_path)))


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("rating", "good", "1 ratings are not numbers, the first in line 5: 'good'"),
        ("rating", 6.0, r"1 ratings lie outside rating_scale=\[1, 5\], the first in line 5: 6"),
        ("user_id", None, "1 rows have no user or item, the first in line 5"),
    ],
)
def test_a_value_that_cannot_be_used_is_named_with_its_line_also_after_filters(build, column, value, said):
    table = random_ratings().astype({column: object})
    table.loc[3, column] = value
    with pytest.raises(DataError, match=said):
        build(table, rating_scale=[1, 5], val_interval={"rating": "[2,9]"})


def test_an_undeclared_scale_is_taken_from_the_data_and_said(build, caplog):
    table = random_ratings()
    table["rating"] /= 2
    splits = build(table)
    assert (splits.scale.low, splits.scale.high) == (0.5, 2.5)
    assert splits.scale.levels == (0.5, 1, 1.5, 2, 2.5)
    assert splits.scale.threshold == 1.5
    assert splits.described()["scale"]["levels"] == (0.5, 1, 1.5, 2, 2.5)
    assert any("rating_scale is taken from the data" in note for note in splits.notes)
    assert "rating_scale is taken from the data" in caplog.text


def test_implicit_feedback_needs_no_ratings(build):
    splits = build(random_ratings()[["user_id", "item_id"]], protocol="full")
    assert set(splits.triples("train")[2]) == {1.0}
    table = random_ratings().assign(rating=1.0)
    assert build(table, protocol="full").sizes()["n_users"] == 30


def test_duplicates_are_dropped_counted_and_said_and_the_first_is_kept(build):
    table = random_ratings()
    again = table.iloc[:5].assign(rating=lambda rows: 6 - rows["rating"])
    splits = build(pd.concat([table, again]))
    assert splits.notes[0].startswith("5 rows repeat a user-item pair and are dropped")
    assert splits.fingerprint() == build(table).fingerprint()


def with_times(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """Times of a user a second apart, in random order; float32 cannot tell them apart."""
    rng = np.random.default_rng(seed)
    return table.assign(timestamp=1_700_000_000.0 + rng.permutation(len(table))).sample(frac=1, random_state=seed)


def lay_out(folder, name: str, **parts: pd.DataFrame) -> list[str]:
    """Files of a split, in the order given."""
    for part, table in parts.items():
        write_ratings(folder, name, table).rename(folder / name / f"{name}.{part}.inter")
    return list(parts)


def test_the_last_of_repeated_rows_is_kept_where_it_is_asked_for(build):
    table = random_ratings().assign(timestamp=100.0)
    again = table.iloc[:5].assign(rating=lambda rows: 6 - rows["rating"], timestamp=200.0)
    expected = build(table.assign(rating=np.where(np.arange(len(table)) < 5, 6 - table["rating"], table["rating"])))
    for rows in ([table, again], [again, table]):  # by time, wherever the row stands
        splits = build(pd.concat(rows), rm_dup_inter="last")
        assert splits.notes[0].endswith("are dropped; the last by timestamp row of a pair is kept")
        assert ratings_of(splits, "known", "test") == ratings_of(expected, "known", "test")
    first = build(pd.concat([again, table]), rm_dup_inter="first")
    assert ratings_of(first, "known", "test") == ratings_of(build(table), "known", "test")


@pytest.mark.parametrize("group_by", ["user", "none"])
def test_no_test_rating_is_older_than_a_training_one_of_the_user(build, group_by):
    table = with_times(random_ratings())
    order = {"split": {"RS": [0.7, 0.1, 0.2]}, "order": "TO", "group_by": group_by, "mode": "labeled"}
    splits = build(table, eval_args=order)
    time = table.astype({"user_id": str, "item_id": str}).set_index(["user_id", "item_id"])["timestamp"]
    latest: dict[str, float] = {}
    for part in ("train", "valid", "test"):
        user, item, _ = splits.triples(part)
        keys = list(zip(splits.train.id2token("user_id", user), splits.train.id2token("item_id", item), strict=True))
        older = {one: time[one, other] for one, other in keys if time[one, other] <= latest.get(one, 0.0)}
        assert not older
        for one, other in keys:
            latest[one] = max(latest.get(one, 0.0), time[one, other])


def test_an_order_by_time_wants_times(build):
    order = {"split": {"RS": [0.7, 0.1, 0.2]}, "order": "TO", "group_by": "user", "mode": "labeled"}
    with pytest.raises(OptionError, match="order=TO needs the column timestamp:float"):
        build(random_ratings(), eval_args=order)
    table = with_times(random_ratings())
    with pytest.raises(OptionError, match="load_col, unload_col and unused_col leave out timestamp"):
        build(table, eval_args=order, load_col={"inter": ["user_id", "item_id", "rating"]})
    table.iloc[3, 3] = np.nan
    with pytest.raises(DataError, match="1 rows have no timestamp, the first in line 5; remove these rows"):
        build(table, eval_args=order)


def test_a_leak_is_called_a_leak_and_left_out_of_the_test(make_config, tmp_path):
    table = random_ratings()
    train, test = table.iloc[:300], table.iloc[300:]
    names = lay_out(tmp_path, "leaky", train=train, test=pd.concat([test, train.iloc[:7], test.iloc[:2]]))
    config = make_config(dataset="leaky", data_path=str(tmp_path), benchmark_filename=names)
    splits = build_splits(config)
    left_out = "they are left out of leaky.test.inter"
    assert f"a leak: 7 pairs of leaky.test.inter are also in an earlier file; {left_out}" in splits.notes
    assert any(note.startswith("2 rows repeat a user-item pair and are dropped") for note in splits.notes)
    assert (len(splits.train) + len(splits.valid), len(splits.test)) == (300, len(test))
    assert 0.05 < len(splits.valid) / 300 < 0.2  # cut from the training file
    tested = set(zip(test["user_id"].astype(str), test["item_id"].astype(str), strict=True))
    assert ratings_of(splits, "test").keys() == tested


def test_users_and_items_that_training_does_not_know_are_counted(make_config, tmp_path):
    table = random_ratings().astype({"user_id": str, "item_id": str})
    test = table.iloc[300:].assign(user_id=lambda rows: "new" + rows["user_id"])
    test.iloc[:4, 1] = "unseen"
    test = test.drop_duplicates(["user_id", "item_id"])
    names = lay_out(tmp_path, "new", train=table.iloc[:300], test=test)
    splits = build_splits(make_config(dataset="new", data_path=str(tmp_path), benchmark_filename=names))
    users, n = test["user_id"].nunique(), len(test)
    assert f"{users} users of the test part, with {n} of its {n} ratings, have no rating in training" in splits.notes
    assert any(note.startswith("1 items of the test part, with ") for note in splits.notes)


def test_filters_of_a_split_that_is_given_are_applied_or_refused(make_config, tmp_path):
    table = random_ratings()
    names = lay_out(tmp_path, "pre", train=table.iloc[:300], test=table.iloc[300:])

    def build(**overrides):
        return build_splits(make_config(dataset="pre", data_path=str(tmp_path), benchmark_filename=names, **overrides))

    splits = build(val_interval={"rating": "[2,5]"})
    kept = table["rating"] >= 2
    assert len(splits.train) + len(splits.valid) == kept[:300].sum()
    assert len(splits.test) == kept[300:].sum()
    assert splits.scale.low == 2
    with pytest.raises(DataError, match=r"user_inter_num_interval=\[5,inf\) would count ratings in all files"):
        build(user_inter_num_interval="[5,inf)")


def test_the_scale_is_taken_after_the_filters(build):
    table = random_ratings()
    table.loc[:20, "rating"] = 99.0  # means "not rated"
    splits = build(table, val_interval={"rating": "[1,5]"})
    assert (splits.scale.low, splits.scale.high, splits.scale.levels) == (1, 5, (1, 2, 3, 4, 5))
    declared = build(table, val_interval={"rating": "[1,5]"}, rating_scale=[1, 5], rating_step=1)
    assert declared.fingerprint() == splits.fingerprint()


def test_lone_quotation_marks_swallow_no_lines_of_a_side_file(build, make_config, tmp_path):
    table = random_ratings().astype({"item_id": str})
    items = pd.DataFrame({"item_id:token": table["item_id"].unique(), "title:token": "x"})
    items.loc[3, "title:token"], items.loc[9, "title:token"] = '"lone', 'mark"'
    build(table)
    items.to_csv(tmp_path / "mine" / "mine.item", sep="\t", index=False, quoting=3)
    columns = {"inter": ["user_id", "item_id", "rating"], "item": ["item_id", "title"]}
    train = build_splits(make_config(dataset="mine", data_path=str(tmp_path), load_col=columns)).train
    assert {'"lone', 'mark"'} <= set(train.field2id_token["title"])


@pytest.mark.parametrize("name", ["mine.inter", "mine.item"])
def test_rows_of_another_length_are_refused_in_every_file(build, make_config, tmp_path, name):
    build(random_ratings())
    items = "item_id:token\ttitle:token\n" + "".join(f"{item}\tx\n" for item in range(25))
    (tmp_path / "mine" / "mine.item").write_text(items)
    path = tmp_path / "mine" / name
    path.write_text(path.read_text().replace("\n", "\t7\n", 3).replace("\t7\n", "\n", 2))
    columns = {"inter": ["user_id", "item_id", "rating"], "item": ["item_id", "title"]}
    with pytest.raises(DataError, match=rf"{name}: line 3 has \d fields, but line 1 has"):
        build_splits(make_config(dataset="mine", data_path=str(tmp_path), load_col=columns))


def test_the_encoding_of_a_data_set_can_be_named(build, make_config, tmp_path):
    table = random_ratings().assign(user_id=lambda rows: "zoë" + rows["user_id"].astype(str))
    expected = ratings_of(build(table), "known", "test")
    path = tmp_path / "mine" / "mine.inter"
    path.write_bytes(path.read_text(encoding="utf-8").encode("latin-1"))
    config = make_config(dataset="mine", data_path=str(tmp_path), encoding="latin-1")
    assert ratings_of(build_splits(config), "known", "test") == expected
    with pytest.raises(DataError, match=r"mine\.inter.*codec can't decode byte.*--encoding=latin-1"):
        build_splits(make_config(dataset="mine", data_path=str(tmp_path)))


def test_ratings_of_which_nothing_is_left_are_refused(build):
    with pytest.raises(DataError, match=r"mine\.inter has no ratings"):
        build(random_ratings().iloc[:0])
    with pytest.raises(DataError, match="no rating of mine is left; loosen the filters"):
        build(random_ratings(), user_inter_num_interval="[1000,inf)")


def test_every_user_keeps_a_training_rating_and_those_without_test_items_are_counted(build):
    few = {"user_id": [500, 503, 501, 501, 502, 502, 502], "item_id": [1, 2, 1, 2, 1, 2, 3]}
    short = pd.DataFrame({**few, "rating": 3.0})
    splits = build(pd.concat([random_ratings(), short]))
    assert "2 users have no test items and are not evaluated" in splits.notes
    everyone = np.arange(1, splits.train.user_num)
    np.testing.assert_array_equal(np.unique(splits.triples("train")[0]), everyone)


def test_the_fingerprint_sees_a_changed_rating(build):
    table = checkerboard()
    changed = table.copy()
    changed.loc[0, "rating"] = 6 - changed.loc[0, "rating"]
    assert build(table).fingerprint() == build(table).fingerprint() != build(changed).fingerprint()


def test_a_share_of_what_is_known_leaves_the_test_part_and_a_smaller_one_is_part_of_a_larger(build):
    table = random_ratings()
    whole, half, tenth = (build(table, known_share=share) for share in (1.0, 0.5, 0.1))
    for part in ("train", "valid"):
        assert ratings_of(tenth, part).keys() <= ratings_of(half, part).keys() < ratings_of(whole, part).keys()
        for splits, share in ((half, 0.5), (tenth, 0.1)):
            n_rows, kept = (np.bincount(some.triples(part)[0]) for some in (whole, splits))
            np.testing.assert_array_equal(kept, np.ceil(share * n_rows))
    assert ratings_of(tenth, "train").keys() < ratings_of(half, "train").keys()
    assert ratings_of(tenth, "test").keys() == ratings_of(half, "test").keys() == ratings_of(whole, "test").keys()
    assert len(half.known) == len(half.train) + len(half.valid)
    assert any("known_share=0.1 keeps" in note for note in tenth.notes)
    again = build(table, known_share=0.1)
    assert again.fingerprint() == tenth.fingerprint() != build(table, known_share=0.1, seed=3).fingerprint()
    with pytest.raises(OptionError, match="known_share"):
        build(table, known_share=0)
