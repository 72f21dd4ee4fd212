"""What a JPEG says of itself before any pixel is decoded: size, orientation, what else it holds.

Only the marker segments up to the first scan are read.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from PIL import Image

from curation.images.errors import UndecodableImage

_START_OF_IMAGE = b"\xff\xd8"
_END_OF_IMAGE = b"\xff\xd9"
_START_OF_SCAN = 0xDA
_STANDALONE = {0x01, *range(0xD0, 0xD8)}
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
_EXIF = 0xE1
_ORIENTATION = 0x0112
_PICTURE_ONLY = {0xC0, 0xC1, 0xC2, 0xC4, 0xDB, 0xDD, _START_OF_SCAN, 0xE0, 0xEE}
_COLOUR_COMPONENTS = 3


@dataclass(frozen=True)
class JpegHeader:
    """Sizes in pixels as stored; `orientation` is EXIF's 1 to 8; `bits` a sample."""

    width: int
    height: int
    components: int
    bits: int
    orientation: int
    picture_only: bool
    """No segment holds anything but the picture: no EXIF, XMP, IPTC, ICC profile or comment."""


def read_header(data: bytes) -> JpegHeader:
    """The header of a JPEG; raises UndecodableImage, whose text says what is wrong."""
    frame: tuple[int, int, int, int] | None = None
    orientation, markers = 1, set()
    for marker, body in _segments(data):
        markers.add(marker)
        if marker in _FRAMES:
            frame = _frame(body)
        elif marker == _EXIF and body.startswith(b"Exif\0\0"):
            orientation = _orientation(body)
    if frame is None:
        raise UndecodableImage("no frame header")
    bits, height, width, components = frame
    return JpegHeader(width, height, components, bits, orientation, markers <= _PICTURE_ONLY)


def is_plain(data: bytes) -> bool:
    """Whether the bytes are an upright 8-bit colour JPEG and nothing else.

    Raises UndecodableImage.
    """
    header = read_header(data)
    colour = header.components == _COLOUR_COMPONENTS and header.bits == 8
    return colour and header.picture_only and data.endswith(_END_OF_IMAGE)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    if not data.startswith(_START_OF_IMAGE):
        raise UndecodableImage("no start of image")
    at, marker = 2, 0
    while marker != _START_OF_SCAN:
        at = data.find(b"\xff", at)
        while at >= 0 and data[at + 1 : at + 2] == b"\xff":
            at += 1
        if at < 0 or at + 4 > len(data):
            raise UndecodableImage("ends before the first scan")
        marker = data[at + 1]
        if marker == 0 or marker in _STANDALONE:
            at += 2
            continue
        (length,) = struct.unpack_from(">H", data, at + 2)
        if length < 2 or at + 2 + length > len(data):
            raise UndecodableImage("a segment reaches past the end")
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + length


def _frame(body: bytes) -> tuple[int, int, int, int]:
    if len(body) < 6:
        raise UndecodableImage("a short frame header")
    bits, height, width, components = struct.unpack_from(">BHHB", body)
    if not width or not height:
        raise UndecodableImage("no width or height")
    return bits, height, width, components


def _orientation(body: bytes) -> int:
    exif = Image.Exif()
    # A third party's parser over hostile bytes: whatever it raises, there is no orientation.
    try:
        exif.load(body)
        value = exif.get(_ORIENTATION, 1)
    except Exception:
        return 1
    return value if value in range(1, 9) else 1
