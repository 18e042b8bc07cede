"""Scores of many users by any model, ours or RecBole's, a batch at a time."""

from collections.abc import Iterator

import torch
from recbole.data.interaction import Interaction
from torch import Tensor

PAIRS = 1 << 17  # user-item pairs scored at once, for models that know no full ranking
AT_ONCE = 1 << 23  # scores of a batch


def all_scores(model, config, users: Tensor, n_items: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of users and their scores ``(B, n_items)``, that of the padding item minus infinity."""
    for batch in users.split(max(1, min(config.run.eval_batch_size, AT_ONCE // n_items))):
        given = Interaction({config["USER_ID_FIELD"]: batch}).to(config["device"])
        try:
            scores = model.full_sort_predict(given).view(len(batch), n_items).clone()
        except NotImplementedError:  # some of RecBole's score pair by pair
            scores = torch.cat(
                [_pair_scores(model, config, part, n_items) for part in batch.split(PAIRS // n_items + 1)]
            )
        scores[:, 0] = -torch.inf
        yield batch, scores


def _pair_scores(model, config, users: Tensor, n_items: int) -> Tensor:
    pairs = {config["USER_ID_FIELD"]: users.repeat_interleave(n_items),
             config["ITEM_ID_FIELD"]: torch.arange(n_items).repeat(len(users))}  # fmt: skip
    return model.predict(Interaction(pairs).to(config["device"])).view(len(users), n_items)
