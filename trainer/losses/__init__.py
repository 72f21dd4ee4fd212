"""The contrastive objectives, exact over any number of processes, in tiles."""
