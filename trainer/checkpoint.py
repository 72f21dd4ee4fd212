"""Checkpoints: everything a run needs to go on, written aside, synced, renamed and verified.

A folder `step-00000123` holds safetensors files, `state.json` and, written last, `manifest.json`
with a SHA-256 of each. No generator state is held, because there is none, and nothing is pickled.
"""

import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import safetensors.torch
import torch
from torch import Tensor

from trainer.files import sha256, sync_folder, to_json, write_durably

KEEP = 2

log = logging.getLogger(__name__)

Tensors = dict[str, Tensor]


@dataclass(frozen=True)
class Checkpoint:
    """A run after `step` steps."""

    step: int
    model: Tensors
    moments: Tensors
    """`first.NAME` and `second.NAME` of every parameter that was ever updated."""
    seen: npt.NDArray[np.bool_]
    """Per row of the dataset: was it used at least once."""
    bad: npt.NDArray[np.int64]
    """Rows that were replaced, sorted."""
    facts: dict[str, Any]
    """JSON values: configuration, dataset digest, counters, rows of metrics."""


def save(root: Path, checkpoint: Checkpoint) -> None:
    """Add a checkpoint below `root`, then drop those that two newer sound ones make needless."""
    root.mkdir(parents=True, exist_ok=True)
    folder = root / f"step-{checkpoint.step:08d}"
    aside = root / f".{folder.name}.tmp"
    for stale in (folder, aside):
        shutil.rmtree(stale, ignore_errors=True)
    aside.mkdir()
    files = _encode(checkpoint)
    for name, data in files.items():
        write_durably(aside / name, data)
    digests = {name: sha256(data) for name, data in files.items()}
    write_durably(aside / "manifest.json", to_json(digests))
    sync_folder(aside)
    aside.rename(folder)
    sync_folder(root)
    _prune(root)


def newest(root: Path) -> Checkpoint | None:
    """The latest checkpoint whose files all have their digests, or None; others are passed over."""
    for folder in _newest_first(root):
        files = _read(folder)
        if files is not None:
            return _decode(files)
        log.warning("%s is damaged; trying the one before it", folder)
    return None


def _encode(checkpoint: Checkpoint) -> dict[str, bytes]:
    rows = {
        "seen": torch.from_numpy(np.packbits(checkpoint.seen)),
        "bad": torch.from_numpy(checkpoint.bad),
    }
    state = {"step": checkpoint.step, "rows": len(checkpoint.seen), "facts": checkpoint.facts}
    return {
        "model.safetensors": safetensors.torch.save(checkpoint.model),
        "moments.safetensors": safetensors.torch.save(checkpoint.moments),
        "rows.safetensors": safetensors.torch.save(rows),
        "state.json": to_json(state),
    }


def _decode(files: dict[str, bytes]) -> Checkpoint:
    state = json.loads(files["state.json"])
    rows = safetensors.torch.load(files["rows.safetensors"])
    return Checkpoint(
        step=state["step"],
        model=safetensors.torch.load(files["model.safetensors"]),
        moments=safetensors.torch.load(files["moments.safetensors"]),
        seen=np.unpackbits(rows["seen"].numpy(), count=state["rows"]).astype(bool),
        bad=rows["bad"].numpy(),
        facts=state["facts"],
    )


def _read(folder: Path) -> dict[str, bytes] | None:
    """The files of a checkpoint, or None if any is missing or altered."""
    try:
        digests = json.loads((folder / "manifest.json").read_bytes())
        files = {name: (folder / name).read_bytes() for name in digests}
    except (OSError, ValueError):
        return None
    sound = all(sha256(data) == digests[name] for name, data in files.items())
    return files if sound else None


def _prune(root: Path) -> None:
    sound = 0
    for folder in _newest_first(root):
        if sound >= KEEP:
            shutil.rmtree(folder)
        elif _read(folder) is not None:
            sound += 1


def _newest_first(root: Path) -> Iterator[Path]:
    return iter(sorted(root.glob("step-*"), reverse=True))
