"""The HTML responses of one WARC file, plain or gzip, and word of where the file is damaged.

A reader that ends quietly where a file is cut short loses pairs without a trace, so every record's
length is checked here and every loss is reported as `WarcDamage`. Formats: ISO 28500 (WARC/1.x),
RFC 1952 (gzip).
"""

import io
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from curation.web.codings import UnreadableBody, decoded_body

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer as Buffer

_HTML_TYPES = ("text/html", "application/xhtml+xml")
_CHUNK_BYTES = 1 << 16
_MAX_HEADER_BYTES = 1 << 18
_HEADER_END = re.compile(rb"\r?\n\r?\n")
_FOLDED_LINE = re.compile(rb"\r?\n[ \t]+")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?\s*([\w:.-]+)", re.IGNORECASE)


class NotAWarc(ValueError):
    """The source is no WARC file at all."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} is not a WARC file: {why}")


@dataclass(frozen=True, slots=True)
class WarcDamage:
    """Where the file stops making sense: nothing after `offset` (bytes into the file) was read.

    In a gzip file whose members are whole, the offset counts inflated bytes.
    """

    offset: int
    why: str


@dataclass(frozen=True, slots=True)
class HtmlResponse:
    """One HTML response: its address, its HTTP header (lower-case names) and its body as stored."""

    url: str
    headers: dict[str, str]
    body: bytes
    problem: str = ""

    @property
    def charset(self) -> str | None:
        """The charset of the HTTP header, if it names one."""
        match = _CHARSET.search(self.headers.get("content-type", ""))
        return match[1] if match else None

    def html(self, max_bytes: int) -> bytes:
        """The body with its transfer and content codings undone; raises UnreadableBody."""
        if self.problem:
            raise UnreadableBody(self.problem)
        return decoded_body(self.body, self.headers, max_bytes)


def html_responses(
    source: BinaryIO | bytes, name: str, max_bytes: int
) -> Iterator[HtmlResponse | WarcDamage]:
    """The HTML responses of a WARC in order; if it is damaged, a WarcDamage comes last.

    Raises NotAWarc, with `name` in its message, for a source that does not begin as a WARC file.
    A body is read up to `max_bytes` and one byte more.
    """
    stream = io.BytesIO(source) if isinstance(source, bytes) else source
    file: io.BufferedReader = io.BufferedReader(_Raw(stream), _CHUNK_BYTES)
    gunzip = _Gunzip(file) if file.peek(2)[:2] == b"\x1f\x8b" else None
    records: io.BufferedReader = io.BufferedReader(gunzip, _CHUNK_BYTES) if gunzip else file
    start = records.peek(5)[:5]
    if start != b"WARC/":
        raise NotAWarc(name, _why_not(start, gunzip.damage if gunzip else None))
    for item in _records(records, max_bytes):
        # A damaged gzip member also cuts a record short; one damage is reported, where it began.
        if isinstance(item, HtmlResponse) or gunzip is None or gunzip.damage is None:
            yield item
    if gunzip and gunzip.damage:
        yield gunzip.damage


def _why_not(start: bytes, damage: WarcDamage | None) -> str:
    if damage:
        return damage.why
    return f"it begins with {start!r} instead of b'WARC/'" if start else "it is empty"


def _records(file: io.BufferedReader, max_bytes: int) -> Iterator[HtmlResponse | WarcDamage]:
    # A record is a header that ends with an empty line, Content-Length bytes, and two line ends
    # (ISO 28500, 4). The lengths are the only framing: where one is wrong, what follows cannot be
    # told from content, so reading ends there and says so.
    offset = 0
    while line := file.readline(_MAX_HEADER_BYTES):
        if not line.strip(b"\r\n"):
            offset += len(line)
            continue
        head = line + _rest_of_header(file)
        fields = _fields(head)
        length = fields.get("content-length", "")
        if not line.startswith(b"WARC/") or not _HEADER_END.search(head[-4:]):
            yield WarcDamage(offset, "no record header here")
            return
        if not re.fullmatch(r"[0-9]{1,18}", length):
            yield WarcDamage(offset, "record without a length")
            return
        block = _Block(file, int(length))
        page = _page(fields, block, max_bytes)
        # Only a block that is there in full counts; a page that lacks its end may lack pairs.
        if not block.skip():
            yield WarcDamage(offset, "record cut short")
            return
        if page is not None:
            yield page
        offset += len(head) + int(length)


def _rest_of_header(file: io.BufferedReader) -> bytes:
    """What follows up to and with the empty line; less if the file ends or there is none."""
    lines: list[bytes] = []
    size = 0
    while size < _MAX_HEADER_BYTES:
        lines.append(file.readline(_MAX_HEADER_BYTES))
        size += len(lines[-1])
        if not lines[-1].strip(b"\r\n"):
            break
    return b"".join(lines)


def _fields(head: bytes) -> dict[str, str]:
    """The named fields of a WARC or HTTP header, the first of each name, names in lower case."""
    fields: dict[str, str] = {}
    for line in _FOLDED_LINE.sub(b" ", head).decode("utf-8", "replace").split("\n")[1:]:
        name, _, value = line.partition(":")
        fields.setdefault(name.strip().lower(), value.strip())
    return fields


def _page(fields: dict[str, str], block: "_Block", max_bytes: int) -> HtmlResponse | None:
    """The page in a record's block; None if the record is no HTTP response or not of HTML."""
    kind = fields.get("content-type", "").lower().replace(" ", "")
    if fields.get("warc-type") != "response" or not kind.startswith("application/http"):
        return None
    url = fields.get("warc-target-uri", "").strip("<> ")
    head, body = _http_head(block)
    if not head.startswith(b"HTTP/"):
        return HtmlResponse(url, {}, b"", "no HTTP header")
    headers = _fields(head)
    media = headers.get("content-type") or fields.get("warc-identified-payload-type", "")
    if re.split(r"[;,\s]", media.lower(), maxsplit=1)[0] not in _HTML_TYPES:
        return None
    return HtmlResponse(url, headers, body + block.read(max_bytes + 1 - len(body)))


