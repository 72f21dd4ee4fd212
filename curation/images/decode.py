"""Bytes into pixels, guarded: sizes are read from the header before a decoder sees the body.

One normal form comes out: the first frame, upright, alpha on white, 8-bit RGB. Damaged data is said
to be so and never becomes half a picture. Which pictures are wanted is not known here.
"""

import io
import struct
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageOps

from curation.images import jpeg
from pipeline.dataset.formats import WEB_FORMATS
from pipeline.dataset.pixels import GREY_16, rgb_on_white

Picture = npt.NDArray[np.uint8]

_SIGNATURES = {
    "jpeg": (0, b"\xff\xd8\xff"),
    "png": (0, b"\x89PNG\r\n\x1a\n"),
    "webp": (8, b"WEBP"),
    "gif": (0, b"GIF8"),
}
FORMATS = tuple(format.name for format in WEB_FORMATS)
_MAX_SCANS = 200
_MAX_SIDE = 65_535
_RGB_COMPONENTS = 3
_SIXTEEN_BIT = GREY_16 | {"I"}
"""Older versions of Pillow open 16-bit grey PNGs as "I"."""


@dataclass(frozen=True)
class Probe:
    """What the header says: the upright size in pixels and one of `FORMATS`."""

    width: int
    height: int
    format: str


@dataclass(frozen=True)
class Broken:
    """The header cannot be read, and why."""

    why: str


class UndecodableImage(Exception):
    """The bytes give no picture within the limits; the text says why."""


def sniff(data: bytes) -> str | None:
    """The format that the first bytes announce, whatever a server called it; None if not ours."""
    for name, (at, magic) in _SIGNATURES.items():
        if data.startswith(magic, at) and (name != "webp" or data.startswith(b"RIFF")):
            return name
    return None


def probe(data: bytes) -> Probe | Broken:
    """Size and format from the header alone; decodes nothing and allocates nothing to speak of."""
    kind = sniff(data)
    try:
        if kind == "jpeg":
            width, height = _jpeg_size(data)
        elif kind == "png":
            width, height = _png_size(data)
        elif kind == "webp":
            width, height = _webp_size(data)
        elif kind == "gif":
            width, height = struct.unpack_from("<HH", data, 6)
        else:
            return Broken("not a JPEG, PNG, WebP or GIF")
    except struct.error:
        return Broken(f"{kind}: ends inside the header")
    except (UndecodableImage, jpeg.BrokenJpeg) as error:
        return Broken(f"{kind}: {error}")
    if not 0 < width <= _MAX_SIDE or not 0 < height <= _MAX_SIDE:
        return Broken(f"{kind}: {width} x {height} pixels")
    return Probe(width, height, kind)


def decode_rgb(data: bytes, max_pixels: int, min_side: int | None = None) -> Picture:
    """The picture as uint8, shape (H, W, 3).

    With `min_side` a JPEG may come scaled down by libjpeg, as long as both sides keep that many
    pixels or their own size; other formats come whole. Raises UndecodableImage.
    """
    header = probe(data)
    if isinstance(header, Broken):
        raise UndecodableImage(header.why)
    _check_pixels(header.width, header.height, max_pixels)
    if header.format == "jpeg":
        info = jpeg.read_header(data)
        if info.components <= _RGB_COMPONENTS:
            return _upright(_decode_jpeg(data, min_side or 0), info.orientation)
    return _decode_pillow(data, header.format, max_pixels)


def _check_pixels(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise UndecodableImage(f"{width} x {height} is more than {max_pixels} pixels")


def _decode_jpeg(data: bytes, min_side: int) -> Picture:
    if data.count(b"\xff\xda") > _MAX_SCANS:
        raise UndecodableImage(f"jpeg: more than {_MAX_SCANS} scans")
    try:
        # Strict, because libjpeg fills what a truncated file lacks with gray and only warns.
        picture: Picture = simplejpeg.decode_jpeg(
            data, "RGB", min_height=min_side, min_width=min_side
        )
    except ValueError as error:
        raise UndecodableImage(f"jpeg: {error}") from error
    return picture


def _decode_pillow(data: bytes, kind: str, max_pixels: int) -> Picture:
    # A third party's parsers over hostile bytes raise nearly anything; to us it all means the same.
    try:
        with Image.open(io.BytesIO(data), formats=[kind.upper()]) as image:
            _check_pixels(*image.size, max_pixels)
            image.load()
            return _normal_form(image)
    except UndecodableImage:
        raise
    except Exception as error:
        raise UndecodableImage(f"{kind}: {type(error).__name__}: {error}"[:200]) from error


def _normal_form(image: Image.Image) -> Picture:
    return np.array(rgb_on_white(ImageOps.exif_transpose(image), _SIXTEEN_BIT))


def _upright(picture: Picture, orientation: int) -> Picture:
    """Undo EXIF orientation 2 to 8: a transposition for 5 to 8, then flips of the two axes."""
    if orientation >= 5:
        picture = picture.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    return np.ascontiguousarray(picture)


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
