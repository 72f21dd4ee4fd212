"""Bytes to pixels: the exact centre square that evaluation takes, the random crop of training.

JPEGs come through libjpeg-turbo, by simplejpeg where it is installed and by Pillow elsewhere, with
the same pixels. Alpha is laid on white, 16 bits of grey become their upper 8; pixels stay as they
are stored, whatever turn EXIF asks for, as in CLIP's own transform.
Shapes: B batch, S side, C channels.
"""

import io
import math

import numpy as np
import numpy.typing as npt
from PIL import Image

from pipeline.dataset.formats import PICTURE_FORMATS
from pipeline.dataset.pixels import rgb_on_white
from trainer.data.batch import canvas_side

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

FORMATS = tuple(format.name.upper() for format in PICTURE_FORMATS)
"""What Pillow may take bytes for; for others it would start programs (EPS)."""
MAX_PIXELS = 1 << 26
"""Width times height above which nothing is decoded or resized: many threads do so at once."""
MAX_SCANNED = 1 << 30
"""Width times height times scans of a JPEG: each scan costs a pass over all pixels."""
DCT_SCALES = (8, 4, 2, 1)
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9

Pixels = npt.NDArray[np.uint8]


class BadImage(Exception):
    """Bytes that no decoder takes, or only at too high a price."""


def square(data: bytes | memoryview, side: int) -> Pixels:
    """The centre square of an encoded image, its short side resized to `side`; uint8 (S, S, 3).

    Bicubic with antialiasing and torchvision's rounding, as CLIP's own transform. Raises BadImage.
    """
    image = decode(data)
    width, height = image.size
    short = min(width, height)
    wide, high = (side * width // short, side * height // short)
    _check_work(wide, high)
    image = image.resize((wide, high), Image.Resampling.BICUBIC)
    left, top = round((wide - side) / 2.0), round((high - side) / 2.0)
    return np.asarray(image.crop((left, top, left + side, top + side)))


def random_square(
    data: bytes | memoryview, draws: npt.NDArray[np.float32], scale_min: float, side: int
) -> Pixels:
    """A random square of an encoded image as stored, uint8 (s, s, 3) with s <= `canvas_side(side)`.

    `draws` are three uniform numbers: the square's area as a share in [`scale_min`, 1] of the
    largest one's, its column and its row. A larger square is brought down to `side`, by the DCT
    and Pillow's bicubic; any other keeps the image's own pixels. Raises BadImage.
    """
    edge = math.sqrt(scale_min + (1 - scale_min) * float(draws[0]))
    pixels = _decoded(data, math.ceil(side / edge))
    height, width = pixels.shape[:2]
    size = max(1, round(edge * min(height, width)))
    left, top = int(draws[1] * (width - size + 1)), int(draws[2] * (height - size + 1))
    crop = pixels[top : top + size, left : left + size]
    if size <= canvas_side(side):
        return crop
    image = Image.fromarray(np.ascontiguousarray(crop))
    return np.asarray(image.resize((side, side), Image.Resampling.BICUBIC))


def decode(data: bytes | memoryview) -> Image.Image:
    """An encoded image as RGB at its own size; raises BadImage."""
    return Image.fromarray(_decoded(data, None))


def _decoded(data: bytes | memoryview, least: int | None) -> Pixels:
    """RGB, uint8 (H, W, 3).

    With `least`, a JPEG comes at the smallest DCT scale whose short side is at least that.
    """
    if simplejpeg is not None and simplejpeg.is_jpeg(data):
        try:
            return _by_turbo(data, least)
        except ValueError:
            pass  # Pillow reads some that turbojpeg refuses (stray bytes between markers)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
        _check_work(*image.size)
        if image.format in ("JPEG", "MPO"):  # MPO: a JPEG with further pictures behind it
            _check_jpeg(*image.size, data)
            scale = _dct_scale(image.width, image.height, least)
            image.draft("RGB", (image.width // scale, image.height // scale))
        return _eight_bits(image)
    except BadImage:
        raise
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged bytes
        raise BadImage(str(error)) from error


def _by_turbo(data: bytes | memoryview, least: int | None) -> Pixels:
    height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
    if colours in ("CMYK", "YCCK"):
        raise ValueError("Pillow and turbojpeg make different colours of four inks")
    _check_jpeg(width, height, data)
    scale = _dct_scale(width, height, least)
    pixels: Pixels = simplejpeg.decode_jpeg(
        data, "RGB", min_height=-(-height // scale), min_width=-(-width // scale)
    )
    return pixels


def _dct_scale(width: int, height: int, least: int | None) -> int:
    if least is None:
        return 1
    return next((scale for scale in DCT_SCALES if min(width, height) // scale >= least), 1)


def _check_work(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise BadImage(f"{width} x {height} pixels are more than {MAX_PIXELS:,}")


def _check_jpeg(width: int, height: int, data: bytes | memoryview) -> None:
    _check_work(width, height)
    # Two bytes that look like a scan's marker may lie anywhere, so they bound the number of scans;
    # only where they are too many is each marker looked at.
    most = MAX_SCANNED // max(1, width * height)
    if bytes(data).count(b"\xff\xda") > most and (scans := _scans(data)) > most:
        raise BadImage(f"{width} x {height} pixels in {scans} scans")


def _scans(data: bytes | memoryview) -> int:
    """Scans of a JPEG, up to the end of the picture: what lies behind it or in a segment is not."""
    data, at, scans = bytes(data), 2, 0
    while (at := data.find(b"\xff", at)) >= 0 and at + 4 <= len(data):
        kind = data[at + 1]
        if kind == END_OF_IMAGE:
            break
        scans += kind == START_OF_SCAN
        if kind in (0x00, 0x01, 0xFF) or 0xD0 <= kind <= 0xD8:  # markers that stand alone
            at += 1 if kind == 0xFF else 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return scans


def _eight_bits(image: Image.Image) -> Pixels:
    """RGB, uint8 (H, W, 3)."""
    if image.mode == "F":
        raise BadImage("floating-point pixels have no known white")
    return rgb_on_white(image)
