"""Finds the pairs of pictures that are nearly the same.

Rows meet because a 16-bit chunk of their perceptual hashes is equal; `neighbours` says which of
those that met are close in all 64 bits and alike in their colours.

Why chunks: comparing all n hashes with each other takes n^2/2 comparisons. But a hash of 64 bits is
four chunks of 16, and where two hashes differ in at most 3 bits, at least one chunk has none of the
differences (the pigeonhole principle; Norouzi et al. 2012, multi-index hashing). So it is enough to
compare rows that share a chunk. That is also why 3 is the largest distance offered: 4 differing
bits may fall into 4 chunks, and such pairs would be found or missed by chance.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.dedup.survivors import Index
from curation.images.perceptual import CHUNK_BITS, CHUNKS, Bytes, Hashes, chunk_keys, hamming
from pipeline.dataset import schema
from pipeline.dataset.column import Column, put, schema_of
from pipeline.dataset.params import Params
from pipeline.dataset.schema import COLOURS, HEIGHT, PHASH, UID, WIDTH
from pipeline.dataset.uid import uid_words

NEEDS: tuple[Column, ...] = (UID, PHASH, COLOURS, WIDTH, HEIGHT)
ADDS = schema.EDGES
EDGE_SCHEMA = schema_of(schema.EDGES)

# What rows carry only while they travel to those that share a chunk with them.
PIXELS = Column("pixels", pa.int64(), "Size of the picture.", "pixels")
CHUNK = Column("chunk", pa.uint8(), "Which of the hash's chunks the row travels by, 0 to 3.")
CHUNK_VALUE = Column("chunk_value", pa.uint32(), "The chunk's number above its 16 bits.")

_PIECES = 4


class NeighbourParams(Params):
    """How close two pictures must be to count as neighbours."""

    max_distance: int = Field(3, ge=0, le=3)
    """Bits of the perceptual hash; four chunks find every pair up to 3."""
    max_colour_difference: int = Field(16, ge=0, le=255)
    """Levels (of 255) by which any of the 4 x 4 mean colours may differ."""


def by_chunk(table: pa.Table) -> pa.Table:
    """Four rows for each row that has a hash, one per chunk of it: what `neighbours` reads.

    Columns uid, phash, colours, pixels int64, chunk uint8 (0 to 3) and chunk_value uint32, the
    chunk's number above its 16 bits: rows whose chunk_value is equal must come to one bucket. A
    hash of 0x0F1E_2D3C_4B5A_6978 travels as 0x00F1E, 0x12D3C, 0x24B5A and 0x36978.
    """
    table = table.filter(pc.is_valid(table["phash"]))
    rows = put(table.select(["uid", "phash", "colours"]), {PIXELS: _pixels(table)})
    chunk = np.repeat(np.arange(CHUNKS, dtype=np.uint8), table.num_rows)
    keys = chunk_keys(_hashes(table)).T.ravel().astype(np.uint32)
    value = chunk.astype(np.uint32) << np.uint32(CHUNK_BITS) | keys
    tall = pa.concat_tables([rows] * CHUNKS)
    return put(tall, {CHUNK: pa.array(chunk), CHUNK_VALUE: pa.array(value)})


def neighbours(table: pa.Table, params: NeighbourParams) -> pa.Table:
    """The close pairs among rows of `by_chunk`, uid_a < uid_b, sorted, with schema `EDGE_SCHEMA`.

    Every two hashes within the distance are found, and each pair is reported once, in the lowest
    chunk that its hashes share. Rows of one hash are not paired with each other but linked to a
    leader, the one with the smallest uid among those of their colours, and leaders stand for them
    in other pairs. Without leaders a picture of 10,000 copies would give 50 million edges; with
    them it gives 9,999, and its copies still come to one group.
    """
    per_chunk = []
    for chunk in range(CHUNKS):
        part = table.filter(pc.equal(table["chunk"], chunk))
        if part.num_rows:
            per_chunk.append(_edges(_sorted(part), chunk, params))
    edges = pa.concat_tables(per_chunk) if per_chunk else EDGE_SCHEMA.empty_table()
    return edges.sort_by([("uid_a", "ascending"), ("uid_b", "ascending")])


def _edges(table: pa.Table, chunk: int, params: NeighbourParams) -> pa.Table:
    """Edges among rows of one chunk, which come sorted by (phash, uid)."""
    hashes, shades = _hashes(table), _shades(table)
    leader = _leaders(hashes, shades, params.max_colour_difference)
    rows = np.flatnonzero(leader == np.arange(len(leader)))
    unique, first, members = np.unique(hashes[rows], return_index=True, return_counts=True)
    left, right = _close_hashes(unique, chunk, params.max_distance)
    left, right = _every_member(left, right, first, members)
    a, b = rows[left], rows[right]
    alike = _alike(shades[a], shades[b], params.max_colour_difference)
    a, b = a[alike], b[alike]
    # Followers share all four chunks with their leader and would be linked in each of them.
    if chunk == 0:
        followers = np.flatnonzero(leader != np.arange(len(leader)))
        a, b = np.append(a, leader[followers]), np.append(b, followers)
    return _edge_table(table, a, b, hamming(hashes[a], hashes[b]))


def _leaders(hashes: Hashes, shades: Bytes, tolerance: int) -> Index:
    """For each row, the row of its hash that leads its colours; rows come sorted by (hash, uid).

    In each round the first open row of every hash becomes a leader, and the open rows of that hash
    that are alike in colour follow it; the others wait for the next round. So there are as many
    rounds as one drawing has visibly different colourings (flags), not as many as it has copies.
    """
    leader = np.arange(len(hashes))
    open_rows = np.arange(len(hashes))
    while open_rows.size:
        own = hashes[open_rows]
        heads = np.flatnonzero(np.append(True, own[1:] != own[:-1]))
        head = np.repeat(open_rows[heads], np.diff(np.append(heads, own.size)))
        alike = _alike(shades[open_rows], shades[head], tolerance)
        leader[open_rows[alike]] = head[alike]
        open_rows = open_rows[~alike]
    return leader


def _close_hashes(unique: Hashes, chunk: int, distance: int) -> tuple[Index, Index]:
    """Pairs (i, j) of distinct hashes that are close and share no chunk before this one.

    One chunk alone is a poor filter: skies and drawings on white crowd into a few of its 65,536
    values, and all pairs within such a group would have to be compared. So the pigeonhole is used a
    second time: of the 48 bits outside the chunk, in four pieces of 12, one piece is equal too
    where at most 3 bits differ. Candidates meet by 16 + 12 = 28 bits.
    """
    pieces = _pieces(unique, chunk)
    shared = chunk_keys(unique)
    left, right = [np.empty(0, np.intp)], [np.empty(0, np.intp)]
    for piece in range(_PIECES):
        key = shared[:, chunk].astype(np.uint32) << np.uint32(12) | pieces[:, piece]
        for i, j in _pairs_of_equal(key):
            close = hamming(unique[i], unique[j]) <= distance
            i, j = i[close], j[close]
            # A pair that shares several chunks or pieces meets in each; only the first counts.
            seen = (shared[i, :chunk] == shared[j, :chunk]).any(axis=1)
            seen |= (pieces[i, :piece] == pieces[j, :piece]).any(axis=1)
            left.append(i[~seen])
            right.append(j[~seen])
    return np.concatenate(left), np.concatenate(right)


def _pieces(hashes: Hashes, chunk: int) -> npt.NDArray[np.uint32]:
    """The 48 bits outside a chunk as four pieces of 12, shape (rows, 4)."""
    above = np.uint64((CHUNKS - chunk) * CHUNK_BITS)
    below = np.uint64((CHUNKS - 1 - chunk) * CHUNK_BITS)
    low = hashes & ((np.uint64(1) << below) - np.uint64(1))
    high = hashes >> above if chunk else np.zeros_like(hashes)
    rest = high << below | low
    shifts = np.arange(_PIECES, dtype=np.uint64) * np.uint64(12)
    pieces: npt.NDArray[np.uint32] = (rest[:, None] >> shifts & np.uint64(0xFFF)).astype(np.uint32)
    return pieces


def _pairs_of_equal(keys: npt.NDArray[np.uint32]) -> Iterator[tuple[Index, Index]]:
    """All pairs (i < j) of rows with equal keys, in arrays: one per distance in sorted order.

    Sorted keys 5 5 5 9 give, at step 1, (0, 1) and (1, 2); at step 2, (0, 2); and then end. So the
    number of arrays is the size of the largest group and not the number of groups.
    """
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    end = np.searchsorted(ordered, ordered, side="right")
    start = np.arange(len(keys))
    step = 1
    while (start := start[start + step < end[start]]).size:
        yield order[start], order[start + step]
        step += 1


def _every_member(left: Index, right: Index, first: Index, members: Index) -> tuple[Index, Index]:
    """Pairs of groups into pairs of their members; a group is `members` rows from `first` on.

    Groups of 2 and 3 rows give 6 pairs: member `within // 3` of the one, `within % 3` of the other.
    """
    sizes = members[left] * members[right]
    pair = np.repeat(np.arange(len(left)), sizes)
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    wide = members[right][pair]
    return first[left][pair] + within // wide, first[right][pair] + within % wide


def _alike(a: Bytes, b: Bytes, tolerance: int) -> npt.NDArray[np.bool_]:
    """Whether no mean colour differs by more; the difference is taken without leaving uint8."""
    furthest: Bytes = (np.maximum(a, b) - np.minimum(a, b)).max(axis=1, initial=0)
    return furthest <= tolerance


def _edge_table(table: pa.Table, a: Index, b: Index, distance: Bytes) -> pa.Table:
    words = uid_words(table["uid"])
    swap = _less(words[b], words[a])
    a, b = np.where(swap, b, a), np.where(swap, a, b)
    uid, pixels = table["uid"].combine_chunks(), table["pixels"].combine_chunks()
    ends = pa.array(a), pa.array(b)
    columns = [uid.take(ends[0]), uid.take(ends[1]), pa.array(distance.astype(np.int8))]
    return pa.table([*columns, pixels.take(ends[0]), pixels.take(ends[1])], schema=EDGE_SCHEMA)


def _less(a: npt.NDArray[np.uint64], b: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    return np.where(a[:, 0] == b[:, 0], a[:, 1] < b[:, 1], a[:, 0] < b[:, 0])


def _sorted(table: pa.Table) -> pa.Table:
    return table.sort_by([("phash", "ascending"), ("uid", "ascending")]).combine_chunks()


def _pixels(table: pa.Table) -> pa.ChunkedArray:
    return pc.multiply(table["width"].cast(pa.int64()), table["height"].cast(pa.int64()))


def _hashes(table: pa.Table) -> Hashes:
    hashes: Hashes = table["phash"].to_numpy()
    return hashes


def _shades(table: pa.Table) -> Bytes:
    """The 4 x 4 colours as uint8, shape (rows, 48)."""
    packed = table["colours"].combine_chunks()
    width = packed.type.byte_width
    data = np.frombuffer(packed.buffers()[1], np.uint8, width * (len(packed) + packed.offset))
    return data.reshape(-1, width)[packed.offset :]
