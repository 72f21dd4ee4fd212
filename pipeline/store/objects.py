"""Storage: whole objects by path under one root, on a local disk, in memory or in a bucket.

Only what a commit protocol needs: read, write, write-if-absent, list, delete. Failures that a
person can put right become one `StorageError` that says where.
"""

import errno
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, from_url
from typing_extensions import Buffer

from pipeline.errors import StorageError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

STREAM_BYTES = 1 << 22
EPOCH_YEAR = 1970

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

    def open(self, path: str) -> BinaryIO:
        """The object as a stream that fetches what is read; FileNotFoundError if there is none."""
        with self._explained("read", path):
            chunks = iter(obstore.get(self._store, path).stream(min_chunk_size=STREAM_BYTES))
        return io.BufferedReader(_Stream(self, path, chunks), STREAM_BYTES)

    def facts(self, path: str) -> "ObjectFacts | None":
        """Size and version of an object, None if there is none."""
        try:
            with self._explained("read", path):
                return _facts(obstore.head(self._store, path))
        except FileNotFoundError:
            return None

    def listing(self, prefix: str) -> "Iterator[ObjectFacts]":
        """Size and version of all objects below a folder, in no order."""
        with self._explained("list", prefix):
            for page in obstore.list(self._store, prefix or None):
                for meta in page:
                    yield _facts(meta)

    def get_ranges(self, path: str, starts: Sequence[int], ends: Sequence[int]) -> list[memoryview]:
        """Several byte ranges of one object."""
        with self._explained("read", path):
            payloads = obstore.get_ranges(self._store, path, starts=starts, ends=ends)
            return [memoryview(part) for part in payloads]

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
            listed = obstore.list_with_delimiter(self._store, prefix or None)
            return sorted(str(path) for path in listed["common_prefixes"])

    def delete(self, paths: Sequence[str]) -> None:
        """Delete objects; ones that are gone already are no error."""
        for path in paths:
            try:
                with self._explained("delete", path):
                    obstore.delete(self._store, path)
            except FileNotFoundError:
                continue

    def __repr__(self) -> str:
        return f"<Store {self.url}>"

    @contextmanager
    def _explained(self, verb: str, path: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, AlreadyExistsError):
            raise
        except (BaseError, OSError) as error:
            raise StorageError(_explanation(verb, f"{self.url}/{path}", error)) from error


@dataclass(frozen=True)
class ObjectFacts:
    """What a listing says of an object; `version` is empty where its server tells no version."""

    path: str
    size_bytes: int
    version: str


def _facts(meta: Mapping[str, Any]) -> ObjectFacts:
    changed = meta["last_modified"]  # 1970 where a server does not tell
    version = meta["e_tag"] or meta["version"] or ""
    if not version and changed.year > EPOCH_YEAR:
        version = changed.isoformat()
    return ObjectFacts(str(meta["path"]), int(meta["size"]), version)


class _Stream(io.RawIOBase):
    """Chunks as they arrive, as a stream of Python's: no server has to answer range requests."""

    def __init__(self, store: Store, path: str, chunks: Iterator[Buffer]) -> None:
        self._store, self._path, self._chunks = store, path, chunks
        self._rest = memoryview(b"")

    def readable(self) -> bool:
        """Always."""
        return True

    def readinto(self, buffer: Buffer) -> int:
        """Fill the buffer as far as there are bytes; 0 at the end."""
        view = memoryview(buffer).cast("B")
        while not self._rest:
            with self._store._explained("read", self._path):
                chunk = next(self._chunks, None)
            if chunk is None:
                return 0
            self._rest = memoryview(chunk).cast("B")
        size = min(len(view), len(self._rest))
        view[:size], self._rest = self._rest[:size], self._rest[size:]
        return size


def _connect(url: str) -> "ObjectStore":
    if url.startswith("memory://"):
        return _MEMORY.setdefault(url, MemoryStore())
    if "://" in url:
        if url.startswith("http://"):
            return from_url(url, client_options={"allow_http": True})
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
