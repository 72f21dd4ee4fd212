"""Bytes into pixels, guarded: sizes are read from the header before a decoder sees the body.

One normal form comes out: the first frame, upright, alpha on white, 8-bit RGB. Damaged data raises
and never becomes half a picture.
"""

import io

import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import Image, ImageOps, UnidentifiedImageError

from curation.images import jpeg
from curation.images.errors import UndecodableImage
from curation.images.header import read_header
from pipeline.dataset.pixels import GREY_16, rgb_on_white

Picture = npt.NDArray[np.uint8]

_MAX_SCANS = 200
_RGB_COMPONENTS = 3
_SIXTEEN_BIT = GREY_16 | {"I"}
"""Older versions of Pillow open 16-bit grey PNGs as "I"."""


def decode_rgb(data: bytes, max_pixels: int, min_side: int | None = None) -> Picture:
    """The picture as uint8, shape (H, W, 3).

    With `min_side` a JPEG may come scaled down by libjpeg, as long as both sides keep that many
    pixels or their own size; other formats come whole. Raises UndecodableImage.
    """
    header = read_header(data)
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
    except UnidentifiedImageError:
        # Its own text holds the address of the buffer in memory, which no two runs share.
        raise UndecodableImage(f"{kind}: cannot be identified") from None
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
