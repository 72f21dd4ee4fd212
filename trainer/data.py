"""Datasets as numbered shards of pairs: uid, token ids and encoded image of each row.

Reads what the `shard` stage wrote by its manifest: only the files' sizes until a shard is
opened, then its sidecar Parquet, and images from the tar at the sidecar's offsets or from a
memory-mapped Arrow file. Refuses to know about order, pixels and models.
"""

import os
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Protocol, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.manifest import DamagedPart, FileRef, Manifest, Part, load, parquet_table
from trainer.errors import DatasetError
from trainer.order import Ints, Words
from trainer.payloads import BUILD_AGAIN, ArrowImages, ChosenImages, Images, TarImages
from trainer.tokenizer import EOT, Ids, truncate

TOKENS = pa.large_list(pa.uint16())
UID = pa.binary(16)


@dataclass(frozen=True)
class Columns:
    """Which columns beyond uid, text and place a reader needs."""

    sha256: bool = False
    weight: bool = False


@dataclass(frozen=True)
class Tokens:
    """Token ids of rows: those of row i are `values[starts[i] : stops[i]]`."""

    values: Ids
    starts: Ints
    stops: Ints

    def take(self, rows: Ints) -> "Tokens":
        """Only the given rows, in that order."""
        return Tokens(self.values, self.starts[rows], self.stops[rows])


@dataclass(frozen=True)
class Shard:
    """The pairs of an open shard; row numbers are its own."""

    uids: Words
    """uint64 (N, 2), big-endian words."""
    images: Images
    tokens: Tokens | None
    captions: pa.Array | None
    """Texts, only where there are no tokens."""
    sha256: Ints | None
    """First eight bytes of each image's digest, where they were asked for and are recorded."""
    weights: npt.NDArray[np.float32] | None

    def ids(self, row: int, context_length: int) -> Ids | None:
        """Stored token ids of the row, framed and at most `context_length` long."""
        if self.tokens is None:
            return None
        start, stop = self.tokens.starts[row], self.tokens.stops[row]
        return truncate(self.tokens.values[start:stop], context_length)

    def caption(self, row: int) -> str:
        """The row's text, where ids are not stored."""
        assert self.captions is not None
        return self.captions[row].as_py() or ""

    def take(self, rows: Ints) -> "Shard":
        """Only the given rows, in that order."""
        return Shard(
            self.uids[rows],
            ChosenImages(self.images, rows),
            None if self.tokens is None else self.tokens.take(rows),
            None if self.captions is None else self.captions.take(pa.array(rows)),
            None if self.sha256 is None else self.sha256[rows],
            None if self.weights is None else self.weights[rows],
        )


class Dataset(Protocol):
    """What the loader asks of a dataset. `sizes` are the rows of its shards; it can be pickled."""

    @property
    def path(self) -> Path:
        """The folder, for messages."""

    @property
    def content(self) -> str:
        """Digest of all that the pairs consist of."""

    @property
    def sizes(self) -> Sequence[int]:
        """Rows of each shard."""

    def uids(self, index: int) -> Words:
        """The uids of a shard without its images, uint64 (N, 2)."""

    def open(self, index: int, columns: Columns) -> Shard:
        """Read a shard; DatasetError if its files are damaged or gone."""

    def verify(self) -> None:
        """Read every file and compare its digest; DatasetError names those that differ."""


@dataclass(frozen=True)
class PairFolder:
    """The dataset in a folder that the `shard` stage finished; shards are its parts, in order."""

    path: Path
    content: str
    parts: tuple[Part, ...] = field(repr=False)

    @classmethod
    def at(cls, folder: Path) -> Self:
        """By the folder's manifest; DatasetError unless every file is there in its full size."""
        manifest = read_manifest(folder)
        for part in manifest.parts:
            for ref in _files(folder, part):
                _check_size(folder, ref)
        return cls(folder, manifest.content, manifest.parts)

    @property
    def sizes(self) -> list[int]:
        """Rows of each shard."""
        return [part.rows_kept for part in self.parts]

    def uids(self, index: int) -> Words:
        """The uids of a part, from the one column of its sidecar."""
        path = self.path / self.parts[index].files["parquet"].path
        return uid_words(path, read_sidecar(path, path.read_bytes(), ["uid"]))

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


class ShardCache:
    """The open shards of a process: the last `capacity` used of each dataset, no more."""

    def __init__(self, datasets: Sequence[Dataset], capacity: int, columns: Columns) -> None:
        self._datasets, self._capacity, self._columns = datasets, capacity, columns
        self._slots: list[OrderedDict[int, _Slot]] = [OrderedDict() for _ in datasets]
        self._lock = Lock()

    def get(self, dataset: int, index: int) -> Shard:
        """The shard, opened now if it is not open; threads that want the same one wait for it."""
        slots = self._slots[dataset]
        with self._lock:
            slot = slots.setdefault(index, _Slot())
            slots.move_to_end(index)
            if len(slots) > self._capacity:
                slots.popitem(last=False)
        with slot.lock:
            if slot.shard is None:
                slot.shard = self._datasets[dataset].open(index, self._columns)
            return slot.shard


