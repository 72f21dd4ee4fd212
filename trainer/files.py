"""Files that survive a crash: bytes on the disk before a name points at them."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any


def sha256(data: bytes) -> str:
    """The digest as 64 hex digits."""
    return hashlib.sha256(data).hexdigest()


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
    write_durably(aside, data)
    aside.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the folder's names are on the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
