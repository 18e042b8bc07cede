"""From a file of ratings to batches: reading, checks, the rating scale, one split for every model."""
