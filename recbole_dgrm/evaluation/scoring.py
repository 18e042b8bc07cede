"""Scores of all items for many users, by any model of ours or RecBole's, a batch at a time."""

from collections.abc import Iterator

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

PAIRS = 1 << 17  # user-item pairs scored at once, for models that know no full ranking
AT_ONCE = 1 << 23  # scores of a batch at most


def all_scores(model, config, users: Tensor, n_items: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of users and their scores ``(B, n_items)``; the padding item scores minus infinity."""
    for batch in users.split(max(1, min(config.run.eval_batch_size, AT_ONCE // n_items))):
        given = Interaction({config["USER_ID_FIELD"]: batch}).to(config["device"])
        try:
            scores = model.full_sort_predict(given).view(len(batch), n_items).clone()
        except NotImplementedError:  # some of RecBole's models score pair by pair
            parts = batch.split(PAIRS // n_items + 1)
            scores = torch.cat([_pair_scores(model, config, part, n_items) for part in parts])
        scores[:, 0] = -torch.inf
        yield batch, scores


def _pair_scores(model, config, users: Tensor, n_items: int) -> Tensor:
    user, item = users.repeat_interleave(n_items), torch.arange(n_items).repeat(len(users))
    pairs = Interaction({config["USER_ID_FIELD"]: user, config["ITEM_ID_FIELD"]: item})
    return model.predict(pairs.to(config["device"])).view(len(users), n_items)
