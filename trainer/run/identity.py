"""What makes a run the same run, compared field by field, and what wrote a checkpoint."""

import platform
from collections.abc import Mapping
from typing import Any

import torch

from pipeline.dataset.provenance import revision
from trainer.parallel.world import World

UNRECORDED = 3
"""The version of checkpoints that record none."""


def differences(
    recorded: Mapping[str, Any], current: Mapping[str, Any], defaults: Mapping[str, Any]
) -> str:
    """How a checkpoint's identity differs from this run's, field by field; empty if not at all.

    A field of the configuration that one side lacks has its value in `defaults` there. So a
    checkpoint matches whether it records all fields or only those that differ from their default,
    and whether or not it was written before a field came to be.
    """
    parts = []
    if recorded["dataset"] != current["dataset"]:
        parts.append(f"dataset: digest {recorded['dataset']} there, {current['dataset']} here")
    if recorded.get("start") != current.get("start"):
        parts.append("start: other weights to start from")
    # Checkpoints of the first versions do not say which: the third was the last of those.
    if (version := recorded.get("version", UNRECORDED)) != current["version"]:
        parts.append(f"version: {version} there, {current['version']} here")
    old, new = ({**defaults, **identity["train"]} for identity in (recorded, current))
    for name in sorted(old.keys() | new.keys()):
        if name not in old or name not in new or old[name] != new[name]:
            parts.append(f"{name}: {_shown(name, old)} there, {_shown(name, new)} here")
    return "; ".join(parts)


def _shown(name: str, values: Mapping[str, Any]) -> str:
    return repr(values[name]) if name in values else "unknown"


def made_by(world: World) -> dict[str, Any]:
    """What wrote a checkpoint: for people, not for resuming."""
    return {
        "revision": revision(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": world.device.type,
        "world_size": world.size,
    }
