"""A finished run taken up again: what it recommends, predicts, is worth and leaves as weights."""

import json
import shutil
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import random_ratings, record_of, write_ratings
from safetensors.torch import load_file
from scipy.sparse import csr_matrix

from recbole_dgrm.errors import CheckpointError, DataError, OptionError, UnknownModel, UserError
from recbole_dgrm.records import CHECKPOINT, RECORD
from recbole_dgrm.runs import recommender
from recbole_dgrm.runs.experiment import run_one
from recbole_dgrm.runs.trained_run import load_run
from recbole_dgrm.testing.small import small_config

PROFILES = ["DGRM", "DGRMPlus", "DGRMKL", "BMF", "ICDAE", "DiffRec", "CFGAN"]


@pytest.fixture(scope="module")
def run_of(ratings_path, tmp_path_factory):
    """``run_of(model, **overrides)``: the directory of a run on the noise data, made once."""

    @cache
    def make(keys: str) -> Path:
        return run_one(small_config(ratings_path, tmp_path_factory.mktemp("runs"), **json.loads(keys)))[1]

    def run(model: str = "DGRM", **overrides) -> Path:
        keys = {"model": model, "protocol": "rated", "epochs": 1, **overrides}
        return make(json.dumps(keys, sort_keys=True))

    return run


@pytest.mark.parametrize(
    ("protocol", "names"),
    [("rated", "DGRM NCF DiffRec"), ("full", "CFGAN BPR EASE MultiVAE"), ("eq23", "DGRMPlus"), ("table3", "MF")],
)
def test_evaluating_again_gives_the_numbers_of_the_record(run_of, names, protocol):
    for name in names.split():
        path = run_of(name, protocol=protocol)
        found, record = load_run(path).evaluate(), record_of(path)
        for key in ("test", "reference", "skill", "protocol"):
            assert found[key] == record[key], (name, key)


def test_a_config_that_was_changed_by_hand_is_not_believed(run_of, tmp_path):
    file = shutil.copytree(run_of("DGRM"), tmp_path / "run") / "config.yaml"
    text = file.read_text()
    file.write_text(text.replace("rated_denominator: n", "rated_denominator: relevant"))
    with pytest.raises(CheckpointError, match=r"it has rated_denominator=relevant, record\.json has n; put the old"):
        load_run(file.parent)
    file.write_text(text.replace("checkpoint_interval: 0", "checkpoint_interval: 7"))
    assert load_run(file.parent).record["status"] == "finished"


def test_what_a_graph_model_made_of_its_last_state_is_not_taken_for_its_best(run_of):
    path = run_of("LightGCN", protocol="full", epochs=8, stopping_step=1, learning_rate=0.5)
    record, run = record_of(path), load_run(path)
    assert record["timing"]["best_epoch"] < record["timing"]["epochs"]
    assert run.evaluate()["test"] == record["test"]
    run.model.restore_user_e = run.model.restore_item_e = None  # made anew from the best state
    assert run.evaluate()["test"] == record["test"]


def test_another_protocol_of_the_same_split_gives_what_a_run_under_it_has(run_of):
    own, other = run_of("DGRM"), run_of("DGRM", protocol="eq23")
    run = load_run(own)
    found = run.evaluate("eq23")
    assert found["test"] == record_of(other)["test"] != record_of(own)["test"]
    assert found["reference"] == record_of(other)["reference"]
    for protocol, message in (("full", "differ in feedback, eval_args, split_rounding"), ("fulll", "is unknown")):
        with pytest.raises(OptionError, match=f"protocol.*{message}"):
            run.evaluate(protocol)


