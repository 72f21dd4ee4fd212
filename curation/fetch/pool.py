"""Fetches the pictures of one partition into a pool tar, with a verdict for every row.

The tar is a pure function of what the network returned: members in the order of uids, never of
completion. How a URL is asked for is `download`'s affair.
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
from pipeline.dataset.formats import WEB_FORMATS
from pipeline.dataset.verdict import Judge

__all__ = ["FetchParams", "FetchReason", "Fetched", "Network", "fetch"]


@dataclass(frozen=True)
class Fetched:
    """The rows with verdicts and where their bytes are, and the bytes."""

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

    Adds sha256 (of the bytes as sent), http_status, content_type, final_url, pool_part, pool_offset
    and pool_size. A URL is asked for once, and its rows share the pool entry named after the
    smallest uid.
    """
    urls = table["url"].to_pylist()
    wanted = list(dict.fromkeys(urls))
    answers = dict(zip(wanted, asyncio.run(download_all(wanted, params, network)), strict=True))
    tar = TarWriter()
    entries = _pool(table["uid"].to_pylist(), urls, answers, tar)
    rows = [answers[url] for url in urls]
    pooled = _with_columns(table, rows, [entries.get(url) for url in urls], part)
    return Fetched(_judge(pooled, rows), tar.finish())


def _pool(
    uids: Sequence[bytes], urls: Sequence[str], answers: dict[str, Answer], tar: TarWriter
) -> dict[str, _Entry]:
    entries: dict[str, _Entry] = {}
    # A row at a time: members of a tar are written one after the other.
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
    columns = {
        "sha256": pa.array([entry and entry.sha256 for entry in entries], pa.binary(32)),
        "http_status": pa.array([row.status for row in rows], pa.int16()),
        "content_type": pa.array([row.content_type for row in rows], pa.string()),
        "final_url": pa.array([row.final_url for row in rows], pa.string()),
        "pool_part": pa.array([entry and part for entry in entries], pa.int32()),
        "pool_offset": pa.array([entry and entry.offset for entry in entries], pa.int64()),
        "pool_size": pa.array([entry and entry.size for entry in entries], pa.int32()),
    }
    for name, column in columns.items():
        table = table.append_column(name, column)
    return table


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
