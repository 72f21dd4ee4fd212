"""`image-neighbours`: pairs of pictures whose perceptual hashes are a few bits apart."""

import numpy as np
import pyarrow as pa

from curation.dedup import near_dedup
from jobs.stages import buckets
from pipeline.stage import Exchange, Keyed, Rule, Stage

FIBONACCI = np.uint64(0x9E3779B97F4A7C15)


def _by_chunk(table: pa.Table, params: near_dedup.NeighbourParams) -> Keyed:
    tall = near_dedup.by_chunk(table)
    # Fibonacci hashing spreads chunk values, which are dense, over the whole range of keys.
    words = tall["chunk_value"].to_numpy().astype(np.uint64) * FIBONACCI
    keys = np.stack([words, np.zeros_like(words)], axis=1).astype(">u8")
    data = [None, pa.py_buffer(keys.tobytes())]
    return Keyed(
        tall, pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), tall.num_rows, data)
    )


STAGE = Stage(
    name="image-neighbours",
    version=1,
    summary="Pairs of images whose perceptual hashes are a few bits apart",
    params=near_dedup.NeighbourParams,
    shape=Exchange(_by_chunk, Rule(near_dedup.neighbours), buckets.by_rows),
    needs=near_dedup.NEIGHBOUR_NEEDS,
    adds=near_dedup.NEIGHBOUR_ADDS,
    conserves=False,
)
