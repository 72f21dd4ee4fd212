"""The image stages: from a list of pairs to fetched, judged, deduplicated and sharded pictures.

Pictures are written twice: by `fetch` into a pool of tars, and by `shard`. Everything between
works on rows that say where in the pool a picture lies.
"""

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.dedup import image_dedup, near_dedup, neighbours
from curation.fetch import pool
from curation.images import image_rules
from curation.pack import shard
from pipeline.dataset.params import Params
from pipeline.stage import KEY, Exchange, Execution, Map, Output, Stage, Task
from pipeline.store.result import Result
from trainer.text import tokenizer

ROWS_PER_BUCKET = 500_000


class FetchExecution(Execution):
    """How images are asked for; none of it changes what is asked for."""

    connect_to: str | None = None
    """Connect every host to this one address (host:port) over plain http: a replay server or a
    proxy.
    """
    concurrency: int = Field(default=64, ge=1)
    """Requests in flight in one partition."""
    per_host: int = Field(default=8, ge=1)
    """Requests in flight to one host in one partition."""


class ShardParams(shard.PackParams):
    """How kept pairs are packed."""

    pairs_per_shard: int = Field(default=10_000, ge=1)
    """Pairs in a shard, about: shards are ranges of uids, so that adding pairs moves few of them.
    """


def _fetch(task: Task) -> Output:
    execution: FetchExecution = task.execution
    network = pool.Network(
        connect_to=execution.connect_to,
        concurrency=execution.concurrency,
        per_host=execution.per_host,
    )
    fetched = pool.fetch(task.table, task.params, network, task.index)
    return Output(fetched.table, {"tar": fetched.tar})


def pooled(pool: Result, rows: pa.Table) -> list[bytes]:
    """The pictures of rows that say where they lie in the pool, in the order of the rows."""
    parts = rows["pool_part"].to_numpy()
    offsets, sizes = rows["pool_offset"].to_numpy(), rows["pool_size"].to_numpy()
    images: list[bytes] = [b""] * rows.num_rows
    for number in np.unique(parts).tolist():
        where = np.flatnonzero(parts == number)
        part = pool.manifest.parts[number]
        found = pool.ranges(part, "tar", offsets[where].tolist(), sizes[where].tolist())
        for row, data in zip(where.tolist(), found, strict=True):
            images[row] = data
    return images


def _pool(task: Task) -> Result:
    pool = task.sides["pool"]
    assert isinstance(pool, Result)
    return pool


def _image_rules(task: Task) -> Output:
    pool = _pool(task)
    return Output(image_rules.image_rules(task.table, lambda rows: pooled(pool, rows), task.params))


def _by_sha256(table: pa.Table, params: Params) -> pa.Table:
    digests = table["sha256"].combine_chunks().cast(pa.binary())
    keys = [digest[:16] for digest in digests.to_pylist()]
    return table.append_column(KEY, pa.array(keys, pa.binary(16)))


def _image_dedup(task: Task) -> Output:
    return Output(image_dedup.image_dedup(task.table, task.params))


def _by_chunk(table: pa.Table, params: Params) -> pa.Table:
    tall = neighbours.by_chunk(table)
    # Fibonacci hashing spreads chunk values, which are dense, over the whole range of keys.
    words = tall["chunk_value"].to_numpy().astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    keys = np.stack([words, np.zeros_like(words)], axis=1).astype(">u8")
    column = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), tall.num_rows, [None, pa.py_buffer(keys.tobytes())]
    )
    return tall.append_column(KEY, column)


def _image_neighbours(task: Task) -> Output:
    return Output(neighbours.neighbours(task.table, task.params))


def _near_dedup(task: Task) -> Output:
    edges = task.sides["edges"]
    assert isinstance(edges, Result)
    return Output(near_dedup.near_dedup(task.table, edges.table(), task.params))


def _by_uid(table: pa.Table, params: Params) -> pa.Table:
    return table.append_column(KEY, table["uid"])


def _shard(task: Task) -> Output:
    tokens = tokenizer.encode_batch(task.table["caption"].to_pylist())
    packed = shard.pack(task.table, pooled(_pool(task), task.table), tokens, task.params)
    return Output(packed.table, {"tar": packed.tar, "arrow": packed.arrow})


def _buckets(rows: int, params: Params) -> int:
    return -(-rows // ROWS_PER_BUCKET)


def _num_shards(rows: int, params: ShardParams) -> int:
    return -(-rows // params.pairs_per_shard)


STAGES = (
    Stage(
        name="fetch",
        version=1,
        summary="Fetch the images politely and safely into a pool of tars",
        params=pool.FetchParams,
        shape=Map(_fetch),
        reasons=pool.FetchReason,
        execution=FetchExecution,
        modules=(
            "curation.fetch.pool",
            "curation.fetch.download",
            "curation.fetch.network",
            "curation.fetch.addresses",
        ),
    ),
    Stage(
        name="image-rules",
        version=1,
        summary="Decode each image once: size, shape, information, perceptual hash",
        params=image_rules.ImageRuleParams,
        shape=Map(_image_rules),
        reasons=image_rules.ImageRuleReason,
        sides={"pool": "fetch"},
        modules=(
            "curation.images.image_rules",
            "curation.images.decode",
            "curation.images.perceptual",
        ),
    ),
    Stage(
        name="image-dedup",
        version=1,
        summary="One pair for every image file; placeholders under many captions all go",
        params=image_dedup.ImageDedupParams,
        shape=Exchange(_by_sha256, _image_dedup, _buckets),
        reasons=image_dedup.ImageDedupReason,
        modules=("curation.dedup.image_dedup",),
    ),
    Stage(
        name="image-neighbours",
        version=1,
        summary="Pairs of images whose perceptual hashes are a few bits apart",
        params=neighbours.NeighbourParams,
        shape=Exchange(_by_chunk, _image_neighbours, _buckets),
        conserves=False,
        modules=("curation.dedup.neighbours", "curation.images.perceptual"),
    ),
    Stage(
        name="near-dedup",
        version=1,
        summary="One pair for every cluster of re-encoded and resized copies",
        params=near_dedup.NearDedupParams,
        shape=Map(_near_dedup),
        reasons=near_dedup.NearDedupReason,
        sides={"edges": "image-neighbours"},
        modules=("curation.dedup.near_dedup",),
    ),
    Stage(
        name="shard",
        version=1,
        summary="Shuffle by uid and write webdataset tars and Arrow files with their sidecars",
        params=ShardParams,
        shape=Exchange(_by_uid, _shard, _num_shards),
        reasons=shard.PackReason,
        sides={"pool": "fetch"},
        modules=(
            "curation.pack.shard",
            "curation.pack.tar",
            "trainer.text.tokenizer",
            "trainer.text.words",
            "trainer.text.bpe",
        ),
    ),
)
