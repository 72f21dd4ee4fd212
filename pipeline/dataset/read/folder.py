"""A dataset that the `shard` stage finished, read by its manifest.

Only the files' sizes are looked at until a shard is opened; then its sidecar Parquet is read and
checked, and images come from the tar at the sidecar's offsets or from a memory-mapped Arrow file.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pyarrow as pa

from pipeline.dataset.errors import DamagedFile, DatasetError
from pipeline.dataset.manifest import FileRef, Manifest, Part, load, parquet_table
from pipeline.dataset.read.payloads import BUILD_AGAIN, ArrowImages
from pipeline.dataset.read.shards import (
    Columns,
    Shard,
    checked_uids,
    dataset_repr,
    shard_of,
    tar_images,
)
from pipeline.dataset.uid import Words


@dataclass(frozen=True, repr=False)
class PairFolder:
    """The dataset in a folder that the `shard` stage finished; shards are its parts, in order."""

    path: Path
    content: str
    parts: tuple[Part, ...]

    @classmethod
    def at(cls, folder: Path) -> Self:
        """By the folder's manifest; DatasetError unless every file is there in its full size."""
        manifest = read_manifest(folder)
        for part in manifest.parts:
            for ref in _files(folder, part):
                _check_size(folder, ref)
        return cls(folder, manifest.content_digest, manifest.parts)

    def __repr__(self) -> str:
        return dataset_repr(self, "PairFolder")

    @property
    def sizes(self) -> list[int]:
        """Rows of each shard."""
        return [part.rows_kept for part in self.parts]

    def uids(self, index: int) -> Words:
        """The uids of a part, from the one column of its sidecar."""
        path = self.path / self.parts[index].files["parquet"].path
        return checked_uids(path, read_sidecar(path, file_bytes(path), ["uid"]))

    def open(self, index: int, columns: Columns) -> Shard:
        """Read the part's sidecar, check its digest, and open its images."""
        part = self.parts[index]
        sidecar, images = _files(self.path, part)
        path = self.path / sidecar.path
        table = read_sidecar(path, _checked(self.path, sidecar))
        if len(table) != part.rows_kept:
            raise DatasetError(
                f"{path}: it holds {len(table)} rows and the manifest says {part.rows_kept}"
            )
        if "tar" not in part.files:
            return shard_of(path, table, _arrow_images(self.path, images, table), columns)
        return shard_of(path, table, tar_images(self.path / images.path, table), columns)

    def verify(self) -> None:
        """Read every file that training uses; DatasetError names the first that is damaged."""
        refs = [ref for part in self.parts for ref in _files(self.path, part)]
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            for _ in pool.map(lambda ref: len(_checked(self.path, ref)), refs):
                pass


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a dataset's folder; DatasetError if there is none."""
    try:
        return load(folder)
    except FileNotFoundError:
        raise DatasetError(
            f"{folder}: it holds no manifest.json, so it is no finished dataset; build it first"
        ) from None


def file_bytes(path: Path) -> bytes:
    """The whole file; DatasetError if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from error


def read_sidecar(path: Path, data: bytes, columns: list[str] | None = None) -> pa.Table:
    """The table of a shard from its Parquet file's bytes."""
    try:
        return parquet_table(data, columns)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: it cannot be read ({error}); {BUILD_AGAIN}") from error


def _files(folder: Path, part: Part) -> tuple[FileRef, FileRef]:
    """The part's sidecar and its images: the tar if there is one, else the Arrow file."""
    images = part.files.get("tar", part.files.get("arrow"))
    if images is None or "parquet" not in part.files:
        raise DatasetError(
            f"{folder}: part {part.index} lacks its Parquet file or has neither a tar nor an Arrow "
            "file of images; point at the output of the shard stage"
        )
    return part.files["parquet"], images


def _check_size(folder: Path, ref: FileRef) -> None:
    try:
        size = (folder / ref.path).stat().st_size
    except OSError as error:
        raise DatasetError(f"{folder / ref.path}: {error.strerror}; {BUILD_AGAIN}") from error
    if size != ref.size_bytes:
        raise DatasetError(
            f"{folder / ref.path}: it has {size} bytes and the manifest says {ref.size_bytes}; "
            f"{BUILD_AGAIN}"
        )


def _checked(folder: Path, ref: FileRef) -> bytes:
    try:
        data = (folder / ref.path).read_bytes()
        ref.check(data, folder)
    except (DamagedFile, OSError) as error:
        raise DatasetError(f"{folder}: {error}") from error
    return data


def _arrow_images(folder: Path, ref: FileRef, table: pa.Table) -> ArrowImages:
    path = folder / ref.path
    try:
        data = pa.memory_map(str(path))
        # A damaged file of this format can take the whole process down, so bytes are checked first.
        ref.check(memoryview(data.read_buffer()), folder)
        images = pa.ipc.open_file(data).read_all()
    except (DamagedFile, pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: it cannot be read ({error}); {BUILD_AGAIN}") from error
    if not {"uid", "image"} <= set(images.column_names) or images["image"].null_count:
        raise DatasetError(f"{path}: it lacks the column uid or image, or the image of some row")
    if not images["uid"].equals(table["uid"]):
        raise DatasetError(f"{path}: its uids are not those of the Parquet file beside it")
    return ArrowImages(images["image"])
