"""Broad classes for the held-out drawings: the nine groups of Unicode's emoji charts.

The held-out set has one picture per name, which a probe cannot learn from; its names are in the
order of the charts, so a group is a range that begins with a name.
"""

from bisect import bisect
from pathlib import Path

from trainer.evaluate.sets import read_set

GROUPS = {
    "smileys and emotion": "grinning face",
    "people and body": "waving hand",
    "animals and nature": "monkey face",
    "food and drink": "grapes",
    "travel and places": "globe showing Europe-Africa",
    "activities": "jack-o-lantern",
    "objects": "glasses",
    "symbols": "ATM sign",
    "flags": "chequered flag",
}
"""The first name of each group that the held-out set has."""


def grouped(folder: Path) -> tuple[list[bytes], list[int]]:
    """The encoded pictures of a held-out set and, for each, the index of its group."""
    held_out = read_set(folder)
    begins = [held_out.classes.index(name) for name in GROUPS.values()]
    samples = list(held_out.samples())
    labels = [bisect(begins, sample.label) - 1 for sample in samples]
    return [sample.image for sample in samples], labels
