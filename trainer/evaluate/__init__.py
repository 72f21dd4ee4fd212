"""Evaluation of a finished model on sets in clip-benchmark's webdataset layout."""
