"""Scores of single pairs are those of the model's ``predict``, whichever way they are computed."""

import pytest
import torch

from recbole_dgrm.data import loaders
from recbole_dgrm.evaluation import scoring
from recbole_dgrm.models import registry
from recbole_dgrm.testing.contract import interaction
from recbole_dgrm.training.recorded_trainer import RecordedTrainer
from recbole_dgrm.training.trainers import trainer_class

BY_USER = ["MultiVAE", "MultiDAE", "RecVAE", "CDAE", "MacridVAE", "RaCT", "LDiffRec"]
NOISY = {"sampling_steps": 2}, {"sampling_noise": True}


@pytest.fixture
def scored(make_model):
    """``scored(name, **overrides)``: the config, the model and 60 pairs in no order, some of them twice."""

    def make(name, **overrides):
        config, splits, model = make_model(name, **overrides)
        draw = torch.Generator().manual_seed(0)
        user = torch.randint(1, splits.train.user_num, (60,), generator=draw)
        item = torch.randint(1, splits.train.item_num, (60,), generator=draw)
        return config, model.eval(), interaction(config, user, item)

    return make


def rows_of(monkeypatch, model) -> list[int]:
    """How many rows each call of the model's ``get_rating_matrix`` makes, from now on."""
    rows, original = [], model.get_rating_matrix

    def counted(user):
        rows.append(len(user))
        return original(user)

    monkeypatch.setattr(model, "get_rating_matrix", counted)
    return rows


@torch.no_grad()
@pytest.mark.parametrize("name", BY_USER)
def test_recboles_profile_models_score_each_user_once_and_as_they_predict(scored, monkeypatch, name):
    config, model, pairs = scored(name)
    expected, users = model.predict(pairs), len(torch.unique(pairs[model.USER_ID]))
    monkeypatch.setattr(scoring, "AT_ONCE", 7 * model.n_items)
    rows = rows_of(monkeypatch, model)
    torch.testing.assert_close(scoring.pair_scores(model, config, pairs), expected)
    assert sum(rows) == users < len(pairs)
    assert max(rows) == 7


@torch.no_grad()
@pytest.mark.parametrize("overrides", NOISY)
def test_where_scores_are_random_each_pair_keeps_a_draw_of_its_own(scored, overrides):
    config, model, pairs = scored("LDiffRec", **overrides)
    torch.manual_seed(1)
    expected = model.predict(pairs)
    assert not torch.equal(model.predict(pairs), expected)
    torch.manual_seed(1)
    assert torch.equal(scoring.pair_scores(model, config, pairs), expected)


@torch.no_grad()
def test_a_predict_of_its_own_is_obeyed(scored, monkeypatch):
    config, model, pairs = scored("MultiVAE")
    own = type("Own", (type(model),), {"predict": lambda self, pairs: pairs[self.ITEM_ID].float()})
    monkeypatch.setattr(model, "__class__", own)
    assert torch.equal(scoring.pair_scores(model, config, pairs), pairs[model.ITEM_ID].float())


@torch.no_grad()
@pytest.mark.parametrize("name", ["BPR", "DGRM", "MF", "NCF", "DiffRec"])
def test_other_models_predict_in_parts(scored, monkeypatch, name):
    config, model, pairs = scored(name)
    monkeypatch.setattr(scoring, "PAIRS", 8)
    torch.testing.assert_close(scoring.pair_scores(model, config, pairs), model.predict(pairs))


@pytest.mark.parametrize("name", ["MultiVAE", "BPR"])
def test_the_evaluation_of_rated_pairs_scores_them_so(make_model, monkeypatch, name):
    config, splits, model = make_model(name)
    trainer, data = (
        trainer_class(registry.model_class(name))(config, model),
        loaders.eval_loader(config, splits, "test"),
    )
    ours = trainer.evaluate(data)
    with monkeypatch.context() as patch:
        patch.delattr(RecordedTrainer, "_neg_sample_batch_eval")
        assert trainer.evaluate(data) == ours
    rows = rows_of(monkeypatch, model) if name == "MultiVAE" else []
    trainer.evaluate(data)
    assert sum(rows) == (len(data.users) if name == "MultiVAE" else 0)
