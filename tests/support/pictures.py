"""Pictures for tests: smooth random ones that behave as photographs do, and their encodings."""

import io
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
