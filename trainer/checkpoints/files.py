"""Files that survive a crash: bytes are on the disk before a name points at them. And a lock."""

import fcntl
import hashlib
import json
import os
import socket
from pathlib import Path
from typing import Any
from weakref import WeakSet

from trainer.errors import CheckpointError


def sha256(data: bytes) -> str:
    """The digest as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """The digest of a file's bytes as 64 hex digits, without holding them all."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def to_json(value: Any) -> bytes:
    """Sorted, indented JSON with a newline at the end."""
    return (json.dumps(value, sort_keys=True, indent=1) + "\n").encode()


def write_durably(path: Path, data: bytes) -> None:
    """Write a new file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace_durably(path: Path, data: bytes) -> None:
    """Write beside `path`, then rename: a reader sees the old bytes or the new, never a part."""
    aside = path.with_name(f".{path.name}.tmp")
    try:
        write_durably(aside, data)
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's bytes, or a folder's names, are on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


class WriterLock:
    """One writer per folder: held by this process until `release`, or until it dies.

    The kernel drops the lock of a killed process, so the file that stays behind blocks no other.
    Raises CheckpointError, naming the holder, if another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.seek(0)
            holder = self._file.read().strip() or "another process"
            self._file.close()
            raise CheckpointError(
                f"{path.parent}: {holder} writes there; end it first, or use another folder"
            ) from None
        self._file.truncate(0)
        self._file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        self._file.flush()
        _HELD.add(self)

    def release(self) -> None:
        """Let others write; a second call does nothing."""
        self._file.close()


_HELD: WeakSet[WriterLock] = WeakSet()


def _forget_after_fork() -> None:
    # A lock lives as long as any copy of its descriptor: a worker that outlives its killed parent
    # must not go on holding it.
    for lock in list(_HELD):
        lock.release()


os.register_at_fork(after_in_child=_forget_after_fork)
