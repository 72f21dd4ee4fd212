"""`url-dedup`: one pair for every image URL."""

import hashlib

import pyarrow as pa

from curation.dedup import url_dedup
from curation.web import urls
from jobs.stages import buckets
from pipeline.stage import Exchange, Keyed, Rule, Stage


def _by_url(table: pa.Table, params: url_dedup.UrlDedupParams) -> Keyed:
    addresses = urls.canonical_urls(table["url"]).to_pylist()
    # A digest per row: Arrow has no stable hash to offer, and canonical URLs are made row by row
    # anyway.
    keys = [hashlib.blake2b(url.encode(), digest_size=16).digest() for url in addresses]
    return Keyed(table, pa.array(keys, pa.binary(16)))


STAGE = Stage(
    name="url-dedup",
    version=1,
    summary="One pair for every image URL, spelled whichever way",
    params=url_dedup.UrlDedupParams,
    shape=Exchange(_by_url, Rule(url_dedup.url_dedup), buckets.by_rows),
    needs=url_dedup.NEEDS,
    adds=url_dedup.ADDS,
    reasons=url_dedup.UrlReason,
)
