"""`shard`: pairs shuffled by uid and packed into webdataset tars and Arrow files."""

import pyarrow as pa
from pydantic import Field

from curation.pack import shard
from jobs.stages.images.pooled import POOL, pooled
from pipeline.dataset import schema
from pipeline.stage import Exchange, Keyed, Output, RowsTask, Stage
from trainer.text import tokenizer


class ShardParams(shard.PackParams):
    """How kept pairs are packed."""

    pairs_per_shard: int = Field(default=10_000, ge=1)
    """Pairs in a shard, about: shards are ranges of uids, so that adding pairs moves few of them.
    """


def _by_uid(table: pa.Table, params: ShardParams) -> Keyed:
    return Keyed(table, table["uid"].combine_chunks())


def _shard(task: RowsTask[ShardParams]) -> Output:
    tokens = tokenizer.encode_batch(task.table["caption"].to_pylist())
    images = pooled(task.result("pool"), task.table)
    packed = shard.pack(task.table, images, tokens, task.params)
    return Output(packed.table, {"tar": packed.tar, "arrow": packed.arrow})


def _num_shards(rows: int, params: ShardParams) -> int:
    return -(-rows // params.pairs_per_shard)


STAGE = Stage(
    name="shard",
    version=2,
    summary="Shuffle by uid and write webdataset tars and Arrow files with their sidecars",
    params=ShardParams,
    shape=Exchange(_by_uid, _shard, _num_shards),
    needs=(*shard.NEEDS, *schema.POOL),
    adds=shard.ADDS,
    rewrites=(schema.WIDTH, schema.HEIGHT, schema.SHA256),
    reasons=shard.PackReason,
    files=("tar", "arrow"),
    sides={"pool": POOL},
)
