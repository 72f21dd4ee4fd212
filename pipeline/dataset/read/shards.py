"""Datasets as numbered shards of pairs: uid, token ids and encoded image of each row.

Defines the columns that a shard's table may have and keeps a few shards open; how they are stored
is behind `PairDataset`. Order, pixels and models are the reader's.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.dataset.errors import DatasetError
from pipeline.dataset.read.payloads import ChosenImages, Images, TarImages
from pipeline.dataset.tokens import EOT, SOT, Ids, truncate
from pipeline.dataset.uid import UID_TYPE, Ints, Words, fixed_bytes, uid_words

TOKENS = pa.large_list(pa.uint16())
SHOWN_DIGITS = 8
"""Hex digits of a digest that a repr shows."""


@dataclass(frozen=True)
class Columns:
    """Which columns beyond uid, text and place a reader needs."""

    sha256: bool = False
    weight: bool = False


@dataclass(frozen=True, repr=False)
class Tokens:
    """Token ids of rows: those of row i are `values[starts[i] : stops[i]]`."""

    values: Ids
    starts: Ints
    stops: Ints

    def __repr__(self) -> str:
        return f"Tokens({len(self.starts):,} rows)"

    def take(self, rows: Ints) -> "Tokens":
        """Only the given rows, in that order."""
        return Tokens(self.values, self.starts[rows], self.stops[rows])


@dataclass(frozen=True, repr=False)
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

    def __repr__(self) -> str:
        columns = {
            "tokens": self.tokens,
            "captions": self.captions,
            "sha256": self.sha256,
            "weights": self.weights,
        }
        names = ["images", *(name for name, column in columns.items() if column is not None)]
        return f"Shard({len(self.uids):,} pairs: {', '.join(names)})"

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


class PairDataset(Protocol):
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


def dataset_repr(dataset: PairDataset, kind: str) -> str:
    """A dataset in one short line: where it is, how large it is, and which one it is."""
    pairs, shards = sum(dataset.sizes), len(dataset.sizes)
    content = dataset.content[:SHOWN_DIGITS]
    return f"{kind}({str(dataset.path)!r}, {pairs:,} pairs in {shards:,} shards, content {content})"


class ShardCache:
    """The open shards of a process: the last `capacity` used of each dataset, no more."""

    def __init__(self, datasets: Sequence[PairDataset], capacity: int, columns: Columns) -> None:
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


def shard_of(path: Path, table: pa.Table, images: Images, columns: Columns) -> Shard:
    """A shard from its table and images; DatasetError names `path` and the column it lacks."""
    stored = "tokens" in table.column_names
    if not stored and "caption" not in table.column_names:
        raise DatasetError(f"{path}: it has neither a column tokens nor a column caption")
    if not stored and not _is_text(table["caption"].type):
        raise DatasetError(f"{path}: its column caption is of {table['caption'].type}, not of text")
    return Shard(
        checked_uids(path, table),
        images,
        _tokens(path, table) if stored else None,
        None if stored else table["caption"].combine_chunks(),
        _image_digests(path, table) if columns.sha256 else None,
        _weights(path, table) if columns.weight else None,
    )


def tar_images(path: Path, table: pa.Table) -> TarImages:
    """The images of a table with image_offset and image_size inside the tar at `path`."""
    offsets, sizes = (
        table[name].to_numpy().astype(np.int64) for name in ("image_offset", "image_size")
    )
    return TarImages(path, offsets, sizes)


def checked_uids(path: Path, table: pa.Table) -> Words:
    """The uids of a table as big-endian words, uint64 (N, 2); DatasetError if it has none."""
    if "uid" not in table.column_names or table["uid"].type != UID_TYPE:
        raise DatasetError(f"{path}: it has no column uid of 16 bytes")
    return uid_words(table["uid"])


def _tokens(path: Path, table: pa.Table) -> Tokens:
    try:
        tokens = table["tokens"].cast(TOKENS).combine_chunks()
        values, offsets = tokens.values.to_numpy(), tokens.offsets.to_numpy()
    except pa.ArrowException as error:
        raise DatasetError(f"{path}: its tokens are no lists of ids ({error})") from error
    if len(values) and values.max() > EOT:
        raise DatasetError(f"{path}: token id {values.max()} is above CLIP's last, {EOT}")
    starts, stops = offsets[:-1], offsets[1:]
    bare = stops - starts < 2
    if not bare.any():
        bare = (values[starts] != SOT) | (values[stops - 1] != EOT)
    if bare.any():
        raise DatasetError(f"{path}: row {int(bare.argmax())} lacks its two marker ids in `tokens`")
    return Tokens(values, starts, stops)


def _image_digests(path: Path, table: pa.Table) -> Ints | None:
    if "sha256" not in table.column_names or table["sha256"].null_count:
        return None
    if table["sha256"].type != pa.binary(32):
        raise DatasetError(f"{path}: its column sha256 is not of 32 bytes")
    words = np.frombuffer(fixed_bytes(table["sha256"], 32), "<i8").reshape(-1, 4)
    return words[:, 0].astype(np.int64)


def leading_word(sha256: bytes) -> int:
    """The first eight bytes of a digest as `Shard.sha256` has them."""
    return int.from_bytes(sha256[:8], "little", signed=True)


def _weights(path: Path, table: pa.Table) -> npt.NDArray[np.float32]:
    if "weight" not in table.column_names:
        raise DatasetError(f"{path}: it has no column weight, and `weighted` asks for one")
    try:
        weights: npt.NDArray[np.float32] = table["weight"].cast(pa.float32()).to_numpy()
    except pa.ArrowException as error:
        raise DatasetError(f"{path}: its weights are no numbers ({error})") from error
    if not (np.isfinite(weights) & (weights >= 0)).all():
        raise DatasetError(f"{path}: some weights are negative, infinite or missing")
    return weights


def _is_text(kind: pa.DataType) -> bool:
    """A column without rows may be of no type at all."""
    return kind in (pa.string(), pa.large_string(), pa.null())
