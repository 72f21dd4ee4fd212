"""`image-dedup`: one pair for every image file."""

import pyarrow as pa

from curation.dedup import image_dedup
from jobs.stages import buckets
from pipeline.stage import Exchange, Keyed, Rule, Stage


def _by_sha256(table: pa.Table, params: image_dedup.ImageDedupParams) -> Keyed:
    digests = table["sha256"].combine_chunks().cast(pa.binary())
    keys = [digest[:16] for digest in digests.to_pylist()]
    return Keyed(table, pa.array(keys, pa.binary(16)))


STAGE = Stage(
    name="image-dedup",
    version=1,
    summary="One pair for every image file; placeholders under many captions all go",
    params=image_dedup.ImageDedupParams,
    shape=Exchange(_by_sha256, Rule(image_dedup.image_dedup), buckets.by_rows),
    needs=image_dedup.NEEDS,
    adds=image_dedup.ADDS,
    reasons=image_dedup.ImageDedupReason,
)
