"""Extraction: every image of a crawl becomes a row, and what a crawl lost is said."""

import gzip
import io
import zlib
from collections.abc import Callable
from typing import BinaryIO

import brotli
import pyarrow as pa
import pytest
from fastwarc.warc import ArchiveIterator
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.web.extract import PAIR_SCHEMA, ExtractParams, ExtractReason, NotAWarc, extract
from pipeline.dataset.uid import pair_uid
from pipeline.dataset.verdict import VERDICT
from tests.support.verdicts import Verdict

PARAMS = ExtractParams()
HTML = "Content-Type: text/html; charset=utf-8\r\n"


def record(
    block: bytes,
    url: str = "http://a.example/",
    kind: str = "response",
    media: str = "application/http",
) -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:0>\r\n"
        f"WARC-Date: 2026-01-01T00:00:00Z\r\nWARC-Target-URI: {url}\r\n"
        f"Content-Type: {media}; msgtype=response\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def http(body: bytes, headers: str = HTML, status: str = "HTTP/1.1 200 OK") -> bytes:
    return f"{status}\r\n{headers}\r\n".encode() + body


def page(body: str, url: str = "http://a.example/") -> bytes:
    return record(http(body.encode()), url)


def members(*records: bytes) -> bytes:
    return b"".join(gzip.compress(each, mtime=0) for each in records)


def captions(table: pa.Table) -> list[str]:
    return sorted(table["caption"].to_pylist())


def verdicts(table: pa.Table) -> list[Verdict]:
    return [verdict for verdict in table["verdict"].to_pylist() if verdict]


THREE = [page(f"<img src={n}.jpg alt='number {n}'>", f"http://a.example/{n}/") for n in range(3)]
ALL = ["number 0", "number 1", "number 2"]
WHOLE = {
    "plain": b"".join(THREE),
    "gzip": members(*THREE),
    "one member": gzip.compress(b"".join(THREE), mtime=0),
}


@pytest.mark.parametrize("form", WHOLE)
@pytest.mark.parametrize("source", [lambda data: data, io.BytesIO], ids=["bytes", "file"])
def test_all_images_of_all_pages_sorted_by_uid(
    form: str, source: Callable[[bytes], bytes | BinaryIO]
) -> None:
    table = extract(source(WHOLE[form]), "x.warc", PARAMS)
    assert table.schema == PAIR_SCHEMA.append(pa.field("verdict", VERDICT))
    rows = sorted(table.to_pylist(), key=lambda row: row["caption"])
    assert [row["caption"] for row in rows] == ALL
    assert rows[1] == {
        "uid": pair_uid("http://a.example/1/1.jpg", "number 1"),
        "url": "http://a.example/1/1.jpg",
        "caption": "number 1",
        "page_url": "http://a.example/1/",
        "position": 0,
        "caption_source": "alt",
        "verdict": None,
    }
    uids = table["uid"].to_pylist()
    assert uids == sorted(uids)


@pytest.mark.parametrize(
    ("src", "reason", "evidence"),
    [
        ("", "no_url", None),
        ("data:image/png;base64,AA", "bad_scheme", "data"),
        ("javascript:void(0)", "bad_scheme", "javascript"),
        ("file:///etc/passwd", "bad_scheme", "file"),
        ("ftp://a.example/x.jpg", "bad_scheme", "ftp"),
        ("http://[bad/x.jpg", "bad_url", "Invalid IPv6 URL"),
        ("http://./x.jpg", "bad_url", "no usable host"),
        ("http://a b.example/x.jpg", "bad_url", "no usable host"),
        ("http://a.example:99999/x.jpg", "bad_url", "Port out of range 0-65535"),
        ("HTTPS://a.example/x.jpg", None, None),
    ],
)
def test_addresses_that_cannot_be_fetched_are_turned_away(
    src: str, reason: str | None, evidence: str | None
) -> None:
    table = extract(page(f"<img src='{src}' alt=x>"), "x.warc", PARAMS)
    [verdict] = table["verdict"].to_pylist()
    assert (verdict and verdict["reason"]) == reason
    assert (verdict and verdict["evidence"]) == evidence


def test_a_long_address_is_cut_but_keeps_the_uid_of_the_whole() -> None:
    url = "http://a.example/" + "x" * 3000
    table = extract(page(f"<img src='{url}' alt=x>"), "x.warc", PARAMS)
    assert table["uid"].to_pylist() == [pair_uid(url, "x")]
    assert table["url"].to_pylist() == [url[:2083]]
    assert verdicts(table) == [
        {"reason": "url_too_long", "value": 3017.0, "threshold": 2083.0, "evidence": None}
    ]


