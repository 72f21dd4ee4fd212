"""The Arrow file of a shard: the same pairs as its tar, for readers that map it into memory."""

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.dataset.column import Column, schema_of
from pipeline.dataset.schema import CAPTION, TOKENS, UID

IMAGE = Column("image", pa.large_binary(), "The stored picture, a JPEG.")
ARROW = schema_of((UID, IMAGE, CAPTION, TOKENS))

_BATCH_ROWS = 1024


class ArrowRow(NamedTuple):
    """A pair as the file has it: `image` is a JPEG, `tokens` are uint16 ids, markers included."""

    uid: bytes
    image: bytes
    caption: str
    tokens: npt.NDArray[np.uint16]


def arrow_file(rows: Sequence[ArrowRow]) -> bytes:
    """The rows in order as an Arrow IPC file with schema `ARROW`, 1024 to a record batch.

    Batches are bounded so that a reader which wants one pair need not touch a whole shard.
    """
    sink = io.BytesIO()
    with pa.ipc.new_file(sink, ARROW) as writer:
        for start in range(0, len(rows), _BATCH_ROWS):
            columns = zip(*rows[start : start + _BATCH_ROWS], strict=True)
            arrays = [pa.array(*pair) for pair in zip(columns, ARROW.types, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=ARROW))
    return sink.getvalue()
