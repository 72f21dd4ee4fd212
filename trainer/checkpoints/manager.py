"""A run's checkpoints: saved in the background, pruned, and the newest sound one found again.

No generator state is saved, because there is none; what the facts mean is up to the caller.
"""

import logging
import math
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from safetensors import SafetensorError

from trainer.checkpoints.files import WriterLock
from trainer.checkpoints.folder import (
    Checkpoint,
    Tensors,
    damage,
    encode_state,
    newest_first,
    read,
    read_facts,
    remove,
    step_of,
    write,
)
from trainer.errors import CheckpointError

__all__ = ["Checkpoint", "CheckpointManager", "newest"]

KEEP_GOOD = 2

log = logging.getLogger(__name__)

Stamp = tuple[tuple[str, int, int], ...]


def newest(root: Path, *, good: bool = False, before: float = math.inf) -> Checkpoint | None:
    """The latest checkpoint of a step below `before` that verifies, or None.

    `good` asks for one with `facts["good"]`.

    A checkpoint verifies if all its files have the recorded sizes and digests and can be parsed.
    Those that are passed over are logged with the reason.
    """
    for folder in newest_first(root):
        if step_of(folder) >= before:
            continue
        if reason := damage(folder):
            log.warning("%s: passed over, %s; trying the one before it", folder, reason)
        elif good and not read_facts(folder).get("good"):
            log.info("%s: passed over, it is not marked good", folder)
        else:
            log.info("%s: verified", folder)
            return read(folder)
    return None


class CheckpointManager:
    """Writes a run's checkpoints in the background and removes those that retention does not keep.

    Kept are the `keep_last` newest sound ones, the two newest that are marked good (the latest may
    prove bad yet), every one whose step is a multiple of `keep_every` and, with `keep_best`, the
    sound one with the lowest score. A damaged one never counts. One manager per folder: a
    second raises CheckpointError.
    """

    def __init__(
        self,
        root: Path,
        keep_last: int = 2,
        keep_every: int | None = None,
        keep_best: bool = False,
    ) -> None:
        assert keep_last >= 2, "one checkpoint alone cannot give way to another"
        root.mkdir(parents=True, exist_ok=True)
        self.root, self.keep_last = root, keep_last
        self.keep_every, self.keep_best = keep_every, keep_best
        self._lock = WriterLock(root / ".lock")
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None
        self._staged: Tensors = {}
        self._states: dict[Path, _FolderState] = {}

    def save(self, checkpoint: Checkpoint, discredited: int | None = None) -> None:
        """Copy a checkpoint and return; the copy is written while training goes on.

        Checkpoints from the step `discredited` up to this one are removed first. Waits for the
        previous save and raises what it raised. A step that was saved before is replaced. The facts
        must not be changed afterwards: they are encoded in the background.
        """
        self.wait()
        model = self._stage("model", checkpoint.model)
        moments = self._stage("moments", checkpoint.moments)
        copy = Checkpoint(checkpoint.step, model, moments, checkpoint.facts)
        self._pending = self._thread.submit(self._commit, copy, discredited)

    def wait(self) -> None:
        """Until the last save is on the disk; CheckpointError, with the reason, if it failed."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def close(self) -> None:
        """Wait, then let others write; raises what `wait` raises."""
        try:
            self.wait()
        finally:
            self._thread.shutdown()
            self._lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _stage(self, kind: str, tensors: Tensors) -> Tensors:
        """Copies in host memory, reused by every save; pinned where they come from a GPU."""
        copies = {}
        for name, tensor in tensors.items():
            held = self._staged.get(f"{kind}.{name}")
            if held is None or (held.shape, held.dtype) != (tensor.shape, tensor.dtype):
                held = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
                self._staged[f"{kind}.{name}"] = held
            copies[name] = held.copy_(tensor.detach(), non_blocking=True)
        if any(tensor.is_cuda for tensor in tensors.values()):
            torch.cuda.synchronize()
        return copies

    def _commit(self, checkpoint: Checkpoint, discredited: int | None) -> None:
        folder = self.root / f"step-{checkpoint.step:08d}"
        state = encode_state(checkpoint.step, checkpoint.facts)
        if discredited is not None:
            # First: a run that is killed in between goes back further, to the same rewind.
            self._discard(discredited, checkpoint.step)
        try:
            write(folder, checkpoint.model, checkpoint.moments, state)
        except (OSError, SafetensorError) as error:
            # safetensors gives the reason for a failed write only in the text of its error.
            full = "No space left" in str(error)
            raise CheckpointError(
                f"{folder}: not saved, {'the disk is full' if full else error}; "
                "the checkpoints before it are as they were"
            ) from error
        self._look(folder).sound = True
        try:
            self._prune()
        except OSError as error:
            log.warning("%s: older checkpoints stay, %s", self.root, error)

    def _discard(self, first: int, end: int) -> None:
        for folder in list(newest_first(self.root)):
            if first <= step_of(folder) < end:
                try:
                    self._remove(folder)
                except OSError as error:
                    log.warning("%s: it stays, %s", folder, error)

    def _remove(self, folder: Path) -> None:
        self._states.pop(folder, None)
        remove(folder)

    def _prune(self) -> None:
        folders = list(newest_first(self.root))
        last = list(islice(filter(self._is_sound, folders), self.keep_last))
        if len(last) < self.keep_last:
            return
        kept = {*last, *self._newest_good(folders), self._best(folders)}
        for folder in folders[folders.index(last[-1]) :]:
            milestone = self.keep_every is not None and step_of(folder) % self.keep_every == 0
            if folder not in kept and not milestone:
                self._remove(folder)

    def _newest_good(self, folders: list[Path]) -> list[Path]:
        good = (folder for folder in folders if self._look(folder).good)
        return list(islice(filter(self._is_sound, good), KEEP_GOOD))

    def _best(self, folders: list[Path]) -> Path | None:
        if not self.keep_best:
            return None
        ranked = sorted(folders, key=lambda folder: self._look(folder).score)
        scored = (folder for folder in ranked if self._look(folder).score < math.inf)
        return next(filter(self._is_sound, scored), None)

    def _look(self, folder: Path) -> "_FolderState":
        """What this process knows of a folder; read again only if its files have changed."""
        stamp = _stamp(folder)
        state = self._states.get(folder)
        if state is None or state.stamp != stamp:
            try:
                marks = _marks(read_facts(folder))
            except (OSError, ValueError, LookupError, TypeError, AttributeError):
                marks = (False, math.inf)
            state = self._states[folder] = _FolderState(stamp, *marks)
        return state

    def _is_sound(self, folder: Path) -> bool:
        state = self._look(folder)
        if state.sound is None:
            state.sound = damage(folder) is None
        return state.sound


@dataclass
class _FolderState:
    """What one process knows of a folder whose files have these sizes and times."""

    stamp: Stamp
    good: bool
    score: float
    sound: bool | None = None
    """None: not verified yet."""


def _marks(facts: dict[str, Any]) -> tuple[bool, float]:
    """`good` and `score` for retention; no score, or one that is not a number, ranks last."""
    score = facts.get("score")
    if score is None or math.isnan(score):
        score = math.inf
    return bool(facts.get("good")), float(score)


def _stamp(folder: Path) -> Stamp:
    stats = ((path.name, path.stat()) for path in sorted(folder.iterdir()))
    return tuple((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats)
