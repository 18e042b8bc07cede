"""Scores of any model of ours or RecBole's, computed in batches: of all items for many users, or of single pairs."""

from collections.abc import Iterator

import torch
from recbole.data.interaction import Interaction
from recbole.model.abstract_recommender import AutoEncoderMixin
from torch import Tensor

from recbole_dgrm.models.base import entries_of

PAIRS = 1 << 17  # user-item pairs scored at once, for models that only score single pairs
AT_ONCE = 1 << 23  # scores in a batch, at most


def all_scores(model, config, users: Tensor, n_items: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Batches of users and their scores ``(B, n_items)``; the score of the padding item is minus infinity."""
    for batch in batches(config, users, n_items):
        given = Interaction({config["USER_ID_FIELD"]: batch}).to(config["device"])
        try:
            scores = model.full_sort_predict(given).view(len(batch), n_items).clone()
        except NotImplementedError:  # some of RecBole's models score pair by pair
            parts = batch.split(PAIRS // n_items + 1)
            scores = torch.cat([_all_pairs(model, config, part, n_items) for part in parts])
        scores[:, 0] = -torch.inf
        yield batch, scores


def batches(config, users: Tensor, n_items: int) -> tuple[Tensor, ...]:
    """Users in batches whose scores of all items fit into memory."""
    return users.split(max(1, min(config.run.eval_batch_size, AT_ONCE // n_items)))


def pair_scores(model, config, pairs: Interaction) -> Tensor:
    """The scores ``(n,)`` of user-item pairs that the model's ``predict`` computes.

    ``predict`` of RecBole's autoencoders computes a whole profile for each pair; here it is computed once per user.
    """
    if not _predicts_whole_profiles(model):
        return _predicted(model, config, pairs)
    user, row = torch.unique(pairs[config["USER_ID_FIELD"]].to(config["device"]), return_inverse=True)
    blocks = (scores for _, scores in all_scores(model, config, user, model.n_items))
    return entries_of(blocks, row, pairs[config["ITEM_ID_FIELD"]].to(row.device))


def _predicts_whole_profiles(model) -> bool:
    """Whether ``predict`` only takes entries of RecBole's ``full_sort_predict``.

    It does not if the scores are random, which an option of LDiffRec makes them: then each pair has its own noise.
    """
    is_theirs = isinstance(model, AutoEncoderMixin) and type(model).predict.__module__.startswith("recbole.")
    return is_theirs and not (getattr(model, "sampling_steps", 0) or getattr(model, "sampling_noise", False))


def _predicted(model, config, pairs: Interaction) -> Tensor:
    parts = (pairs[start : start + PAIRS] for start in range(0, len(pairs), PAIRS))
    return torch.cat([model.predict(part.to(config["device"])).flatten() for part in parts])


def _all_pairs(model, config, users: Tensor, n_items: int) -> Tensor:
    user, item = users.repeat_interleave(n_items), torch.arange(n_items).repeat(len(users))
    pairs = Interaction({config["USER_ID_FIELD"]: user, config["ITEM_ID_FIELD"]: item})
    return _predicted(model, config, pairs).view(len(users), n_items)
