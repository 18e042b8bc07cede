"""Settings that models refuse, and training without dense profiles."""

import pytest
import torch

from recbole_dgrm.errors import OptionError
from recbole_dgrm.maths.sparse import Places
from recbole_dgrm.models.base import ProfileRecommender
from recbole_dgrm.testing import interaction


@pytest.mark.parametrize(
    ("name", "keys", "reason"),
    [
        ("BMF", {"burn_in": 12, "epochs": 12}, "burn_in=12 leaves none of epochs=12"),
        (
            "DGRMPlus",
            {"prediction": "posterior", "noise_support": "all"},
            "prediction=posterior needs orientation=user",
        ),
        ("DiffRec", {"sampling_steps": 9}, r"sampling_steps=9 is out of range; allowed: 0\.\.steps=5"),
        ("MF", {"protocol": "full"}, "unrated_weight=0 learns a constant"),
        ("NCF", {"use_pretrain": True}, "unknown key 'use_pretrain'"),
        ("CFGAN", {"n_negatives": 1.5}, r"n_negatives=1.5 is not .* \(a number of at least 1, or in \(0, 0.99\]\)"),
        ("PRGAN", {"rated_items": 5}, r"rated_items=5 is out of range; allowed: 1\.\.record_items=4"),
    ],
)
def test_settings_that_a_model_cannot_have_are_refused(make_model, name, keys, reason):
    with pytest.raises(OptionError, match=reason):
        make_model(name, **keys)


@pytest.mark.parametrize(("name", "protocol"), [("CFGAN", "rated"), ("ICDAE", "rated"), ("ICDAE", "full")])
def test_training_makes_no_profile(make_model, monkeypatch, name, protocol):
    config, _, model = make_model(name, protocol=protocol)
    monkeypatch.setattr(Places, "dense", None)
    monkeypatch.setattr(ProfileRecommender, "profiles", None)
    for phase in model.phases():
        assert torch.isfinite(phase.loss(interaction(config, [4, 1, 7, 2])))
