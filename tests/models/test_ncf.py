import pytest
from helpers import random_ratings, write_ratings

from recbole_dgrm.data import loaders
from recbole_dgrm.data.splits import build_splits
from recbole_dgrm.models.base import Phase
from recbole_dgrm.testing import ModelContract


class TestNCF(ModelContract):
    model = "NCF"

    def phases(self, model):
        return [Phase("all", list(model.parameters()), model.calculate_loss, 1, 0.1)]


def test_ratings_are_trained_without_negatives_and_implicit_feedback_with(make_config):
    for protocol, negatives in [("rated", False), ("full", True)]:
        config = make_config("NCF", protocol=protocol)
        splits = build_splits(config)
        seen = set(zip(*(column.tolist() for column in splits.triples("train")[:2]), strict=True))
        batch = next(iter(loaders.train_loader(config, splits, "train")))
        pairs = set(zip(batch["user_id"].tolist(), batch["item_id"].tolist(), strict=True))
        assert bool(pairs - seen) == negatives


def test_the_output_is_not_squashed(make_model, tmp_path):
    table = random_ratings()
    table["rating"] *= 20
    write_ratings(tmp_path, "large", table)
    _, splits, model = make_model("NCF", "large", data_path=str(tmp_path))
    predicted = model.predict(splits.train.inter_feat)
    assert float(predicted.mean()) == pytest.approx(float(splits.train.inter_feat["rating"].mean()), rel=0.05)