def test_a_run_that_cannot_be_loaded_is_refused(run_of, tmp_path):
    record, state = record_of(run_of("MF")), torch.load(run_of("MF") / CHECKPOINT, weights_only=True)
    for number, (message, changes) in enumerate(
        {
            "not finished but interrupted; continue with --resume=": {"status": "interrupted"},
            "the data of noise has changed since": {"data": {"fingerprint": "0"}},
            "is of NCF, this run is of MF": {"model": "NCF"},
            "does not fit this run": {"best_state_dict": {"item_factors": torch.zeros(2)}},
        }.items()
    ):
        path = shutil.copytree(run_of("MF"), tmp_path / str(number))
        if number < 2:
            (path / RECORD).write_text(json.dumps(record | changes))
        else:
            torch.save(state | changes, path / CHECKPOINT)
        with pytest.raises((CheckpointError, DataError), match=message):
            load_run(path)
    with pytest.raises(CheckpointError, match="is not a run directory"):
        load_run(tmp_path)
    moved = write_ratings(tmp_path, "noise", random_ratings()).parent
    assert load_run(run_of("MF"), data_path=str(tmp_path)).config["data_path"] == str(moved)


@pytest.mark.parametrize("name", ["DGRM", "MF", "NCF"])
def test_lists_are_the_best_unrated_items_in_order(run_of, name):
    run = load_run(run_of(name))
    data = random_ratings().astype({"user_id": str, "item_id": str})
    lists = run.recommend(run.users, topk=4)
    assert list(lists) == ["user", "rank", "item", "score", "predicted_rating"]
    assert list(dict.fromkeys(lists["user"])) == list(run.users)
    for user, rows in lists.groupby("user"):
        items = sorted(set(run.items[1:]) - set(data.loc[data["user_id"] == user, "item_id"]), key=int)
        score = run.predict([user] * len(items), items)
        best = np.argsort(-score, kind="stable")[:4]
        assert list(rows["rank"]) == list(range(1, len(best) + 1))
        np.testing.assert_allclose(rows["score"], score[best], rtol=1e-5)
    np.testing.assert_array_equal(lists["predicted_rating"], lists["score"].clip(1, 5))
    run.config = run.config.replaced(eval_batch_size=4)
    pd.testing.assert_frame_equal(run.recommend(run.users, topk=4), lists, rtol=1e-4)


@pytest.mark.parametrize(("name", "keys"), [("DGRM", {}), ("DGRMPlus", {}), ("BMF", {"epochs": 2})])
def test_lists_and_pairs_have_deviations_where_they_are_asked_for(run_of, name, keys):
    run = load_run(run_of(name, **keys))
    plain, lists = run.recommend(run.users, topk=3), run.recommend(run.users, topk=3, deviations=True)
    pd.testing.assert_frame_equal(lists[list(plain)], plain)
    assert list(lists)[-1] == "deviation"
    found = run.deviations(lists["user"], lists["item"])
    np.testing.assert_allclose(lists["deviation"], found, rtol=1e-4)
    assert (found > 0).all()
    assert len(np.unique(found)) > 10
    run.rated = csr_matrix(np.ones(run.rated.shape, bool))  # nothing is left to recommend
    empty = run.recommend(run.users, deviations=True)
    assert (list(empty), run.about(empty)) == (list(lists), "the lists are empty")
    with pytest.raises(DataError, match="2 users and 1 items do not make pairs"):
        run.deviations(run.users[:2], run.items[1:2])


def test_lists_end_where_no_item_is_left_and_ids_may_be_of_any_type_of_number(run_of):
    """A rating of zero was seen, and ties go by the ids."""
    run = load_run(run_of("MF"))
    assert run.predict([1.0, "1"], [2, "2"]).tolist() == [run.predict(["1"], ["2"])[0]] * 2
    lists = run.recommend(pd.Series(["1", "2"]), topk=3)
    pd.testing.assert_frame_equal(run.recommend(np.array([1, 2]), topk=np.int64(3)), lists)
    rated = random_ratings().groupby("user_id").size()
    expected = run.recommend(["3"], topk=100)
    assert len(expected) == 25 - rated[3]
    assert len(run.recommend([3, "3"], topk=100, exclude="none")) == 25
    run.rated = csr_matrix((np.zeros(run.rated.nnz), run.rated.indices, run.rated.indptr), run.rated.shape)
    pd.testing.assert_frame_equal(run.recommend("3", topk=100), expected)
    with torch.no_grad():
        run.model.item_factors[:] = run.model.item_factors[0].clone()
        run.model.center.item.zero_()
    assert list(run.recommend(["3"], topk=3, exclude="none")["item"]) == ["0", "1", "2"]