BODY = "<img src=a.jpg alt='caf\u00e9'>".encode() * 3
CHUNKED = b"a\r\n" + BODY[:10] + b"\r\n" + b"%x;ext=1\r\n" % (len(BODY) - 10) + BODY[10:]
RAW_DEFLATE = zlib.compressobj(wbits=-15)


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ("", BODY),
        ("Content-Encoding: gzip\r\n", gzip.compress(BODY)),
        ("Content-Encoding: gzip\r\n", BODY),
        ("Content-Encoding: deflate\r\n", zlib.compress(BODY)),
        ("Content-Encoding: deflate\r\n", RAW_DEFLATE.compress(BODY) + RAW_DEFLATE.flush()),
        ("Content-Encoding: br\r\n", brotli.compress(BODY)),
        ("Content-Encoding: identity\r\n", BODY),
        ("Transfer-Encoding: chunked\r\n", CHUNKED + b"\r\n0\r\n\r\n"),
        ("Transfer-Encoding: chunked\r\n", BODY),
        (
            "Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n",
            b"%x\r\n" % len(gzip.compress(BODY)) + gzip.compress(BODY) + b"\r\n0\r\n\r\n",
        ),
        ("X-Folded: one\r\n two\r\n", BODY),
    ],
)
def test_bodies_are_read_through_their_codings(headers: str, body: bytes) -> None:
    table = extract(record(http(body, headers + HTML)), "x.warc", PARAMS)
    assert table["caption"].to_pylist() == ["caf\u00e9"] * 3


def test_a_header_with_bare_newlines_is_a_header() -> None:
    block = b"HTTP/1.0 200 OK\nContent-Type: text/html\n\n" + BODY
    assert extract(record(block), "x.warc", PARAMS).num_rows == 3


@pytest.mark.parametrize(
    ("block", "evidence"),
    [
        (b"no header at all", "no HTTP header"),
        (http(b"", HTML.replace("HTTP", "")).replace(b"HTTP/", b"H/"), "no HTTP header"),
        (
            http(gzip.compress(BODY)[:-9], "Content-Encoding: gzip\r\n" + HTML),
            "compressed body cut short",
        ),
        (
            http(brotli.compress(BODY)[:-2], "Content-Encoding: br\r\n" + HTML),
            "compressed body cut short",
        ),
        (http(b"\xff\xff", "Content-Encoding: br\r\n" + HTML), "damaged body (brotli"),
        (http(CHUNKED, "Transfer-Encoding: chunked\r\n" + HTML), "chunked body cut short"),
        (http(BODY, "Content-Encoding: zstd\r\n" + HTML), "content coding zstd is not known"),
        (http(b"x" * 5000), "larger than 4096 bytes"),
        (
            http(gzip.compress(b"\0" * (64 << 20)), "Content-Encoding: gzip\r\n" + HTML),
            "larger than 4096 bytes",
        ),
        (
            http(brotli.compress(b"\0" * (64 << 20), quality=1), "Content-Encoding: br\r\n" + HTML),
            "larger than 4096 bytes",
        ),
    ],
)
def test_a_page_that_cannot_be_read_is_one_damaged_row(block: bytes, evidence: str) -> None:
    limit = 4096 if b"x" * 5000 in block or "larger" in evidence else 16 << 20
    if b"gzip" in block and "larger" in evidence:
        limit = 1 << 17
        evidence = f"larger than {limit} bytes"
    params = ExtractParams(max_page_bytes=limit)
    table = extract(record(block, "http://a.example/p") + THREE[0], "x.warc", params)
    assert captions(table) == ["", "number 0"]
    [row] = [row for row in table.to_pylist() if row["verdict"]]
    assert (row["url"], row["position"]) == ("http://a.example/p", -1)
    assert row["verdict"]["reason"] == "page_unreadable"
    assert row["verdict"]["evidence"].startswith(evidence)
    assert ExtractReason.PAGE_UNREADABLE.damage


@pytest.mark.parametrize(
    "other",
    [
        record(http(b"\x89PNG", "Content-Type: image/png\r\n")),
        record(http(BODY, "Content-Type: text/plain\r\n")),
        record(b"GET / HTTP/1.1\r\n\r\n", kind="request"),
        record(b"software: x\r\n", kind="warcinfo", media="application/warc-fields"),
        record(b"127.0.0.1", url="dns:a.example", media="text/dns"),
    ],
)
def test_records_that_are_no_pages_leave_no_rows(other: bytes) -> None:
    assert captions(extract(other + THREE[0] + other, "x.warc", PARAMS)) == ["number 0"]


