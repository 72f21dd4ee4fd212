"""The durable exchange: rows written once in order of their bucket, read back by byte range.

Each source partition becomes one spill file, an Arrow stream per bucket one after the other. An
index written when all spills are committed holds, bucket by bucket, where each section lies: a
bucket's reader needs one small range of it, however many partitions there are.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.stage import Keyed
from pipeline.store.objects import Store

_IPC = pa.ipc.IpcWriteOptions(compression="lz4")
_WORD = np.dtype("<u8")


def leading_words(keys: pa.Array) -> npt.NDArray[np.uint64]:
    """The first 8 bytes of each fixed-size binary key as a number; numbers sort as keys do."""
    width = keys.type.byte_width
    raw = np.frombuffer(keys.buffers()[1], np.uint8, (keys.offset + len(keys)) * width)
    leading = raw.reshape(-1, width)[keys.offset :, :8]
    return np.ascontiguousarray(leading).view(">u8").ravel().astype(np.uint64)


def bucket_of(keys: pa.Array, num_buckets: int) -> npt.NDArray[np.uint16]:
    """The bucket of each key: equal ranges of the key's first four bytes, shape (rows,)."""
    words = leading_words(keys) >> np.uint64(32)
    return ((words * np.uint64(num_buckets)) >> np.uint64(32)).astype(np.uint16)


def sort_by_uid(table: pa.Table) -> pa.Table:
    """The rows in order of `uid`; rows of one uid stay in the order they had."""
    words = leading_words(_whole(table["uid"]))
    if np.all(words[:-1] < words[1:]):
        return table
    order = np.argsort(words, kind="stable")
    ordered = words[order]
    if np.any(ordered[:-1] == ordered[1:]):
        # Equal leading words are the same uid seen twice, or a collision that only whole uids
        # settle.
        order = _settle(table["uid"].to_numpy(zero_copy_only=False), order, ordered)
    return table.take(pa.array(order))


def _settle(
    uids: npt.NDArray[np.object_],
    order: npt.NDArray[np.int64],
    words: npt.NDArray[np.uint64],
) -> npt.NDArray[np.int64]:
    runs = np.flatnonzero(np.concatenate(([True], words[1:] != words[:-1], [True])))
    for start, end in pairwise(runs.tolist()):
        if end - start > 1:
            order[start:end] = sorted(order[start:end], key=lambda row: (uids[row], row))
    return order


def _whole(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    if isinstance(column, pa.Array):
        return column
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


@dataclass(frozen=True)
class Spill:
    """One source partition, cut by bucket: the bytes to write and where each bucket begins."""

    data: memoryview
    offsets: tuple[int, ...]
    rows: int


def cut(rows: Keyed, num_buckets: int) -> Spill:
    """Cut rows by their keys into `num_buckets` sections; empty ones take no bytes."""
    buckets = bucket_of(_whole(rows.keys), num_buckets)
    # A stable sort keeps the uid order of the source inside each section.
    ordered = rows.table.take(pa.array(np.argsort(buckets, kind="stable"))).combine_chunks()
    ends = np.cumsum(np.bincount(buckets, minlength=num_buckets))
    return _written(ordered, ends)


def whole(table: pa.Table) -> Spill:
    """A table as the only section of a spill."""
    return _written(table, np.array([table.num_rows]))


def _written(table: pa.Table, ends: npt.NDArray[np.int64]) -> Spill:
    sink, offsets, start = pa.BufferOutputStream(), [0], 0
    for end in ends.tolist():
        if end > start or len(ends) == 1:
            with pa.ipc.new_stream(sink, table.schema, options=_IPC) as writer:
                writer.write_table(table.slice(start, end - start))
        offsets.append(sink.tell())
        start = end
    return Spill(memoryview(sink.getvalue()), tuple(offsets), table.num_rows)


@dataclass(frozen=True)
class SpillIndex:
    """Where the sections lie: `index.json` names the spills, `offsets` has a row of words a
    bucket.
    """

    store: Store
    folder: str

    def write(self, spills: Sequence[tuple[str, Sequence[int]]], schema: pa.Schema) -> None:
        """Record all spills, (path, offsets) in the order of their partitions."""
        offsets = np.array([ends for _, ends in spills], dtype=_WORD).reshape(len(spills), -1)
        self.store.put(f"{self.folder}/offsets", offsets.T.tobytes())
        self.store.put(f"{self.folder}/schema", memoryview(schema.serialize()))
        names = {"spills": [path for path, _ in spills]}
        self.store.put(f"{self.folder}/index.json", json.dumps(names).encode())

    def exists(self) -> bool:
        """Whether all spills are committed."""
        return self.store.exists(f"{self.folder}/index.json")

    def sections(self, bucket: int) -> Iterator[pa.Table]:
        """The sections of one bucket, in the order of their source partitions, empty ones left
        out.
        """
        names = json.loads(bytes(self.store.get(f"{self.folder}/index.json")))["spills"]
        starts, ends = self._edges(bucket, len(names))
        for name, start, end in zip(names, starts, ends, strict=True):
            if end > start:
                [data] = self.store.get_ranges(f"{self.folder}/{name}", [start], [end])
                yield pa.ipc.open_stream(pa.py_buffer(data)).read_all()

    def schema(self) -> pa.Schema:
        """The schema of the sections, for a bucket that got no rows."""
        return pa.ipc.read_schema(pa.py_buffer(self.store.get(f"{self.folder}/schema")))

    def _edges(self, bucket: int, spills: int) -> tuple[list[int], list[int]]:
        if spills == 0:
            return [], []
        row = spills * _WORD.itemsize
        start = bucket * row
        [data] = self.store.get_ranges(f"{self.folder}/offsets", [start], [start + 2 * row])
        edges = np.frombuffer(data, _WORD).reshape(2, spills)
        return edges[0].tolist(), edges[1].tolist()
