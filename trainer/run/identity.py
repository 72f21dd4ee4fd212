"""What makes a run the same run, told field by field, and what a checkpoint was written by."""

import platform
from collections.abc import Mapping
from typing import Any

import torch

from pipeline.dataset.provenance import revision
from trainer.parallel.world import World


def differences(there: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """What two identities have apart, field by field; empty if nothing."""
    found = []
    if there["dataset"] != here["dataset"]:
        found.append(f"dataset: digest {there['dataset']} there, {here['dataset']} here")
    if there.get("start") != here.get("start"):
        found.append("start: other weights to start from")
    old, new = there["train"], here["train"]
    for name in sorted(old.keys() | new.keys()):
        if old.get(name) != new.get(name):
            found.append(f"{name}: {old.get(name)!r} there, {new.get(name)!r} here")
    return "; ".join(found)


def made_by(world: World) -> dict[str, Any]:
    """What wrote a checkpoint: for people, not for resuming."""
    return {
        "revision": revision(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": world.device.type,
        "world_size": world.size,
    }