def test_a_model_without_full_ranking_recommends_pair_by_pair_and_without_ratings(run_of, monkeypatch):
    run = load_run(run_of("BPR", protocol="full"))
    expected = run.recommend(run.users)
    assert list(expected) == ["user", "rank", "item", "score"]

    def missing(self, interaction):
        raise NotImplementedError

    monkeypatch.setattr(type(run.model), "full_sort_predict", missing)
    pd.testing.assert_frame_equal(run.recommend(run.users), expected, atol=1e-6)


def test_the_best_columns_are_those_of_a_stable_sort():
    rng = np.random.default_rng(0)
    for levels in (2, 5, 10_000):
        scores = rng.integers(0, levels, (20, 30)).astype(np.float32)
        scores[:5, :25] = -np.inf
        column, score = recommender.best_columns(torch.from_numpy(scores), 7)
        expected = np.argsort(-scores, axis=1, kind="stable")[:, :7]
        np.testing.assert_array_equal(column.numpy(), expected)
        np.testing.assert_array_equal(score.numpy(), np.take_along_axis(scores, expected, 1))


def test_unknown_ids_and_wrong_arguments_are_named(run_of):
    run = load_run(run_of("MF"))
    for call, arguments, message in [
        (run.recommend, {"users": ["1", "x", "y"]}, "2 of 3 users are unknown, the first: 'x'"),
        (run.predict, {"users": [1], "items": [99]}, "1 of 1 items are unknown, the first: '99'"),
        (run.predict, {"users": [1, 2], "items": [1]}, "2 users and 1 items do not make pairs"),
        (run.predict, {"users": ["1"], "items": 5}, "items must be a list of ids like"),
        (run.recommend, {"users": None}, "users must be a list of ids like"),
        (run.recommend, {"users": []}, "no users are given"),
        *((run.recommend, {"users": wrong}, "users: an id is a text") for wrong in ([1.5], [None], ["1", ("2",)])),
        (run.recommend, {"users": ["1"], "topk": 0}, "topk=0 is out of range"),
        *((run.recommend, {"users": ["1"], "topk": k}, f"topk={k!r} is not a whole number") for k in ("5", 2.5, True)),
        (
            run.recommend,
            {"users": ["1"], "exclude": "all"},
            "exclude='all' is out of range; allowed: one of seen, none",
        ),
        (run.with_ratings, {"ratings": None}, r"build pandas\.DataFrame"),
    ]:
        with pytest.raises(UserError, match=message):
            call(**arguments)
    for other in (run, load_run(run_of("DGRM", protocol="full"))):
        for keys in ({"topk": 3, "deviations": True}, {"items": run.items[1:2]}):
            with pytest.raises(UnknownModel, match="has no standard deviations here; use DGRM, DGRMPlus, DGRMKL"):
                (other.deviations if "items" in keys else other.recommend)(users=run.users[:1], **keys)


def scores_of(model, n_users: int) -> torch.Tensor:
    with torch.no_grad():
        return model.eval().score_profiles(torch.arange(1, n_users))


def begun(model):
    """The untrained model as it is in its first epoch."""
    model.begin_epoch(0)
    if hasattr(model, "sweep"):
        model.sweep()
    if hasattr(model, "user_node"):
        torch.nn.init.constant_(model.user_node.weight, 0.3)  # what is learnt of a user by name is not of a new one
    return model


@pytest.mark.parametrize("protocol", ["rated", "full"])
@pytest.mark.parametrize("name", [*PROFILES, "DGRMPlus of items"])
def test_new_users_with_the_ratings_of_those_of_training_get_their_scores(make_model, name, protocol):
    if (name, protocol) == ("BMF", "full"):
        return  # it is a model of ratings
    name, _, by_item = name.partition(" of ")
    keys = {"orientation": "item" if by_item else "user"} if name == "DGRMPlus" else {}
    _, splits, model = make_model(name, protocol=protocol, **keys)
    n_users = splits.train.user_num
    other = begun(model).with_profiles(splits.train.inter_matrix(form="csr", value_field="rating"))
    if by_item:
        model.share.fill_(1)  # new users get the scores of the other model alone
    before = scores_of(model, n_users)
    torch.testing.assert_close(scores_of(other, n_users), before, rtol=1e-4, atol=1e-3)
    matrix = csr_matrix(([5.0, 1.0, 4.0], ([1, 1, 2], [3, 4, 9])), (3, splits.train.item_num))
    first, second = scores_of(model.with_profiles(matrix), 3)
    assert torch.isfinite(first).all()
    assert not torch.allclose(first, second)
    assert torch.equal(scores_of(model, n_users), before)  # the trained model is as it was


