"""Evaluation tasks: zero-shot classification, retrieval, linear probes."""