@dataclass
class _Slot:
    lock: Lock = field(default_factory=Lock)
    shard: Shard | None = None


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a dataset's folder; DatasetError if there is none."""
    try:
        return load(folder)
    except FileNotFoundError:
        raise DatasetError(
            f"{folder}: it holds no manifest.json, so it is no finished dataset; build it first"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise DatasetError(
            f"{folder}/manifest.json: it is damaged ({error}); {BUILD_AGAIN}"
        ) from error


def read_sidecar(path: Path, data: bytes, columns: list[str] | None = None) -> pa.Table:
    """The table of a shard from its Parquet file's bytes."""
    try:
        return parquet_table(data, columns)
    except (pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: it cannot be read ({error}); {BUILD_AGAIN}") from error


def shard_of(path: Path, table: pa.Table, images: Images, columns: Columns) -> Shard:
    """A shard from its table and images; DatasetError names `path` and the column it lacks."""
    stored = "tokens" in table.column_names
    if not stored and "caption" not in table.column_names:
        raise DatasetError(f"{path}: it has neither a column tokens nor a column caption")
    return Shard(
        uid_words(path, table),
        images,
        _tokens(path, table) if stored else None,
        None if stored else table["caption"].combine_chunks(),
        _image_digests(table) if columns.sha256 else None,
        _weights(path, table) if columns.weight else None,
    )


def tar_images(path: Path, table: pa.Table) -> TarImages:
    """The images of a table with image_offset and image_size inside the tar at `path`."""
    offsets, sizes = (
        table[name].to_numpy().astype(np.int64) for name in ("image_offset", "image_size")
    )
    return TarImages(path, offsets, sizes)


def uid_words(path: Path, table: pa.Table) -> Words:
    """The uids as big-endian words, uint64 (N, 2)."""
    if "uid" not in table.column_names or table["uid"].type != UID:
        raise DatasetError(f"{path}: it has no column uid of 16 bytes")
    return np.frombuffer(_fixed_bytes(table["uid"], 16), ">u8").reshape(-1, 2).astype(np.uint64)


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
        ref.check(data)
    except (DamagedPart, OSError) as error:
        raise DatasetError(f"{folder}: {error}") from error
    return data


def _arrow_images(folder: Path, ref: FileRef, table: pa.Table) -> ArrowImages:
    path = folder / ref.path
    try:
        data = pa.memory_map(str(path))
        # A damaged file of this format can take the whole process down, so bytes are checked first.
        ref.check(memoryview(data.read_buffer()))
        images = pa.ipc.open_file(data).read_all()
    except (DamagedPart, pa.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: it cannot be read ({error}); {BUILD_AGAIN}") from error
    if not images["uid"].equals(table["uid"]):
        raise DatasetError(f"{path}: its uids are not those of the Parquet file beside it")
    return ArrowImages(images["image"])


def _tokens(path: Path, table: pa.Table) -> Tokens:
    try:
        tokens = table["tokens"].cast(TOKENS).combine_chunks()
    except pa.ArrowException as error:
        raise DatasetError(f"{path}: its tokens are no lists of ids ({error})") from error
    values, offsets = tokens.values.to_numpy(), tokens.offsets.to_numpy()
    if len(values) and values.max() > EOT:
        raise DatasetError(f"{path}: token id {values.max()} is above CLIP's last, {EOT}")
    if (short := np.diff(offsets) < 2).any():
        raise DatasetError(
            f"{path}: row {int(short.argmax())} lacks its two marker ids in `tokens`"
        )
    return Tokens(values, offsets[:-1], offsets[1:])


def _image_digests(table: pa.Table) -> Ints | None:
    if "sha256" not in table.column_names or table["sha256"].null_count:
        return None
    words = np.frombuffer(_fixed_bytes(table["sha256"], 32), "<i8").reshape(-1, 4)
    return words[:, 0].astype(np.int64)


def _weights(path: Path, table: pa.Table) -> npt.NDArray[np.float32]:
    if "weight" not in table.column_names:
        raise DatasetError(f"{path}: it has no column weight, and `weighted` asks for one")
    weights: npt.NDArray[np.float32] = table["weight"].cast(pa.float32()).to_numpy()
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise DatasetError(f"{path}: some weights are negative, infinite or missing")
    return weights


def _fixed_bytes(column: pa.ChunkedArray, width: int) -> bytes:
    return b"".join(
        chunk.buffers()[1][width * chunk.offset : width * (chunk.offset + len(chunk))].to_pybytes()
        for chunk in column.chunks
        if len(chunk)
    )
