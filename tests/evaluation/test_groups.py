"""Results by groups of users and items: every tested user and rating in one group, and the numbers of it alone."""

import numpy as np
import pytest

from recbole_dgrm.data import loaders
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.evaluation import groups, references
from recbole_dgrm.models import registry
from recbole_dgrm.records import read_run
from recbole_dgrm.runs.experiment import run_one
from recbole_dgrm.training.trainers import trainer_class


@pytest.fixture
def edges(monkeypatch):
    """Edges that cut the small sets."""
    monkeypatch.setattr(groups, "EDGES", (6, 8, 10, 200))
    return groups.EDGES


def test_the_numbers_are_those_of_the_users_and_items_of_a_group(make_model, edges):
    config, splits, model = make_model("DGRM", "noise")
    trainer = trainer_class(registry.model_class("DGRM"))(config, model)
    loader = loaders.eval_loader(config, splits, "test")
    result = trainer.evaluate(loader)
    found = groups.measure(trainer.evaluator, config, splits, loader.users.numpy(), references.measure(config, splits))
    pairs, (known_user, known_item, _) = trainer.evaluator.predictions, splits.triples("known")
    user, item, rating = splits.triples("test")
    score = dict(zip(zip(pairs.user, pairs.item, strict=True), pairs.score, strict=True))
    rank = loaders.item_rank(splits.train).numpy()
    error = np.array([score[one, rank[other]] for one, other in zip(user, item, strict=True)]).clip(1, 5) - rating
    for kind, side, known in (("users", user, known_user), ("items", item, known_item)):
        count = np.bincount(known, minlength=100)[side]
        assert len(found[kind]["model"]) > 1
        for group in found[kind]["model"]:
            here = (count >= group["least"]) & (count <= (group["most"] or 1e9))
            assert group["n"] == (len(np.unique(user[here])) if kind == "users" else here.sum())
            assert group["rmse"] == pytest.approx(np.sqrt(np.mean(error[here] ** 2)))
            assert group["mae"] == pytest.approx(np.abs(error[here]).mean())
    of_users = found["users"]["model"]
    mean = sum(group["n"] * group["ratedndcg@5"] for group in of_users) / sum(group["n"] for group in of_users)
    assert mean == pytest.approx(result["ratedndcg@5"])


def test_one_group_is_the_whole_test_and_its_bias_row_the_reference(make_config):
    record, path = run_one(make_config("MF"))
    assert read_run(path).record["groups"] == record.groups
    rows = references.measure(make_config("MF"), build_splits(make_config("MF"))).rows
    total = record.groups["items"]
    for name, whole in (("model", record.test), ("bias", rows["bias"])):
        squares = sum(group["n"] * group["rmse"] ** 2 for group in total[name])
        assert np.sqrt(squares / record.data["n_test"]) == pytest.approx(whole["rmse"])


def test_full_ranking_has_groups_of_users_alone(make_config, edges):
    record, _ = run_one(make_config("EASE", protocol="full"))
    assert set(record.groups) == {"users"}
    of_users = record.groups["users"]["model"]
    mean = sum(group["n"] * group["ndcg@10"] for group in of_users) / sum(group["n"] for group in of_users)
    assert mean == pytest.approx(record.test["ndcg@10"])