@pytest.mark.parametrize("form", WHOLE)
def test_wherever_a_file_is_cut_all_before_is_kept_and_the_cut_is_said(form: str) -> None:
    whole = WHOLE[form]
    counts = set()
    for size in range(5, len(whole)):
        try:
            table = extract(whole[:size], "x.warc", PARAMS)
        except NotAWarc:
            assert form != "plain" and size < 100  # too little to see that it is a WARC
            continue
        damage = [v for v in verdicts(table) if v["reason"] == "warc_truncated"]
        kept = captions(table)[len(damage) :]
        assert kept == ALL[: len(kept)]
        counts.add(len(kept))
        at_a_border = form != "one member" and whole[:size] in borders(form)
        assert len(damage) == (0 if at_a_border else 1)
    assert counts == {0, 1, 2, 3}


def borders(form: str) -> list[bytes]:
    """What is whole in itself: cut after a member, or after a record, its last newlines or not."""
    if form == "gzip":
        return [members(*THREE[:n]) for n in range(4)]
    ends = [len(b"".join(THREE[:n])) for n in range(1, 4)]
    return [WHOLE["plain"][: end - less] for end in ends for less in range(5)]


def test_the_row_of_a_cut_names_the_file_and_the_byte() -> None:
    cut = members(*THREE)[:-20]
    [row] = [row for row in extract(cut, "crawl/7.warc.gz", PARAMS).to_pylist() if row["verdict"]]
    start = len(members(*THREE[:2]))
    assert row["url"] == row["page_url"] == "crawl/7.warc.gz"
    assert row["verdict"]["value"] == start
    assert row["verdict"]["evidence"] == f"byte {start}: gzip member cut short"


def test_a_damaged_member_ends_the_file_there() -> None:
    first, second, third = (members(each) for each in THREE)
    broken = bytearray(second)
    broken[60:80] = b"\xaa" * 20
    table = extract(first + bytes(broken) + third, "x.warc", PARAMS)
    [verdict] = verdicts(table)
    assert verdict["evidence"].startswith(f"byte {len(first)}: damaged gzip member")
    assert "number 0" in captions(table) and "number 2" not in captions(table)


def test_a_wrong_checksum_costs_what_follows_and_not_what_was_read() -> None:
    broken = bytearray(members(THREE[0]))
    broken[-6] ^= 0x55
    table = extract(bytes(broken) + members(THREE[1]), "x.warc", PARAMS)
    assert captions(table) == ["", "number 0"]


def test_text_between_records_is_damage() -> None:
    table = extract(THREE[0] + b"junk\r\n\r\n" + THREE[1], "x.warc", PARAMS)
    assert captions(table) == ["", "number 0"]
    [verdict] = verdicts(table)
    assert verdict["evidence"] == f"byte {len(THREE[0])}: no record header here"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "it is empty"),
        (b"<html><img src=a></html>", "it begins with b'<html'"),
        (gzip.compress(b"some text", mtime=0), "it begins with b'some '"),
        (b"\x1f\x8bnot gzip", "damaged gzip member"),
        (b"PK\3\4" + bytes(100), "it begins with b'PK"),
    ],
)
def test_what_is_no_warc_is_refused_by_name(data: bytes, why: str) -> None:
    with pytest.raises(NotAWarc) as error:
        extract(data, "crawl/x.warc", PARAMS)
    assert str(error.value).startswith(f"crawl/x.warc is not a WARC file: {why}")


def test_the_records_are_those_that_fastwarc_sees() -> None:
    """An oracle for whole files: another reader's count of HTML responses, one image each."""
    for data in WHOLE.values():
        seen = [r.headers["WARC-Target-URI"] for r in ArchiveIterator(io.BytesIO(data))]
        table = extract(data, "x.warc", PARAMS)
        assert sorted(table["page_url"].to_pylist()) == sorted(seen)


@given(st.binary(max_size=400), st.booleans())
@settings(max_examples=200)
def test_any_bytes_after_a_good_record_cost_nothing_before_them(junk: bytes, zipped: bool) -> None:
    data = members(THREE[0]) + junk if zipped else THREE[0] + junk
    assert "number 0" in captions(extract(data, "x.warc", PARAMS))


@given(st.binary(max_size=400))
def test_any_block_is_a_page_or_a_verdict(block: bytes) -> None:
    table = extract(record(block) + record(http(block)), "x.warc", PARAMS)
    assert table.schema.field("verdict").type == VERDICT
