"""Storage: whole objects by path under one root, on a local disk, in memory or in a bucket.

Only what a commit protocol needs: read, write, write-if-absent, list, delete. Failures that a
person can put right become one `StorageError` that says where.
"""

import errno
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, from_url

from pipeline.errors import StorageError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_MEMORY: dict[str, MemoryStore] = {}


class Store:
    """Objects below one root. Cheap to make; pickles by its URL, so it travels to workers."""

    def __init__(self, url: str) -> None:
        self.url = url if "://" in url else str(Path(url).absolute())
        self._store = _connect(self.url)

    def __reduce__(self) -> tuple[type["Store"], tuple[str]]:
        return (Store, (self.url,))

    @property
    def shared(self) -> bool:
        """Whether other processes can see it: an in-memory store lives and dies with this one."""
        return not self.url.startswith("memory://")

    def local(self, path: str) -> Path | None:
        """The file behind `path` where the store is a local folder, else None."""
        return Path(self.url) / path if "://" not in self.url else None

    def get(self, path: str) -> memoryview:
        """The whole object; FileNotFoundError if there is none."""
        with self._explained("read", path):
            return memoryview(obstore.get(self._store, path).bytes())

    def get_ranges(self, path: str, starts: Sequence[int], ends: Sequence[int]) -> list[memoryview]:
        """Several byte ranges of one object."""
        with self._explained("read", path):
            found = obstore.get_ranges(self._store, path, starts=starts, ends=ends)
            return [memoryview(part) for part in found]

    def put(self, path: str, data: bytes | memoryview) -> None:
        """Write an object whole: a reader sees all of it or none."""
        with self._explained("write", path):
            obstore.put(
                self._store, path, obstore.Bytes(memoryview(data).cast("B")), use_multipart=False
            )

    def create(self, path: str, data: bytes | memoryview) -> bool:
        """Write an object unless it exists; False if another writer was first."""
        try:
            with self._explained("write", path):
                body = obstore.Bytes(memoryview(data).cast("B"))
                obstore.put(self._store, path, body, mode="create", use_multipart=False)
        except AlreadyExistsError:
            return False
        return True

    def exists(self, path: str) -> bool:
        """Whether there is an object at `path`."""
        try:
            with self._explained("read", path):
                obstore.head(self._store, path)
        except FileNotFoundError:
            return False
        return True

    def paths(self, prefix: str) -> list[str]:
        """The paths of all objects below a folder, sorted."""
        with self._explained("list", prefix):
            pages = obstore.list(self._store, prefix)
            return sorted(str(meta["path"]) for page in pages for meta in page)

    def folders(self, prefix: str = "") -> list[str]:
        """The names of the folders directly below `prefix`, sorted."""
        with self._explained("list", prefix):
            found = obstore.list_with_delimiter(self._store, prefix or None)
            return sorted(str(path) for path in found["common_prefixes"])

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects; ones that are gone already are no error."""
        for path in paths:
            try:
                with self._explained("delete", path):
                    obstore.delete(self._store, path)
            except FileNotFoundError:
                continue

    @contextmanager
    def _explained(self, verb: str, path: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, AlreadyExistsError):
            raise
        except (BaseError, OSError) as error:
            raise StorageError(_explanation(verb, f"{self.url}/{path}", error)) from error


def _connect(url: str) -> "ObjectStore":
    if url.startswith("memory://"):
        return _MEMORY.setdefault(url, MemoryStore())
    if "://" in url:
        return from_url(url)
    try:
        return LocalStore(url, mkdir=True, automatic_cleanup=True)
    except (BaseError, OSError) as error:
        raise StorageError(_explanation("open", url, error)) from error


def _explanation(verb: str, where: str, error: Exception) -> str:
    what = str(error).splitlines()[0]
    if f"os error {errno.ENOSPC}" in str(error) or os.strerror(errno.ENOSPC) in str(error):
        return (
            f"cannot {verb} {where}: the disk is full; free some space and run the same command "
            "again, nothing committed is lost"
        )
    return f"cannot {verb} {where}: {what}"
