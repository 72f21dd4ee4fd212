"""Duplicates: pairs that meet by an exact key, and pictures that are nearly the same."""
