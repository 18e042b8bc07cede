"""Metrics of lists: values by hand, and against loops that follow the definitions word by word."""

from itertools import combinations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from recbole_dgrm.config.layers import load_config
from recbole_dgrm.data import loaders
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.errors import OptionError
from recbole_dgrm.evaluation import lists as module
from recbole_dgrm.evaluation.collapse import lists_line
from recbole_dgrm.evaluation.lists import Lists, described, gini
from recbole_dgrm.evaluation.metric_names import is_mean_over_users, metric_label
from recbole_dgrm.evaluation.recbole_metrics import OF_LISTS
from recbole_dgrm.models import registry
from recbole_dgrm.runs.experiment import run_one
from recbole_dgrm.runs.trained_run import load_run
from recbole_dgrm.training.trainers import trainer_class

KNOWN = np.zeros((5, 6), int)  # users 1 to 4, items 1 to 5
KNOWN[1:5, 1] = KNOWN[1:3, 2] = KNOWN[2:4, 3] = KNOWN[1, 4] = 1  # of 4, 2, 2, 1 and 0 users
ITEMS = np.array([[1, 2, 3], [1, 5, 0], [4, 0, 0], [0, 0, 0]])
BY_HAND = Lists(ITEMS, sp.csr_matrix(KNOWN))


def test_coverage_gini_and_entropy_by_hand():
    assert [BY_HAND.coverage(n) for n in (1, 2, 3)] == [2 / 5, 4 / 5, 1.0]
    # counts of all three places: item 1 twice, the others once; sorted 1 1 1 1 2
    assert BY_HAND.gini(3) == pytest.approx((-4 - 2 + 0 + 2 + 4 * 2) / (5 * 6))
    assert BY_HAND.gini(1) == pytest.approx((2 * 1 + 4 * 2) / (5 * 3))  # 0 0 0 1 2
    share = np.array([2, 1, 1, 1, 1]) / 6
    assert BY_HAND.entropy(3) == pytest.approx(-(share * np.log(share)).sum())
    assert gini(np.array([3, 3, 3])) == gini(np.zeros(4, int)) == 0
    assert gini(np.array([0, 0, 0, 9])) == 3 / 4


def test_popularity_tail_and_novelty_by_hand():
    np.testing.assert_allclose(BY_HAND.mean_popularity(3), [(4 + 2 + 2) / 3, (4 + 0) / 2, 1, 0])
    np.testing.assert_allclose(BY_HAND.tail(3), [0, 1 / 2, 0, 0])  # of five items one: the fifth, which nobody has
    np.testing.assert_allclose(BY_HAND.novelty(3), [(0 + 1 + 1) / 3, (0 + 2) / 2, 2, 0])  # p is 1, 1/2, 1/2, 1/4, 1/4
    np.testing.assert_allclose(BY_HAND.novelty(1), [0, 0, 2, 0])


def test_diversity_by_hand():
    one, two, three = 2 / np.sqrt(4 * 2), 2 / np.sqrt(4 * 2), 1 / 2  # cosines of the pairs 12, 13 and 23
    np.testing.assert_allclose(BY_HAND.diversity(3), [1 - (one + two + three) / 3, 1, 0, 0])
    np.testing.assert_allclose(BY_HAND.diversity(2), [1 - one, 1, 0, 0])
    np.testing.assert_array_equal(BY_HAND.diversity(1), 0)


def test_statistics_by_hand():
    def of(items):
        return Lists(np.array(items), sp.csr_matrix((4, 5))).statistics()

    alike = of([[1, 2], [2, 1], [1, 2]])
    assert (alike["distinct"], alike["items"]) == (pytest.approx(1 / 3), 0.5)
    assert (alike["gini"], alike["entropy"]) == (pytest.approx(0.5), pytest.approx(np.log(2)))  # two of four items
    even = of([[1, 2], [3, 4]])
    assert (even["distinct"], even["items"], even["gini"]) == (1, 1, pytest.approx(0))
    short = of([[1, 2], [3, 0], [3, 0], [0, 0]])  # users who have rated nearly everything
    assert (short["n"], short["distinct"], short["items"]) == (2, 0.75, 0.75)
    nothing = of(np.zeros((3, 2), int))
    assert set(nothing.values()) == {2, None}
    assert "every user has seen all items" in lists_line(nothing)


