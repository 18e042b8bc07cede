"""From a file of ratings to batches: reading, checks, the rating scale, one split for every model."""

ITEM_RANK = "item_rank"  # column of evaluation batches: rank of the item by its external id, see ``loaders.item_rank``
