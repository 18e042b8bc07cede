"""Metrics through RecBole: full ranking against RecBole and pytrec_eval, rated metrics, reference rows."""

import sys

import numpy as np
import pytest
import pytrec_eval
import torch
from helpers import interrupted
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.data.utils import create_samplers
from recbole.evaluator import Collector as RecBoleCollector
from recbole.evaluator import Evaluator as RecBoleEvaluator

from recbole_dgrm.data import loaders
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.errors import UnknownModel
from recbole_dgrm.evaluation import references
from recbole_dgrm.evaluation.collector import Collector, Evaluator, RatedPredictions, rated_protocol
from recbole_dgrm.maths.biases import Biases
from recbole_dgrm.models import registry
from recbole_dgrm.runs.experiment import resume, run_one
from recbole_dgrm.runs.trained_run import load_run
from recbole_dgrm.training.trainers import trainer_class


@pytest.fixture
def ranked(make_model):
    """A DGRM under full ranking: config, splits, trainer, its test result."""
    names = ["Recall", "NDCG", "MRR", "Precision", "Hit", "MAP"]
    config, splits, model = make_model("DGRM", protocol="full", topk=[3, 10], metrics=names)
    trainer = trainer_class(registry.model_class("DGRM"))(config, model)
    trainer.eval_collector.data_collect(loaders.train_loader(config, splits, "train"))
    return config, splits, trainer, trainer.evaluate(loaders.eval_loader(config, splits, "test"))


def test_full_ranking_equals_recboles_own_loop_and_metrics(ranked):
    config, splits, trainer, ours = ranked
    parts = [splits.train, splits.valid, splits.test]
    _, _, sampler = create_samplers(config, splits.test, parts)
    config = config.replaced(eval_batch_size=1)  # RecBole: users x items, so one user a batch
    collector, evaluator = RecBoleCollector(config), RecBoleEvaluator(config)
    for interaction, history, positive_u, positive_i in FullSortEvalDataLoader(config, splits.test, sampler):
        scores = trainer.model.full_sort_predict(interaction)
        scores[:, 0] = -np.inf
        scores[history] = -np.inf
        collector.eval_batch_collect(scores, interaction, positive_u, positive_i)
    theirs = evaluator.evaluate(collector.get_data_struct())
    for key, value in theirs.items():
        assert ours[key] == pytest.approx(value, abs=1e-6), key
        assert trainer.evaluator.per_user[key].mean() == pytest.approx(ours[key], abs=1e-9)


def test_full_ranking_equals_pytrec_eval(ranked):
    _, splits, trainer, ours = ranked
    known, test = splits.triples("known"), splits.triples("test")
    qrel: dict = {}
    for user, item in zip(*test[:2], strict=True):
        qrel.setdefault(str(user), {})[str(item)] = 1
    users = torch.as_tensor(sorted(map(int, qrel)))
    scores = trainer.model.full_sort_predict({"user_id": users}).double().numpy()
    seen = set(zip(*known[:2], strict=True))
    run = {
        str(user): {str(item): float(row[item]) for item in range(1, len(row)) if (user, item) not in seen}
        for user, row in zip(users.tolist(), scores, strict=True)
    }
    judged = pytrec_eval.RelevanceEvaluator(qrel, {"recall.3,10", "P.3,10", "ndcg_cut.3,10", "success.3,10"}).evaluate(
        run
    )
    for k in (3, 10):
        for ours_name, theirs_name in [
            ("recall", "recall"),
            ("precision", "P"),
            ("ndcg", "ndcg_cut"),
            ("hit", "success"),
        ]:
            expected = np.mean([row[f"{theirs_name}_{k}"] for row in judged.values()])
            assert ours[f"{ours_name}@{k}"] == pytest.approx(expected, abs=1e-6)


def test_evaluation_does_not_depend_on_the_batch_size(make_model):
    results = []
    for size in (1, 7, 512):
        config, splits, model = make_model("DGRM", eval_batch_size=size)
        trainer = trainer_class(registry.model_class("DGRM"))(config, model)
        results.append(trainer.evaluate(loaders.eval_loader(config, splits, "test")))
    for other in results[1:]:
        assert other == pytest.approx(results[0], abs=1e-6)


