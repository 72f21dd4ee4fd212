"""What an encoded picture says of itself before a decoder sees it: its format and its size.

Sizes are read here so that a picture of 30 bytes that claims 65,000 x 65,000 pixels is refused
before anything is allocated for it.
"""

import struct
from dataclasses import dataclass

from curation.images import jpeg
from curation.images.errors import UndecodableImage
from pipeline.dataset.formats import WEB_FORMATS

_SIGNATURES = {
    "jpeg": (0, b"\xff\xd8\xff"),
    "png": (0, b"\x89PNG\r\n\x1a\n"),
    "webp": (8, b"WEBP"),
    "gif": (0, b"GIF8"),
}
FORMATS = tuple(format.name for format in WEB_FORMATS)
_MAX_SIDE = 65_535


@dataclass(frozen=True)
class ImageHeader:
    """The upright size in pixels, and one of `FORMATS`."""

    width: int
    height: int
    format: str


def sniff(data: bytes) -> str | None:
    """The format that the first bytes announce, whatever a server called it; None if not ours."""
    for name, (at, magic) in _SIGNATURES.items():
        if data.startswith(magic, at) and (name != "webp" or data.startswith(b"RIFF")):
            return name
    return None


def read_header(data: bytes) -> ImageHeader:
    """Format and upright size from the header alone; decodes nothing. Raises UndecodableImage."""
    kind = sniff(data)
    if kind is None:
        raise UndecodableImage("not a JPEG, PNG, WebP or GIF")
    try:
        width, height = _SIZES[kind](data)
    except struct.error:
        raise UndecodableImage(f"{kind}: ends inside the header") from None
    except UndecodableImage as error:
        raise UndecodableImage(f"{kind}: {error}") from None
    if not 0 < width <= _MAX_SIDE or not 0 < height <= _MAX_SIDE:
        raise UndecodableImage(f"{kind}: {width} x {height} pixels")
    return ImageHeader(width, height, kind)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    header = jpeg.read_header(data)
    turned = header.orientation >= 5
    return (header.height, header.width) if turned else (header.width, header.height)


def _png_size(data: bytes) -> tuple[int, int]:
    kind, width, height = struct.unpack_from(">4sII", data, 12)
    if kind != b"IHDR":
        raise UndecodableImage("does not begin with IHDR")
    return width, height


def _webp_size(data: bytes) -> tuple[int, int]:
    size, kind = struct.unpack_from("<I4x4s", data, 4)
    if size + 8 > len(data):
        raise UndecodableImage("ends before its declared size")
    if kind == b"VP8 ":
        start, width, height = struct.unpack_from("<3sHH", data, 23)
        if start != b"\x9d\x01\x2a":
            raise UndecodableImage("no key frame")
        return width & 0x3FFF, height & 0x3FFF
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8X":
        wide, high = struct.unpack_from("<3s3s", data, 24)
        return int.from_bytes(wide, "little") + 1, int.from_bytes(high, "little") + 1
    raise UndecodableImage("unknown first chunk")


def _gif_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


_SIZES = {"jpeg": _jpeg_size, "png": _png_size, "webp": _webp_size, "gif": _gif_size}
