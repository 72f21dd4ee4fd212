"""One checkpoint on the disk: how its folder is written, verified, read, replaced and removed.

A folder `step-00000123` holds `model.safetensors`, `moments.safetensors`, `state.json` and, written
last, `manifest.json` with size and SHA-256 of each. Nothing is pickled. `manager` decides which
checkpoints are kept and which one is resumed.
"""

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from secrets import token_hex
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from trainer.checkpoints.files import file_sha256, sync, to_json, write_durably

MODEL, MOMENTS, STATE = "model.safetensors", "moments.safetensors", "state.json"
FILES = (MODEL, MOMENTS, STATE)
MANIFEST = "manifest.json"
NAME = re.compile(r"step-(\d{8,})(\.old)?")

Tensors = dict[str, Tensor]


@dataclass(frozen=True, repr=False)
class Checkpoint:
    """The state of a run after `step` steps."""

    step: int
    model: Tensors
    moments: Tensors
    """`first.NAME` and `second.NAME` of every parameter that was ever updated."""
    facts: dict[str, Any]
    """JSON values, and dataclasses of numbers. Retention reads two: `good` (bool: a run may be
    rewound to it) and `score` (float or None, lower is better)."""

    def __repr__(self) -> str:
        tensors = [*self.model.values(), *self.moments.values()]
        size = sum(tensor.nbytes for tensor in tensors)
        return f"Checkpoint(step {self.step:,}, {len(tensors)} tensors, {size / 1e6:,.1f} MB)"


def newest_first(root: Path) -> Iterator[Path]:
    """Folders named as checkpoints, highest step first; one being replaced after its successor."""
    named = [path for path in root.glob("step-*") if NAME.fullmatch(path.name)]
    return iter(sorted(named, key=lambda path: (step_of(path), path.suffix == ""), reverse=True))


def step_of(folder: Path) -> int:
    """The step that the folder's name says."""
    name = NAME.fullmatch(folder.name)
    assert name
    return int(name[1])


def encode_state(step: int, facts: dict[str, Any]) -> bytes:
    """`state.json`: compact, for facts may be long."""
    return json.dumps({"step": step, "facts": facts}, sort_keys=True, default=asdict).encode()


def write(folder: Path, model: Tensors, moments: Tensors, state: bytes) -> None:
    """Write a checkpoint's files to a temporary folder, then rename it to `folder`.

    What killed saves left behind is removed first. `state` comes from `encode_state`. Raises
    OSError or SafetensorError, after removing what was written.
    """
    for stale in folder.parent.glob(".step-*"):
        shutil.rmtree(stale, ignore_errors=True)  # another process may still be reading it
    aside = folder.with_name(f".{folder.name}.{token_hex(4)}.tmp")
    aside.mkdir()
    try:
        write_durably(aside / STATE, state)
        for name, tensors in ((MODEL, model), (MOMENTS, moments)):
            save_file(tensors, aside / name)
            # safetensors writes for the owner alone, whatever the umask says.
            shutil.copymode(aside / STATE, aside / name)
            sync(aside / name)
        write_durably(aside / MANIFEST, to_json({name: _entry(aside / name) for name in FILES}))
        sync(aside)
        _put_in_place(aside, folder)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise


def _put_in_place(aside: Path, folder: Path) -> None:
    """Rename; a folder of that name stays readable as `.old` until the new one is there."""
    old = folder.with_name(f"{folder.name}.old")
    replaced = folder.exists()
    if replaced:
        if old.exists():
            remove(old)
        folder.rename(old)
    aside.rename(folder)
    sync(folder.parent)
    if replaced:
        remove(old)


def remove(folder: Path) -> None:
    """Rename, then remove: a kill in between leaves nothing that looks like a damaged one."""
    gone = folder.with_name(f".{folder.name}.{token_hex(4)}.gone")
    folder.rename(gone)
    shutil.rmtree(gone)


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint's files, or None."""
    try:
        manifest = json.loads((folder / MANIFEST).read_bytes())
        if not isinstance(manifest, dict) or sorted(manifest) != sorted(FILES):
            return f"{MANIFEST} does not list its files"
        for name in FILES:
            # Sizes first: they cost nothing, and a file cut short need not be read.
            if (folder / name).stat().st_size != manifest[name]["bytes"]:
                return f"{name} is not of its size"
        for name in FILES:
            if file_sha256(folder / name) != manifest[name]["sha256"]:
                return f"{name} is not what was written"
        for name in (MODEL, MOMENTS):
            with safe_open(folder / name, "pt"):
                pass
        step = json.loads((folder / STATE).read_bytes())["step"]
        return None if step == step_of(folder) else f"it holds step {step}"
    except (OSError, ValueError, LookupError, TypeError, SafetensorError) as error:
        return f"{type(error).__name__}: {error}"


def read_facts(folder: Path) -> dict[str, Any]:
    """The facts alone; raises OSError, ValueError, LookupError or TypeError on a damaged folder."""
    facts: dict[str, Any] = json.loads((folder / STATE).read_bytes())["facts"]
    return facts


def read(folder: Path) -> Checkpoint:
    """A checkpoint in which `damage` found nothing."""
    return Checkpoint(
        step_of(folder), _load(folder / MODEL), _load(folder / MOMENTS), read_facts(folder)
    )


def _load(path: Path) -> Tensors:
    # Clones: the tensors of load_file are views of the file, which retention may remove.
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def _entry(path: Path) -> dict[str, Any]:
    return {"bytes": path.stat().st_size, "sha256": file_sha256(path)}
