"""WARC/1.0 records with fixed dates and hashed ids: the same records give the same bytes.

One gzip member per record and, for bodies that were written before, `revisit` records as crawlers
write them. Reading is left to fastwarc.
"""

import base64
import hashlib
import uuid
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

from tools.miniweb.draw import below, digest

PROFILE = "http://netpreserve.org/warc/1.0/revisit/identical-payload-digest"
Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class HttpExchange:
    """One HTTP exchange to be recorded; `lost` bytes were announced and never came."""

    url: str
    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes
    lost: int = 0


def _date(url: str) -> str:
    seconds = below(9 * 86_400, "date", url)
    days, seconds = divmod(seconds, 86_400)
    hours, seconds = divmod(seconds, 3600)
    return f"2026-05-{10 + days:02d}T{hours:02d}:{seconds // 60:02d}:{seconds % 60:02d}Z"


def _record(kind: str, url: str, headers: Pairs, block: bytes) -> bytes:
    identity = uuid.UUID(bytes=digest("record", kind, url, hashlib.sha256(block).hexdigest()))
    lines = [
        ("WARC-Type", kind),
        ("WARC-Record-ID", f"<urn:uuid:{identity}>"),
        ("WARC-Date", _date(url)),
        *headers,
        ("Content-Length", str(len(block))),
    ]
    head = "WARC/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines) + "\r\n"
    return head.encode() + block + b"\r\n\r\n"


def member(data: bytes) -> bytes:
    """`data` as one gzip member without a time."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return packer.compress(data) + packer.flush()


def warcinfo(name: str, about: str) -> bytes:
    """The record that opens a file."""
    block = f"software: openwit make_miniweb\r\nformat: WARC File Format 1.0\r\n{about}\r\n"
    more = (("WARC-Filename", name), ("Content-Type", "application/warc-fields"))
    return _record("warcinfo", name, more, block.encode())


def request(url: str, host: str, target: str) -> bytes:
    """The request that led to a response."""
    block = f"GET {target} HTTP/1.1\r\nUser-Agent: minibot/1.0\r\nHost: {host}\r\n\r\n"
    more = (("WARC-Target-URI", url), ("Content-Type", "application/http; msgtype=request"))
    return _record("request", url, more, block.encode())


def _http_head(one: HttpExchange) -> bytes:
    phrase = HTTPStatus(one.status).phrase
    headers = (*one.headers, ("Content-Length", str(len(one.body) + one.lost)))
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
    return f"HTTP/1.1 {one.status} {phrase}\r\n{lines}\r\n".encode()


def response(one: HttpExchange, digests: bool) -> bytes:
    """The response record, with the payload's SHA-1 as crawls give it if `digests`."""
    more = [
        ("WARC-Target-URI", one.url),
        ("Content-Type", "application/http; msgtype=response"),
    ]
    if digests:
        sha1 = base64.b32encode(hashlib.sha1(one.body).digest()).decode()
        more.append(("WARC-Payload-Digest", f"sha1:{sha1}"))
    if one.lost:
        more.append(("WARC-Truncated", "disconnect"))
    return _record("response", one.url, more, _http_head(one) + one.body)


def revisit(one: HttpExchange, first: str) -> bytes:
    """A response whose body is that of the earlier record of `first`."""
    more = (
        ("WARC-Target-URI", one.url),
        ("WARC-Profile", PROFILE),
        ("WARC-Refers-To-Target-URI", first),
        ("Content-Type", "application/http; msgtype=response"),
    )
    return _record("revisit", one.url, more, _http_head(one))


def write_images(path: Path, exchanges: Iterable[HttpExchange]) -> None:
    """Every exchange in order; a body of 200 bytes or more is stored once."""
    first: dict[bytes, str] = {}
    with path.open("wb") as out:
        out.write(member(warcinfo(path.name, "description: image responses of the mini-web")))
        for one in exchanges:
            known = first.setdefault(one.body, one.url)
            if known != one.url and len(one.body) >= 200 and not one.lost:
                out.write(member(revisit(one, known)))
            else:
                out.write(member(response(one, digests=False)))
