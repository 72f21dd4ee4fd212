"""Duplicates by an exact key: the first row of every key survives.

Rows are expected in the order of their uids, so that the survivor does not depend on how the rows
came together. Which rows meet in one table (all that share a key must) is the caller's affair.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from curation.web.urls import canonical_urls
from pipeline.dataset.params import Params
from pipeline.dataset.schema import CAPTION, UID, URL, URL_COPIES, Column, put
from pipeline.dataset.verdict import Judge, Mask, Reason

NEEDS: tuple[Column, ...] = (UID, URL, CAPTION)
ADDS: tuple[Column, ...] = (URL_COPIES,)


class UrlReason(Reason):
    """What a pair repeats."""

    DUPLICATE_PAIR = "duplicate_pair", "the same image address with the same caption"
    DUPLICATE_URL = "duplicate_url", "the same image address with another caption"


class UrlDedupParams(Params):
    """No choice is offered: the key is `canonical_url`, the survivor the least uid."""


def first_of_key(table: pa.Table, key: pa.Array, reason: Reason, copies: str) -> pa.Table:
    """Drop all but the first row of every key; adds the int32 column `copies` and `verdict`.

    `copies` is the number of rows that share the row's key. The value of a verdict is that number,
    its evidence the survivor's uid in hex. A null key equals no other.
    """
    first, sizes = _groups(key)
    judge = Judge(table.append_column(copies, pa.array(sizes, pa.int32())))
    judge.drop(first != np.arange(len(first)), reason, sizes, 1.0, _uid_hex(table)[first])
    return judge.table()


def url_dedup(table: pa.Table, params: UrlDedupParams) -> pa.Table:
    """`first_of_key` by canonical URL, with `url_copies`; the reason tells same captions apart."""
    first, sizes = _groups(canonical_urls(table["url"]))
    judge = Judge(put(table, {URL_COPIES: pa.array(sizes, URL_COPIES.type)}))
    repeats = first != np.arange(len(first))
    survivor = _uid_hex(table)[first]
    same = _same_caption(table, first)
    judge.drop(repeats & same, UrlReason.DUPLICATE_PAIR, sizes, 1.0, survivor)
    judge.drop(repeats, UrlReason.DUPLICATE_URL, sizes, 1.0, survivor)
    return judge.table()


def _groups(
    key: pa.Array | pa.ChunkedArray,
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """For every row, the index of the first row with its key, and the number of rows with it."""
    if isinstance(key, pa.ChunkedArray):
        key = key.combine_chunks()
    rows = np.arange(len(key))
    codes = np.asarray(key.dictionary_encode().indices.fill_null(-1)).astype(np.int64)
    null = codes < 0
    codes[null] = codes.max(initial=-1) + 1 + np.arange(null.sum())
    first_of_code = np.zeros(codes.max(initial=-1) + 1, dtype=np.int64)
    first_of_code[codes[::-1]] = rows[::-1]
    return first_of_code[codes], np.bincount(codes)[codes] if len(codes) else codes


def _same_caption(table: pa.Table, first: npt.NDArray[np.int64]) -> Mask:
    captions = table["caption"].combine_chunks()
    same: Mask = np.asarray(pc.equal(captions, captions.take(pa.array(first))).fill_null(False))
    return same


def _uid_hex(table: pa.Table) -> npt.NDArray[np.object_]:
    """The uids as 32 hex digits, shape (rows,)."""
    column = table["uid"].combine_chunks()
    start = 16 * column.offset
    raw = bytes(memoryview(column.buffers()[1])[start : start + 16 * len(column)])
    return np.frombuffer(raw.hex().encode(), "S32").astype(str).astype(object)
