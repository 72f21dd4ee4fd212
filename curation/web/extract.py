"""Image-caption pairs from one WARC file: one row per <img> of every HTML response in it.

Rows that cannot be used are rows too, with a verdict; what the archive lost (a page that cannot be
read, a file cut short) leaves one row that says where.
"""

from collections.abc import Iterator
from typing import BinaryIO, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.web import warc
from curation.web.codings import UnreadableBody
from curation.web.images import images
from curation.web.warc import NotAWarc
from pipeline.dataset.column import Column, schema_of
from pipeline.dataset.params import Params
from pipeline.dataset.schema import PAIR
from pipeline.dataset.uid import pair_uid
from pipeline.dataset.verdict import Judge, Reason

__all__ = ["ADDS", "NEEDS", "PAIR_SCHEMA", "ExtractParams", "ExtractReason", "NotAWarc", "extract"]

NEEDS: tuple[Column, ...] = ()
ADDS = PAIR
PAIR_SCHEMA = schema_of(PAIR)


class ExtractReason(Reason):
    """Why an image of a page does not become a pair."""

    NO_URL = "no_url", "the image element names no file"
    BAD_SCHEME = "bad_scheme", "not an http or https address"
    BAD_URL = "bad_url", "the address cannot be parsed"
    URL_TOO_LONG = (
        "url_too_long",
        "the address is too long",
        "raise max_url_chars if such addresses matter",
        True,
    )
    PAGE_UNREADABLE = (
        "page_unreadable",
        "the page's record cannot be read",
        "raise max_page_bytes if it is only large; otherwise the crawl is damaged",
        True,
    )
    WARC_TRUNCATED = (
        "warc_truncated",
        "the crawl file is damaged or cut short here",
        "fetch the file again; all pairs before the damage were kept",
        True,
    )


class ExtractParams(Params):
    """How much of a page and of an address is taken."""

    max_url_chars: int = Field(2083, ge=64)
    """Longest address of an image, in characters."""
    max_page_bytes: int = Field(16 << 20, ge=1024)
    """Largest page, before and after decompression, in bytes; a larger one is not read."""


class _Objection(NamedTuple):
    """What speaks against a row, if anything: reason, the value that decided, evidence."""

    reason: ExtractReason | None = None
    value: float | None = None
    evidence: str | None = None


class _Row(NamedTuple):
    url: str
    caption: str
    page_url: str
    position: int
    caption_source: str
    objection: _Objection


def extract(source: BinaryIO | bytes, name: str, params: ExtractParams) -> pa.Table:
    """The pairs of a WARC, plain or gzip: `PAIR_SCHEMA` sorted by uid, and `verdict`.

    `name` stands for the file in its rows and messages. The url of a row is cut to `max_url_chars`,
    its uid is of the whole url. Raises NotAWarc when the source is no WARC at all.
    """
    rows = list(_rows(source, name, params))
    limit = params.max_url_chars
    table = pa.table(
        {
            "uid": [pair_uid(row.url, row.caption) for row in rows],
            "url": [row.url[:limit] for row in rows],
            "caption": [row.caption for row in rows],
            "page_url": [row.page_url for row in rows],
            "position": [row.position for row in rows],
            "caption_source": [row.caption_source for row in rows],
        },
        PAIR_SCHEMA,
    )
    order = pc.sort_indices(table, [("uid", "ascending")])
    objections = [rows[i].objection for i in order.to_pylist()]
    return _judged(table.take(order), objections, limit)


def _judged(table: pa.Table, objections: list[_Objection], max_url_chars: int) -> pa.Table:
    judge = Judge(table)
    values = np.array([np.nan if o.value is None else o.value for o in objections], float)
    evidence = [objection.evidence for objection in objections]
    for reason in ExtractReason:
        where = np.array([objection.reason is reason for objection in objections], bool)
        bound = max_url_chars if reason is ExtractReason.URL_TOO_LONG else None
        judge.drop(where, reason, values, bound, evidence)
    return judge.table()


def _rows(source: BinaryIO | bytes, name: str, params: ExtractParams) -> Iterator[_Row]:
    for item in warc.html_responses(source, name, params.max_page_bytes):
        if isinstance(item, warc.WarcDamage):
            where = f"byte {item.offset}: {item.why}"[:200]
            objection = _Objection(ExtractReason.WARC_TRUNCATED, float(item.offset), where)
            yield _Row(name, "", name, -1, "", objection)
        else:
            yield from _page_rows(item, params)


def _page_rows(page: warc.HtmlResponse, params: ExtractParams) -> Iterator[_Row]:
    try:
        text = page.html(params.max_page_bytes)
    except UnreadableBody as error:
        objection = _Objection(ExtractReason.PAGE_UNREADABLE, evidence=str(error)[:200])
        yield _Row(page.url, "", page.url, -1, "", objection)
        return
    for image in images(text, page.url, page.charset):
        objection = _objection(image.url, params.max_url_chars)
        source = image.caption_source
        yield _Row(image.url, image.caption, page.url, image.position, source, objection)


def _objection(url: str, max_chars: int) -> _Objection:
    """What speaks against fetching an image from this URL, which is absolute if it can be."""
    if not url:
        return _Objection(ExtractReason.NO_URL)
    scheme, colon, _ = url[:64].partition(":")
    if scheme.lower() not in ("http", "https"):
        return _Objection(ExtractReason.BAD_SCHEME, evidence=scheme.lower() if colon else "none")
    if len(url) > max_chars:
        return _Objection(ExtractReason.URL_TOO_LONG, float(len(url)))
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return _Objection(ExtractReason.BAD_URL, evidence=str(error)[:200])
    if not host or not host.strip(".") or set(host) & _NOT_IN_A_HOST:
        return _Objection(ExtractReason.BAD_URL, evidence="no usable host")
    return _Objection()


# https://url.spec.whatwg.org/#forbidden-host-code-points, less the brackets and colons of IPv6.
_NOT_IN_A_HOST = frozenset(map(chr, range(0x21))) | frozenset('"#%/<>?@\\^`{|}\x7f')
