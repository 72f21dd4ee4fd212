"""Readers of pairs: finished datasets, foreign webdatasets and subsets of either."""
