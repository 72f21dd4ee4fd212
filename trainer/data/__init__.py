"""From a dataset's folder to batches of a run: shards, order, pixels, workers."""
