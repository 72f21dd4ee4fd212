"""Benchmarks: ours and a peer on the same data in one run, medians and ratios."""
