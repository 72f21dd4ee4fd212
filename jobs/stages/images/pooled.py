"""Pictures out of the pool that `fetch` filled, by the rows that say where they lie."""

import numpy as np
import pyarrow as pa

from pipeline.stage import RowsSide
from pipeline.store.result import Result

POOL = RowsSide("fetch", "the pool of pictures", files=("tar",))


def pooled(pool: Result, rows: pa.Table) -> list[bytes]:
    """The encoded pictures of the rows, in their order."""
    parts = rows["pool_part"].to_numpy()
    offsets, sizes = rows["pool_offset"].to_numpy(), rows["pool_size"].to_numpy()
    images: list[bytes] = [b""] * rows.num_rows
    for number in np.unique(parts).tolist():
        where = np.flatnonzero(parts == number)
        part = pool.manifest.parts[number]
        payloads = pool.ranges(part, "tar", offsets[where].tolist(), sizes[where].tolist())
        for row, data in zip(where.tolist(), payloads, strict=True):
            images[row] = data
    return images
