"""Fetches the pictures of one partition into a pool tar, with a verdict for every row.

The tar is a pure function of what the network returned: members stand in the order of uids, never
of completion.
"""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from curation.fetch.answers import Answer, FetchReason
from curation.fetch.download import FetchParams, download_all
from curation.fetch.network import Network
from curation.pack.tar import TarWriter
from pipeline.dataset.column import Column, put
from pipeline.dataset.formats import WEB_FORMATS
from pipeline.dataset.schema import (
    CONTENT_TYPE,
    FINAL_URL,
    HTTP_STATUS,
    POOL,
    POOL_OFFSET,
    POOL_PART,
    POOL_SIZE,
    SHA256,
    UID,
    URL,
)
from pipeline.dataset.verdict import Judge

__all__ = ["ADDS", "NEEDS", "FetchParams", "FetchReason", "Fetched", "Network", "fetch"]

NEEDS: tuple[Column, ...] = (UID, URL)
ADDS: tuple[Column, ...] = (SHA256, HTTP_STATUS, CONTENT_TYPE, FINAL_URL, *POOL)


@dataclass(frozen=True)
class Fetched:
    """The rows, with verdicts and the places of their bytes, and the pool tar itself."""

    table: pa.Table
    tar: bytes


@dataclass(frozen=True)
class _Entry:
    """A picture in the pool."""

    sha256: bytes
    offset: int
    size: int


def fetch(table: pa.Table, params: FetchParams, network: Network, part: int) -> Fetched:
    """The rows with verdicts of `FetchReason`, and the pool tar of partition `part`.

    Adds the columns of `ADDS`; sha256 is of the bytes as sent. A URL is requested once per
    partition, and its rows share the pool entry, which is named after the smallest of their uids.
    """
    urls = table["url"].to_pylist()
    distinct = list(dict.fromkeys(urls))
    answers = dict(zip(distinct, asyncio.run(download_all(distinct, params, network)), strict=True))
    tar = TarWriter()
    entries = _pool(table["uid"].to_pylist(), urls, answers, tar)
    rows = [answers[url] for url in urls]
    pooled = _with_columns(table, rows, [entries.get(url) for url in urls], part)
    return Fetched(_judge(pooled, rows), tar.finish())


def _pool(
    uids: Sequence[bytes], urls: Sequence[str], answers: dict[str, Answer], tar: TarWriter
) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    # One row at a time: members of a tar are written one after the other.
    for uid, url in sorted(zip(uids, urls, strict=True)):
        answer = answers[url]
        if answer.reason is None and url not in entries:
            offset = tar.add(f"{uid.hex()}.{_EXTENSIONS[answer.format]}", answer.body)
            digest = hashlib.sha256(answer.body).digest()
            entries[url] = _Entry(digest, offset, len(answer.body))
    return entries


def _with_columns(
    table: pa.Table, rows: Sequence[Answer], entries: Sequence[_Entry | None], part: int
) -> pa.Table:
    values: dict[Column, Sequence[object]] = {
        SHA256: [entry and entry.sha256 for entry in entries],
        HTTP_STATUS: [row.status for row in rows],
        CONTENT_TYPE: [row.content_type for row in rows],
        FINAL_URL: [row.final_url for row in rows],
        POOL_PART: [entry and part for entry in entries],
        POOL_OFFSET: [entry and entry.offset for entry in entries],
        POOL_SIZE: [entry and entry.size for entry in entries],
    }
    return put(table, {column: pa.array(values[column], column.type) for column in ADDS})


def _judge(table: pa.Table, rows: Sequence[Answer]) -> pa.Table:
    judge = Judge(table)
    reasons = np.array([row.reason for row in rows], dtype=object)
    values = np.array([row.value for row in rows], dtype=float)
    thresholds = np.array([row.threshold for row in rows], dtype=float)
    evidence = np.array([row.evidence for row in rows], dtype=object)
    for reason in FetchReason:
        judge.drop(reasons == reason, reason, values, thresholds, evidence)
    return judge.table()


_EXTENSIONS = {format.name: format.suffix for format in WEB_FORMATS}
