"""Encoded images by row number: inside a tar, in an Arrow file, or some of either.

Bytes are returned as they are stored; damaged ones cannot crash the process.
"""

import errno
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from pipeline.dataset.errors import DatasetError
from pipeline.dataset.uid import Ints

BUILD_AGAIN = "build the dataset again"
FEWER_FILES = "lower shuffle_shards, or raise the limit of open files (ulimit -n)"


class Images(Protocol):
    """Encoded images by row."""

    def __getitem__(self, row: int) -> bytes | memoryview:
        """The encoded bytes of the row."""


@dataclass(frozen=True)
class ChosenImages:
    """Some of the images, in the order of `rows`."""

    images: Images
    rows: Ints

    def __getitem__(self, row: int) -> bytes | memoryview:
        """The encoded bytes of the chosen row."""
        return self.images[int(self.rows[row])]


class TarImages:
    """Payloads inside a tar at known offsets; the file is closed with the last reference.

    Read by `pread`, not mapped: a file that shrinks meanwhile is an error and not a dead process.
    """

    def __init__(self, path: Path, offsets: Ints, sizes: Ints) -> None:
        try:
            self._file = os.open(path, os.O_RDONLY)
        except OSError as error:
            what = FEWER_FILES if error.errno == errno.EMFILE else BUILD_AGAIN
            raise DatasetError(f"{path}: {error.strerror}; {what}") from error
        self._path, self._offsets, self._sizes = path, offsets, sizes
        length = os.fstat(self._file).st_size
        outside = (offsets < 0) | (sizes < 0) | (offsets + sizes > length)
        if outside.any():
            raise DatasetError(
                f"{path}: row {int(outside.argmax())} lies outside its {length} bytes; "
                f"{BUILD_AGAIN}"
            )

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def __getitem__(self, row: int) -> bytes:
        """The encoded bytes of the row."""
        size = int(self._sizes[row])
        try:
            data = os.pread(self._file, size, int(self._offsets[row]))
        except OSError as error:
            raise DatasetError(f"{self._path}: row {row}: {error.strerror}") from error
        if len(data) < size:
            raise DatasetError(f"{self._path}: row {row}: the file has become shorter meanwhile")
        return data


@dataclass(frozen=True)
class ArrowImages:
    """The `image` column of a memory-mapped Arrow IPC file."""

    column: pa.ChunkedArray

    def __getitem__(self, row: int) -> memoryview:
        """The encoded bytes of the row, not copied."""
        return memoryview(self.column[row].as_buffer())
