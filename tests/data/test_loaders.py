"""Batches of training and of evaluation, and the rank of items among ties."""

import numpy as np
import pytest
import torch
from helpers import random_ratings, write_ratings

from recbole_dgrm.data import loaders
from recbole_dgrm.data.splits import build_splits


@pytest.mark.parametrize("model", ["DGRM", "MultiDAE"])
def test_batches_hold_every_user_once_and_never_the_padding_user(make_config, model):
    config = make_config(model, train_batch_size=7)
    splits = build_splits(config)
    loader = loaders.train_loader(config, splits, "train")
    epochs = [torch.cat([batch["user_id"] for batch in loader]) for _ in range(2)]
    for users in epochs:
        assert sorted(users.tolist()) == list(range(1, splits.train.user_num))
    assert not torch.equal(*epochs)


@pytest.mark.parametrize("size", [4, 1000])
def test_evaluation_batches_hold_every_pair_once_whole_users_at_a_time(make_config, size):
    config = make_config(eval_batch_size=size)
    splits = build_splits(config)
    batches = [interaction for interaction, *_ in loaders.eval_loader(config, splits, "test")]
    users = [set(batch["user_id"].tolist()) for batch in batches]
    assert all(len(group) <= size for group in users)
    assert sum(map(len, users)) == len(set.union(*users))
    got = np.concatenate(
        [np.stack([batch[name].numpy() for name in ("user_id", "item_id", "rating")], 1) for batch in batches]
    )
    expected = np.stack(splits.triples("test"), 1)
    np.testing.assert_array_equal(got[np.lexsort(got.T)], expected[np.lexsort(expected.T)])
    assert (got[:, :2] > 0).all()


def test_items_are_ranked_by_their_own_ids_not_by_the_rows_of_the_file(make_config, tmp_path):
    def build(table):
        write_ratings(tmp_path, "mine", table)
        return build_splits(make_config(dataset="mine", data_path=str(tmp_path)))

    table = random_ratings().astype({"item_id": str})
    shuffled = table.sample(frac=1, random_state=0)
    for rows in (table, shuffled):
        splits = build(rows)
        tokens = splits.test.field2id_token["item_id"][1:].astype(int)
        np.testing.assert_array_equal(np.argsort(loaders.item_rank(splits.test)[1:].numpy()), np.argsort(tokens))
    named = build(table.assign(item_id="item" + table["item_id"]))
    tokens = named.test.field2id_token["item_id"][1:].astype(str)
    np.testing.assert_array_equal(np.argsort(loaders.item_rank(named.test)[1:].numpy()), np.argsort(tokens))