def test_rmse_and_mae_are_those_of_the_pairs(make_model):
    config, splits, model = make_model("DGRM")
    trainer = trainer_class(registry.model_class("DGRM"))(config, model)
    result = trainer.evaluate(loaders.eval_loader(config, splits, "test"))
    user, item, rating = (torch.as_tensor(column) for column in splits.triples("test"))
    error = model.predict({"user_id": user, "item_id": item}).double().clamp(1, 5) - rating
    assert result["rmse"] == pytest.approx(float(error.square().mean().sqrt()), abs=1e-5)
    assert result["mae"] == pytest.approx(float(error.abs().mean()), abs=1e-5)
    counts = np.unique(user.numpy(), return_counts=True)[1]
    pooled = np.sqrt((trainer.evaluator.per_user["rmse"] * counts).sum() / counts.sum())
    assert result["rmse"] == pytest.approx(pooled, abs=1e-5)


def errors(score, rating, clip=True) -> dict[str, float]:
    """RMSE and MAE, rating by rating; the scale is 1 to 5."""
    shown = [min(max(float(one), 1.0), 5.0) if clip else float(one) for one in score]
    each = [abs(one - other) for one, other in zip(shown, rating, strict=True)]
    return {"rmse": (sum(error**2 for error in each) / len(each)) ** 0.5, "mae": sum(each) / len(each)}


def wide(score):
    """Scores in the same order, of which many are outside the scale of 1 to 5."""
    return 9 * score - 24


def test_errors_are_of_clipped_predictions_and_rankings_of_unclipped_ones(make_config):
    config = make_config("MF", "noise", topk=[2])
    splits = build_splits(config)
    user, item, rating = splits.triples("test")
    inside = np.random.default_rng(0).uniform(1, 5, len(user))

    def row(score):
        pairs = RatedPredictions(user, item, score, rating, rated_protocol(config, splits.scale), splits.scale)
        return references.evaluated(evaluator := Evaluator(config), pairs), evaluator

    (found, evaluator), (same, _), (tied, _) = map(row, (wide(inside), inside, splits.scale.clipped(wide(inside))))
    assert {key: found[key] for key in ("rmse", "mae")} == pytest.approx(errors(wide(inside), rating))
    assert evaluator.unclipped == pytest.approx(errors(wide(inside), rating, clip=False))
    for key in ("ratedrecall@2", "ratedndcg@2"):
        assert found[key] == same[key] != tied[key]
    for place, one in enumerate(np.unique(user)):
        own = errors(wide(inside)[user == one], rating[user == one])
        assert evaluator.per_user["rmse"][place] == pytest.approx(own["rmse"] ** 2)
        assert evaluator.per_user["mae"][place] == pytest.approx(own["mae"])


def test_a_record_has_errors_of_clipped_predictions_and_beside_them_of_unclipped_ones(make_config, monkeypatch):
    for one in (registry.MODELS["MF"], Biases):
        narrow = one.predict
        monkeypatch.setattr(one, "predict", lambda *args, narrow=narrow: wide(narrow(*args)))
    record, path = run_one(config := make_config("MF", "noise", epochs=1, refit=False))
    run = load_run(path)
    user, item, rating = run.splits.triples("test")
    means = references.measure(config, run.splits).means.predict(user, item)
    score = {}
    for part in ("valid", "test"):
        ids = zip(("user_id", "item_id"), run.splits.triples(part), strict=False)
        score[part] = run.predict(*(run.splits.test.id2token(*each) for each in ids))
    assert record.unclipped == pytest.approx(errors(score["test"], rating, clip=False))
    for row, expected in (
        (record.valid, errors(score["valid"], run.splits.triples("valid")[2])),
        (record.test, of_model := errors(score["test"], rating)),
        (record.reference["bias"], of_means := errors(means, rating)),
    ):
        assert {key: row[key] for key in expected} == pytest.approx(expected)
    for name, expected in (("model", of_model), ("bias", of_means)):
        total = sum(group["n"] * group["mae"] for group in record.groups["items"][name])
        assert total == pytest.approx(len(rating) * expected["mae"])


@pytest.mark.parametrize("protocol", ["rated", "table3", "eq23"])
def test_reference_rows_frame_every_result(make_config, protocol):
    config = make_config("DGRM", "board", protocol=protocol, topk=[2], valid_metric="RMSE")
    rows = references.measure(config, build_splits(config)).rows
    for key in ("ratedrecall@2", "ratedndcg@2"):
        assert 0 < rows["random"][key] < rows["oracle"][key]
        assert rows["bias"][key] < rows["oracle"][key]
    assert rows["oracle"]["rmse"] == rows["oracle"]["ratingkl"] == 0
    assert rows["random"]["rmse"] > rows["bias"]["rmse"] * 0.9


