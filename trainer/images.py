"""Bytes to pixels, the same for training and evaluation, and pixels to what the tower takes.

Decoding is exact (no scaled JPEG decode), so that a machine without simplejpeg sees the same
pixels. Alpha is laid on white. Shapes: B batch, S side, C channels.
"""

import io

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
LUMA = (0.299, 0.587, 0.114)

Pixels = npt.NDArray[np.uint8]


class BadImage(Exception):
    """Bytes that no decoder takes."""


def square(data: bytes | memoryview, side: int) -> Pixels:
    """The centre square of an encoded image, its short side resized to `side`; uint8 (S, S, 3).

    Bicubic with antialiasing and torchvision's rounding, as CLIP's own transform. Raises BadImage.
    """
    image = decode(data)
    width, height = image.size
    short = min(width, height)
    wide, high = (side * width // short, side * height // short)
    image = image.resize((wide, high), Image.Resampling.BICUBIC)
    left, top = round((wide - side) / 2.0), round((high - side) / 2.0)
    return np.asarray(image.crop((left, top, left + side, top + side)))


def decode(data: bytes | memoryview) -> Image.Image:
    """An encoded image as RGB at its own size; raises BadImage."""
    if simplejpeg is not None and simplejpeg.is_jpeg(data):
        try:
            return Image.fromarray(simplejpeg.decode_jpeg(data, "RGB"))
        except ValueError:
            pass  # Pillow reads some that turbojpeg refuses (CMYK, stray bytes between markers)
    try:
        return _on_white(Image.open(io.BytesIO(data)))
    except Exception as error:  # Pillow's plugins raise nearly anything on damaged bytes
        raise BadImage(str(error)) from error


def normalise(pixels_BSSC: Tensor) -> Tensor:
    """(B, S, S, 3) in [0, 255], uint8 or float, to float32 (B, 3, S, S) as CLIP standardises it."""
    device = pixels_BSSC.device
    mean = torch.tensor(MEAN, device=device).view(3, 1, 1)
    std = torch.tensor(STD, device=device).view(3, 1, 1)
    return (pixels_BSSC.permute(0, 3, 1, 2).float() / 255 - mean) / std


def random_crop(
    pixels_BSSC: Tensor, draws: Tensor, *, side: int, scale_min: float, flip: bool
) -> Tensor:
    """A square of each image holding a share in [scale_min, 1] of its area, resampled to `side`.

    `draws` are uniform numbers (B, 4): area, column, row, mirror. uint8 in, bilinear float
    (B, side, side, 3) in [0, 255] out.
    """
    share = (scale_min + (1 - scale_min) * draws[:, 0]).sqrt()
    mirror = torch.where(draws[:, 3] < 0.5, -1.0, 1.0) if flip else torch.ones_like(share)
    theta = torch.zeros(len(draws), 2, 3, device=draws.device)
    theta[:, 0, 0], theta[:, 1, 1] = share * mirror, share
    theta[:, :, 2] = (2 * draws[:, 1:3] - 1) * (1 - share)[:, None]
    grid = F.affine_grid(theta, [len(draws), 3, side, side], align_corners=False)
    pixels_BCSS = pixels_BSSC.permute(0, 3, 1, 2).float()
    out = F.grid_sample(pixels_BCSS, grid, padding_mode="border", align_corners=False)
    return out.permute(0, 2, 3, 1)


def colour_jitter(pixels_BSSC: Tensor, draws: Tensor, strength: float) -> Tensor:
    """Brightness, contrast and saturation of each image times a factor in 1 +- `strength`.

    `draws` are uniform numbers (B, 3), one a factor. [0, 255] in, float32 in [0, 255] out.
    """
    factors = 1 + strength * (2 * draws[:, :, None, None, None] - 1)
    brightness, contrast, saturation = factors.unbind(1)
    out = pixels_BSSC.float() * brightness
    out = torch.lerp(_gray(out).mean((1, 2, 3), keepdim=True), out, contrast)
    return torch.lerp(_gray(out), out, saturation).clamp(0, 255)


def _gray(pixels_BSSC: Tensor) -> Tensor:
    """Luma (ITU-R BT.601), (B, S, S, 1)."""
    weights = torch.tensor(LUMA, device=pixels_BSSC.device)
    return (pixels_BSSC * weights).sum(-1, keepdim=True)


def _on_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")
