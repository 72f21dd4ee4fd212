"""HTTP bodies as their server meant them: transfer and content codings undone, within a bound.

Crawlers store bodies as they came or already decoded under the old header; both are read. Formats:
RFC 9112 (chunked), RFC 9110 section 8.4.1 (gzip, deflate), RFC 7932 (br).
"""

import re
import zlib
from collections.abc import Mapping

import brotli

_CHUNK_HEAD = re.compile(rb"([0-9a-fA-F]{1,8})[ \t]*(?:;[^\r\n]*)?\r?\n")


class UnreadableBody(Exception):
    """A body that cannot be decoded, or not within the bound; the message says why."""


def decoded_body(body: bytes, headers: Mapping[str, str], max_bytes: int) -> bytes:
    """The body without its codings; `headers` have lower-case names. Raises UnreadableBody."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = _dechunked(body)
    # Listed in the order in which they were applied, so the last is undone first.
    for coding in reversed(headers.get("content-encoding", "").lower().split(",")):
        body = _decoded(body, coding.strip(), max_bytes)
    if len(body) > max_bytes:
        raise UnreadableBody(f"larger than {max_bytes} bytes")
    return body


def _dechunked(body: bytes) -> bytes:
    position = 0
    chunks: list[bytes] = []
    if not _CHUNK_HEAD.match(body):
        return body  # dechunked by the crawler, which kept the old header
    while head := _CHUNK_HEAD.match(body, position):
        size = int(head[1], 16)
        if size == 0:
            return b"".join(chunks)
        chunks.append(body[head.end() : head.end() + size])
        position = head.end() + size
        position += 2 if body[position : position + 2] == b"\r\n" else 1
    raise UnreadableBody("chunked body cut short")


def _decoded(body: bytes, coding: str, max_bytes: int) -> bytes:
    if coding in ("", "identity", "none"):
        return body
    if coding in ("gzip", "x-gzip"):
        # As with chunks: what does not begin as gzip was inflated by the crawler.
        return _inflated(body, 31, max_bytes) if body[:2] == b"\x1f\x8b" else body
    if coding == "deflate":
        # RFC 9110 means zlib's format (RFC 1950), some servers send bare deflate (RFC 1951). Only
        # the former begins with method 8 and two bytes that 31 divides; wbits is negative for the
        # latter.
        zlib_header = len(body) > 1 and body[0] & 15 == 8 and (body[0] << 8 | body[1]) % 31 == 0
        return _inflated(body, 15 if zlib_header else -15, max_bytes)
    if coding == "br":
        return _unbrotlied(body, max_bytes)
    raise UnreadableBody(f"content coding {coding[:40]} is not known")


def _inflated(body: bytes, window: int, max_bytes: int) -> bytes:
    """The inflated body, up to one byte above the bound: enough to see that it is exceeded."""
    inflate = zlib.decompressobj(window)
    try:
        data = inflate.decompress(body, max_bytes + 1)
    except zlib.error as error:
        raise UnreadableBody(f"damaged body ({error})") from error
    if not inflate.eof and len(data) <= max_bytes:
        raise UnreadableBody("compressed body cut short")
    return data


def _unbrotlied(body: bytes, max_bytes: int) -> bytes:
    decoder = brotli.Decompressor()
    try:
        data: bytes = decoder.process(body, output_buffer_limit=max_bytes + 1)
        while not decoder.is_finished() and len(data) <= max_bytes:
            more = decoder.process(b"", output_buffer_limit=max_bytes + 1)
            if not more:
                raise UnreadableBody("compressed body cut short")
            data += more
    except brotli.error as error:
        raise UnreadableBody(f"damaged body ({error})") from error
    return data