@pytest.mark.parametrize("protocol", ["rated", "table3"])
def test_the_random_row_is_the_mean_over_random_orders(make_config, protocol):
    config = make_config("DGRM", topk=[2], valid_metric="RMSE", protocol=protocol)
    splits = build_splits(config)
    user, item, rating = splits.triples("test")
    rng = np.random.default_rng(0)
    rule = rated_protocol(config, splits.scale)

    def row(score):
        pairs = RatedPredictions(user, item, score, rating, rule, splits.scale)
        return references.evaluated(Evaluator(config), pairs)

    drawn = [row(rng.random(len(user))) for _ in range(100)]
    expected = references.measure(config, splits).rows["random"]
    for key in ("ratedrecall@2", "ratedndcg@2"):
        values = [row[key] for row in drawn]
        assert np.mean(values) == pytest.approx(expected[key], abs=4 * np.std(values) / np.sqrt(len(values)))


def ranked_by(config, splits, item_score) -> dict[str, float]:
    """Metrics of one score per item, the same for everybody, through RecBole's metrics."""
    collector, evaluator = Collector(config), Evaluator(config)
    for interaction, history, positive_u, positive_i in loaders.eval_loader(config, splits, "test"):
        scores = item_score.repeat(len(interaction), 1)
        scores[:, 0] = -torch.inf
        scores[history] = -torch.inf
        collector.eval_batch_collect(scores, interaction, positive_u, positive_i)
    return dict(evaluator.evaluate(collector.get_data_struct()))


def test_rows_of_full_ranking_are_means_over_the_orders_of_ties(make_config):
    config = make_config("DGRM", protocol="full", topk=[3, 10])
    splits = build_splits(config)
    rows = references.measure(config, splits).rows
    popularity = torch.bincount(splits.train.inter_feat["item_id"], minlength=splits.train.item_num)
    assert len(popularity[1:].unique()) < 0.6 * len(popularity)  # there are ties
    torch.manual_seed(0)
    for name, score in (("random", torch.zeros(len(popularity))), ("bias", popularity.float())):
        drawn = [ranked_by(config, splits, score + 0.5 * torch.rand(len(score))) for _ in range(100)]
        assert set(rows[name]) == set(drawn[0])
        for key, value in rows[name].items():
            values = [row[key] for row in drawn]
            assert np.mean(values) == pytest.approx(value, abs=4 * np.std(values) / np.sqrt(len(values))), key


def test_the_oracle_row_of_full_ranking_cannot_be_beaten(make_config):
    config = make_config("DGRM", protocol="full")
    rows = references.measure(config, build_splits(config)).rows
    assert rows["oracle"]["ndcg@10"] == rows["oracle"]["mrr@10"] == 1
    assert all(rows["random"][key] < rows["oracle"][key] for key in rows["oracle"])


def test_skill_is_0_for_random_and_1_for_the_oracle():
    rows = {"random": {"a": 0.4, "rmse": 1.1, "same": 1.0}, "oracle": {"a": 0.8, "rmse": 0.0, "same": 1.0}}
    assert references.skill(rows["random"], rows) == {"a": 0.0, "rmse": 0.0}
    assert references.skill(rows["oracle"], rows) == {"a": 1.0, "rmse": 1.0}
    assert references.skill({"a": 0.5, "unknown": 3.0}, rows) == pytest.approx({"a": 0.25})


@pytest.mark.parametrize("name", ["Pop", "EASE", "NGCF", "SpectralCF"])  # the last two need a repair of scipy
def test_recboles_models_run_and_leave_the_same_files(make_config, name):
    record, path = run_one(make_config(name, protocol="full", epochs=1, refit=False))
    assert record.status == "finished"
    assert 0 < record.test["recall@10"] <= record.reference["oracle"]["recall@10"]
    assert {file.name for file in path.iterdir()} >= {"record.json", "checkpoint.pt", "per_user.npz", "config.yaml"}


@pytest.mark.parametrize("name", ["ItemKNN", "LightGCN", "MultiVAE"])
def test_recboles_models_rank_rated_items_and_their_scores_are_not_taken_for_ratings(make_config, name):
    record, path = run_one(make_config(name, epochs=1, refit=False))
    assert set(record.test) == {"ratedrecall@5", "ratedndcg@5"}
    assert "rmse" not in record.skill
    again, _ = resume(interrupted(path))
    assert again.test == record.test


def test_a_missing_library_is_named(make_config, monkeypatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UnknownModel, match="NCL needs the library faiss, which is not installed"):
        run_one(make_config("NCL"))


def test_the_collector_keeps_counts_between_evaluations(make_config):
    config = make_config("Pop", protocol="full")
    collector = Collector(config)
    setattr(collector.register, "data.num_items", True)  # as a metric of somebody else may ask
    collector.data_collect(loaders.train_loader(config, build_splits(config), "train"))
    for _ in range(2):
        assert collector.get_data_struct().get("data.num_items") > 0
