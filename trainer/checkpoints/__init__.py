"""What a run keeps on disk: checkpoints, weights, and how files become durable."""
