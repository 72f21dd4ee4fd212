"""Training on the shards, evaluation on held-out sets, and the report."""
