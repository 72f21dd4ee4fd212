"""Decoded pictures as 8-bit RGB: the upper 8 of 16 bits of grey, and alpha laid on white.

Pillow is imported where it is needed: the ground floor itself stands on numpy and pyarrow.
"""

from collections.abc import Container
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from PIL import Image

GREY_16 = frozenset({"I;16", "I;16L", "I;16B", "I;16N"})
"""Pillow's modes of 16-bit grey, by byte order."""


def rgb_on_white(image: "Image.Image", grey_16: Container[str] = GREY_16) -> npt.NDArray[np.uint8]:
    """The pixels of a loaded image, uint8 (H, W, 3); they may be read-only.

    `grey_16` are the modes whose pixels are 16-bit grey. Pillow's own conversion would clip those
    at 255, that is, show nearly all of them white.
    """
    if image.mode in grey_16:
        grey = (np.asarray(image).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    return np.asarray(_on_white(image))


def _on_white(image: "Image.Image") -> "Image.Image":
    from PIL import Image  # readers of tokens and manifests do without Pillow

    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
