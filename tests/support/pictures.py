"""Pictures for tests: smooth random ones that behave as photographs do, and their encodings."""

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def photo(seed: int, width: int = 320, height: int = 240) -> Image.Image:
    """Blurred noise of several scales, RGB."""
    draw = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cells in (4, 9, 25):
        coarse = draw.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        layer = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(layer, dtype=float) / cells
    total -= total.min()
    return Image.fromarray((255 * total / total.max()).astype(np.uint8))


def encode(image: Image.Image, kind: str = "jpeg", **options: Any) -> bytes:
    """The bytes of a picture in a format that Pillow writes."""
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


def png_header(width: int, height: int) -> bytes:
    """The first bytes of a PNG that claims this size."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk


PHOTO = photo(0)
KINDS = {
    "jpeg": encode(PHOTO, quality=90),
    "progressive": encode(PHOTO, progressive=True),
    "gray": encode(PHOTO.convert("L")),
    "rgb jpeg": encode(PHOTO, keep_rgb=True),
    "cmyk": encode(PHOTO.convert("CMYK")),
    "png": encode(PHOTO, "png"),
    "palette": encode(PHOTO.quantize(), "png"),
    "one bit": encode(PHOTO.convert("1"), "png"),
    "gray png": encode(PHOTO.convert("L"), "png"),
    "webp": encode(PHOTO, "webp"),
    "lossless": encode(PHOTO, "webp", lossless=True),
    "gif": encode(PHOTO, "gif"),
}
"""One picture of 320 x 240 in every kind of file that we read."""

BOMBS = {
    "png": png_header(30_000, 30_000),
    "gif": b"GIF89a" + struct.pack("<HH", 65_000, 65_000) + bytes(20),
    "webp": b"RIFF"
    + struct.pack("<I", 30)
    + b"WEBPVP8X"
    + struct.pack("<I", 10)
    + bytes(4)
    + b"\xfe\x3f\x00\xfe\x3f\x00"
    + bytes(8),
    "jpeg": KINDS["jpeg"].replace(struct.pack(">HH", 240, 320), struct.pack(">HH", 60_000, 60_000)),
}
"""Headers of a few bytes that claim pictures of many gigabytes."""
