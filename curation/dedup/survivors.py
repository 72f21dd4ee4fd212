"""Of the rows that are one, which stays: the row with the smallest uid, whatever the order."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.dataset.uid import fixed_bytes, uid_words

Index = npt.NDArray[np.intp]


def survivors(key: pa.Array, uids: pa.ChunkedArray) -> tuple[Index, Index]:
    """For each row, the row of its key with the smallest uid, and how many rows have its key.

    Two arrays of shape (rows,). `key` is of any type; a null equals no other. Of rows that share a
    uid too, the first stays.
    """
    group = _groups(key)
    words = uid_words(uids)
    order = np.lexsort((words[:, 1], words[:, 0], group))
    heads, sizes = np.unique(group[order], return_index=True, return_counts=True)[1:]
    survivor, copies = np.empty(len(order), np.intp), np.empty(len(order), np.intp)
    survivor[order] = np.repeat(order[heads], sizes)
    copies[order] = np.repeat(sizes, sizes)
    return survivor, copies


def hex_digits(values: pa.Array | pa.ChunkedArray) -> npt.NDArray[np.object_]:
    """A column of fixed-size binary as text in hex, for evidence; shape (rows,), no nulls."""
    width = values.type.byte_width
    digits = fixed_bytes(values, width).hex().encode()
    return np.frombuffer(digits, f"S{2 * width}").astype(str).astype(object)


def _groups(key: pa.Array) -> npt.NDArray[np.int64]:
    """A number for every distinct key, and one of its own for every null."""
    codes = np.asarray(key.dictionary_encode().indices.fill_null(-1)).astype(np.int64)
    null = codes < 0
    codes[null] = codes.max(initial=-1) + 1 + np.arange(null.sum())
    return codes