@pytest.mark.parametrize("at_once", [4096, 9])
def test_metrics_of_many_lists_equal_loops(monkeypatch, at_once):
    monkeypatch.setattr(module, "AT_ONCE", at_once)
    rng = np.random.default_rng(0)
    known = np.zeros((31, 41), int)
    known[1:, 1:] = rng.random((30, 40)) < rng.random(40)
    items = np.array([rng.permutation(np.arange(1, 41))[:4] for _ in range(25)])
    items[3, 2:] = 0
    found = Lists(items, sp.csr_matrix(known))
    vectors = known / np.maximum(np.sqrt(known.sum(axis=0)), 1)
    for row, listed in enumerate(items):
        listed = listed[listed > 0]
        distances = [1 - vectors[:, one] @ vectors[:, other] for one, other in combinations(listed, 2)]
        assert found.diversity(4)[row] == pytest.approx(np.mean(distances))
        share = np.maximum(known.sum(axis=0)[listed], 1) / np.count_nonzero(known.sum(axis=1))
        assert found.novelty(4)[row] == pytest.approx(-np.log2(share).mean())


def test_names_and_directions():
    labels = {metric_label(f"{metric.__name__.lower()}@10") for metric in OF_LISTS}
    up = {"ItemCoverage@10 ↑", "ShannonEntropy@10 ↑", "TailPercentage@10 ↑", "Novelty@10 ↑", "Diversity@10 ↑"}
    assert labels == up | {"GiniIndex@10 ↓", "AveragePopularity@10 ↓"}
    assert not any(map(is_mean_over_users, ("itemcoverage@10", "giniindex@10", "shannonentropy@10")))
    assert all(map(is_mean_over_users, ("novelty@10", "diversity@10", "averagepopularity@10", "tailpercentage@10")))


NAMES = ["NDCG", *(metric.__name__ for metric in OF_LISTS)]


def test_a_run_has_them_beside_ranking_metrics_and_gives_them_again(make_config, tmp_path):
    record, path = run_one(make_config("EASE", protocol="full", metrics=NAMES, topk=[2, 5], valid_metric="NDCG@5"))
    assert set(record.test) == {f"{name.lower()}@{n}" for name in NAMES for n in (2, 5)}
    assert load_run(path).evaluate()["test"] == record.test
    assert set(record.reference["random"]) == set(record.skill) == {"ndcg@2", "ndcg@5"}
    with np.load(path / "per_user.npz") as vectors:
        for name in ("novelty@5", "diversity@5", "averagepopularity@2", "tailpercentage@2"):
            assert vectors[name].mean() == pytest.approx(record.test[name])
        assert "giniindex@5" not in vectors


def test_they_are_those_of_the_lists_of_unseen_items(make_model):
    config, splits, model = make_model("DGRM", protocol="full", metrics=NAMES, topk=[4], valid_metric="NDCG@4")
    trainer = trainer_class(registry.model_class("DGRM"))(config, model)
    result = trainer.evaluate(loaders.eval_loader(config, splits, "test"))
    known = splits.known.inter_matrix(form="csr").astype(bool)
    with trainer.own_randomness():
        users = np.unique(splits.triples("test")[0])
        scores = model.full_sort_predict({"user_id": torch.as_tensor(users)}).numpy()
    scores[known[users].toarray()] = -np.inf
    lists = Lists(np.argsort(-scores, axis=1)[:, :4], known)
    assert result["itemcoverage@4"] == pytest.approx(lists.coverage(4))
    assert result["diversity@4"] == pytest.approx(lists.diversity(4).mean())
    assert result["averagepopularity@4"] == pytest.approx(known.sum(axis=0).A1[lists.items].mean())


def test_items_that_a_user_has_fill_no_list(make_config):
    more = {"metrics": ["NDCG", "ItemCoverage"], "topk": [28], "valid_metric": "NDCG@28"}
    config = make_config("Pop", "board", protocol="full", **more)
    splits = build_splits(config)
    loader = loaders.eval_loader(config, splits, "test")
    left = loader.known.shape[1] - 1 - np.diff(loader.known.indptr)[loader.users.numpy()]
    assert left.max() < 28
    record, _ = run_one(config)
    assert record.test["itemcoverage@28"] == 1


def test_they_do_not_mix_with_metrics_of_rated_items():
    keys = {"model": "MF", "dataset": "ml-100k", "metrics": ["RMSE", "Novelty"]}
    with pytest.raises(OptionError, match="cannot be mixed"):
        load_config(config_dict=keys)


def test_a_line_says_what_lists_are_like():
    said = "the lists contain 100.0% of 5 items (coverage), Gini 0.133, novelty 0.92 bits, diversity 0.340"
    assert described(BY_HAND) == said