def _http_head(block: "_Block") -> tuple[bytes, bytes]:
    """The HTTP header with the empty line that ends it, and what of the body was read with it."""
    data = b""
    while len(data) < _MAX_HEADER_BYTES and (more := block.read(4096)):
        data += more
        if end := _HEADER_END.search(data):
            return data[: end.end()], data[end.end() :]
    return data, b""


def _salvaged(inflate: "zlib._Decompress", waiting: bytes, size: int) -> bytes:
    """What comes out before the error, byte by byte: a single call raises and returns nothing.

    Deflate's output is good up to the byte that breaks it, and so are the pages in it.
    """
    data = b""
    try:
        for byte in waiting:
            data += inflate.decompress(bytes([byte]), size - len(data))
            if len(data) == size:
                break
    except zlib.error:
        return data
    return data


class _Block:
    """The bytes of one record."""

    def __init__(self, file: io.BufferedReader, size: int) -> None:
        self._file = file
        self._left = size

    def read(self, size: int) -> bytes:
        data = self._file.read(min(max(size, 0), self._left))
        self._left -= len(data)
        return data

    def skip(self) -> bool:
        """Read to the record's end; False if the file ends before it."""
        while self._left and self.read(_CHUNK_BYTES):
            pass
        return not self._left


class _Raw(io.RawIOBase):
    """Any object with `read(size)` as a raw stream that can be buffered."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "Buffer") -> int:
        view = memoryview(buffer)
        data = self._stream.read(len(view))
        view[: len(data)] = data
        return len(data)


class _Gunzip(io.RawIOBase):
    """The inflated bytes of gzip members, one after another; ends, with `damage`, where one is bad.

    Members are inflated here because `gzip` raises at the damage and forgets where the member
    began, which is where a person would cut the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.damage: WarcDamage | None = None
        self._file = file
        self._waiting = b""
        self._member_start = 0
        self._offset = 0
        self._inflate: zlib._Decompress | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "Buffer") -> int:
        view = memoryview(buffer)
        while self.damage is None and self._fill():
            if self._inflate is None:
                self._inflate, self._member_start = zlib.decompressobj(31), self._offset
            before = self._inflate.copy()  # to go back to, as an error spoils the decompressor
            try:
                data = self._inflate.decompress(self._waiting, len(view))
                self._advance(self._inflate)
            except zlib.error as error:
                self.damage = WarcDamage(self._member_start, f"damaged gzip member ({error})")
                data = _salvaged(before, self._waiting, len(view))
            if data:
                view[: len(data)] = data
                return len(data)
        return 0

    def _fill(self) -> bool:
        if not self._waiting:
            self._waiting = self._file.read(_CHUNK_BYTES)
            if not self._waiting and self._inflate is not None:
                self.damage = WarcDamage(self._member_start, "gzip member cut short")
        return bool(self._waiting)

    def _advance(self, inflate: "zlib._Decompress") -> None:
        left = inflate.unused_data if inflate.eof else inflate.unconsumed_tail
        self._offset += len(self._waiting) - len(left)
        self._waiting = left
        if inflate.eof:
            self._inflate = None
