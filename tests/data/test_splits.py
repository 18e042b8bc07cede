"""The parts of a split."""

import numpy as np
import torch
from helpers import random_ratings

from recbole_dgrm.data.splits import build_splits


def test_the_split_depends_on_the_seed_alone(make_config):
    first = build_splits(make_config())
    torch.rand(1000)
    np.random.rand(1000)
    assert build_splits(make_config("DGRMPlus", epochs=7)).fingerprint() == first.fingerprint()
    assert build_splits(make_config("BPR")).fingerprint() == first.fingerprint()
    assert build_splits(make_config(seed=1)).fingerprint() != first.fingerprint()


def test_the_parts_are_disjoint_whole_and_of_the_right_size(make_config):
    splits = build_splits(make_config())
    pairs = {part: set(zip(*splits.triples(part)[:2], strict=True)) for part in ("train", "valid", "known", "test")}
    assert not pairs["train"] & pairs["valid"]
    assert pairs["known"] == pairs["train"] | pairs["valid"]
    assert not pairs["known"] & pairs["test"]
    counts = np.bincount(random_ratings()["user_id"])
    test = np.bincount(splits.triples("test")[0] - 1)
    np.testing.assert_array_equal(np.sort(test), np.sort(np.ceil(0.2 * counts - 1e-9)))
    assert sum(splits.sizes()[key] for key in ("n_train", "n_valid", "n_test")) == len(random_ratings())


def test_recboles_own_split_is_left_alone_under_full_ranking(make_config):
    from recbole.data.dataset import Dataset

    config = make_config("Pop", protocol="full")
    ours = build_splits(config)
    torch.manual_seed(config["seed"])
    for part, theirs in zip(("train", "valid", "test"), Dataset(config).build(), strict=True):
        expected = zip(theirs.inter_feat["user_id"].tolist(), theirs.inter_feat["item_id"].tolist(), strict=True)
        assert set(zip(*ours.triples(part)[:2], strict=True)) == set(expected)


def test_all_parts_are_slices_of_one_table_that_gives_ids_as_recbole_does(make_config):
    splits = build_splits(make_config())
    kept = {part: getattr(splits, part).inter_feat.interaction for part in ("train", "valid", "known", "test")}
    assert {str(kept[part][name].dtype) for part in kept for name in ("user_id", "item_id")} == {"torch.int32"}
    assert len({kept[part]["user_id"].untyped_storage().data_ptr() for part in kept}) == 1
    train = splits.train.inter_feat
    for index in ([0, 2], np.array([0, 2]), torch.tensor([0, 2]), slice(0, 3, 2)):
        batch = train[index]
        assert batch["user_id"].dtype == torch.int64
        assert batch["user_id"].tolist() == train["user_id"][[0, 2]].tolist()
