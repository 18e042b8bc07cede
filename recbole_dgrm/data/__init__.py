"""From a file of ratings to batches: reading, checks, the rating scale, one split for every model."""

ITEM_RANK = "item_rank"  # column of evaluation batches: place of the item among all, by the data's own ids
