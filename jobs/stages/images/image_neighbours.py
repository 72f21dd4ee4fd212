"""`image-neighbours`: pairs of pictures whose perceptual hashes are a few bits apart."""

import numpy as np
import pyarrow as pa

from curation.dedup import neighbours
from jobs.stages import buckets
from pipeline.stage import Exchange, Keyed, Rule, Stage

FIBONACCI = np.uint64(0x9E3779B97F4A7C15)


def _by_chunk(table: pa.Table, params: neighbours.NeighbourParams) -> Keyed:
    tall = neighbours.by_chunk(table)
    # Fibonacci hashing spreads chunk values, which are dense, over the whole range of keys.
    words = tall["chunk_value"].to_numpy().astype(np.uint64) * FIBONACCI
    keys = np.stack([words, np.zeros_like(words)], axis=1).astype(">u8")
    data = [None, pa.py_buffer(keys.tobytes())]
    return Keyed(tall, pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), tall.num_rows, data))


STAGE = Stage(
    name="image-neighbours",
    version=1,
    summary="Pairs of images whose perceptual hashes are a few bits apart",
    params=neighbours.NeighbourParams,
    shape=Exchange(_by_chunk, Rule(neighbours.neighbours), buckets.by_rows),
    needs=neighbours.NEEDS,
    adds=neighbours.ADDS,
    conserves=False,
)