def test_a_stranger_gets_the_list_of_the_user_whose_ratings_are_the_same(run_of):
    run = load_run(run_of("CFGAN"))
    user, item, rating = run.splits.triples("known")
    own = user == run.ids("users", ["7"]).item()
    table = pd.DataFrame({"user_id": "stranger", "item_id": run.items[item[own]], "rating": rating[own]})
    new = run.with_ratings(table)
    assert list(new.users) == ["stranger"]
    given, expected = new.recommend(["stranger"], 25, "none"), run.recommend(["7"], 25, "none")
    pd.testing.assert_frame_equal(given.drop(columns="user"), expected.drop(columns="user"), rtol=1e-5)
    assert not set(new.recommend(["stranger"], 25)["item"]) & set(table["item_id"])


def test_ratings_that_cannot_be_used_are_logged_or_refused(run_of, caplog):
    run, columns = load_run(run_of("CFGAN")), ["user_id", "item_id", "rating"]
    rows = [["a", "1", 5.0], ["a", "1", 1.0], ["a", "film", 3.0], ["b", "film", 3.0], ["c", "2", 2.0]]
    assert list(run.with_ratings(pd.DataFrame(rows, columns=columns)).users) == ["a", "c"]
    assert "2 ratings of 1 items that the model does not know are dropped, the first 'film'" in caplog.text
    assert "1 rows repeat a user-item pair" in caplog.text
    outside = r"outside rating_scale=\[1, 5\] of the run, the first in row 1: 9 of user 'a'"
    for item, rating, message in (("1", 9.0, outside), ("film", 3.0, "knows none of the 1 rated items")):
        with pytest.raises(DataError, match=message):
            run.with_ratings(pd.DataFrame([["a", item, rating]], columns=columns))


def test_a_model_that_reads_no_profiles_refuses_new_users(run_of):
    by_item = run_of("DGRMPlus", orientation="item", blend=0.0)
    paths = {"MF": run_of("MF"), "BPR": run_of("BPR", protocol="full"), "DGRMPlus with orientation=item": by_item}
    for what, path in paths.items():
        with pytest.raises(UnknownModel, match=f"{what} cannot score users .* a model that can: {', '.join(PROFILES)}"):
            load_run(path).with_ratings(random_ratings())


def test_exported_weights_are_those_of_the_best_state_with_the_ids_of_their_rows(run_of, tmp_path):
    run = load_run(run_of("DGRMPlus", protocol="eq23"))
    weights = load_file(run.export(tmp_path / "out"))
    for key, value in run.model.state_dict().items():
        assert torch.equal(weights[key], value)
    assert torch.equal(weights["center.user"], run.model.center.user)
    assert not [name for name in weights if name.startswith("_")]  # no ratings
    contents = json.loads((tmp_path / "out" / "config.json").read_text())
    assert contents["users"][3] == run.users[2]
    assert contents["items"] == list(run.items)
    assert (contents["model"], contents["rating_scale"]) == ("DGRMPlus", [1.0, 5.0])
    assert "data_path" not in contents["config"]
    with pytest.raises(OptionError, match="exists already"):
        run.export(tmp_path / "out")


def test_weights_that_recbole_keeps_in_attributes_are_exported(run_of, tmp_path):
    for name in ("EASE", "ItemKNN"):
        run = load_run(run_of(name, protocol="full"))
        weights = load_file(run.export(tmp_path / name))
        for key, value in run.model.other_parameter().items():
            file, kept = (key, value) if isinstance(value, np.ndarray) else (f"{key}.data", value.tocsr().data)
            np.testing.assert_array_equal(weights[file].numpy(), kept)
