"""Crops to what the tower takes, on the batch's own device: resize, mirror, jitter, standardise.

Every random number comes with the batch, so this is a pure function of it. Resizing is bicubic with
antialiasing as Pillow's; a CPU does it image by image, other devices as two batched products.
Shapes: B batch, C side of the canvas, S side of the tower's input, 3 channels.
"""

from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.config import TrainConfig
from trainer.data.batch import Batch

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
LUMA = (0.299, 0.587, 0.114)
CUBIC = -0.5
AT_ONCE = 512
"""Images prepared at once, which bounds the memory beside the result's."""


def prepare(batch: Batch, config: TrainConfig) -> Tensor:
    """The images of a batch on its device, float32 (B, 3, S, S), standardised."""
    columns = (batch.pixels, batch.sides, batch.mirror, batch.jitter)
    pieces = zip(*(torch.split(column, AT_ONCE) for column in columns), strict=True)
    images = [_prepared(config, *piece) for piece in pieces]
    return images[0] if len(images) == 1 else torch.cat(images)


def _prepared(
    config: TrainConfig, canvas_BCC3: Tensor, sides_B: Tensor, mirror_B: Tensor, draws_B3: Tensor
) -> Tensor:
    resize = resize_each if canvas_BCC3.device.type == "cpu" else resize_batched
    pixels_BSS3 = resize(canvas_BCC3, sides_B, mirror_B, config.shape().image_size)
    if config.colour_jitter:
        pixels_BSS3 = colour_jitter(pixels_BSS3, draws_B3, config.colour_jitter)
    return normalise(pixels_BSS3)


def resize_each(canvas_BCC3: Tensor, sides_B: Tensor, mirror_B: Tensor, side: int) -> Tensor:
    """The crops resized to `side`, mirrored where `mirror_B` says so; uint8 (B, S, S, 3)."""
    out_BSS3 = torch.empty(len(canvas_BCC3), side, side, 3, dtype=torch.uint8)
    places = zip(canvas_BCC3, sides_B.tolist(), mirror_B.tolist(), out_BSS3, strict=True)
    for canvas, size, mirror, out in places:
        image = canvas[:size, :size].permute(2, 0, 1)[None]
        if size != side:
            image = F.interpolate(image, (side, side), mode="bicubic", antialias=True)
        out.copy_((image.flip(3) if mirror else image)[0].permute(1, 2, 0))
    return out_BSS3


def resize_batched(
    canvas_BCC3: Tensor,
    sides_B: Tensor,
    mirror_B: Tensor,
    side: int,
    kind: torch.dtype = torch.float16,
) -> Tensor:
    """The same as `resize_each` within a level of 255, without its rounding; float (B, S, S, 3).

    Products of numbers of a `kind`: half precision is a fourth of a level off at most.
    """
    batch, canvas = canvas_BCC3.shape[:2]
    down_BSC = resampling(sides_B, canvas, side)
    across_BSC = torch.where(mirror_B[:, None, None], down_BSC.flip(1), down_BSC)
    columns_BCx = canvas_BCC3.to(kind).transpose(1, 2).flatten(2)
    # Pillow's order, and its limits after the first pass: where contrast is sharp they matter.
    across_BSC3 = (across_BSC.to(kind) @ columns_BCx).clamp(0, 255).view(batch, side, canvas, 3)
    rows_BCx = across_BSC3.transpose(1, 2).flatten(2)
    out_BSx = (down_BSC.to(kind) @ rows_BCx).float().clamp(0, 255)
    return out_BSx.view(batch, side, side, 3)


def resampling(sides_B: Tensor, canvas: int, side: int) -> Tensor:
    """Weights of a crop's pixels in each of `side` pixels, float32 (B, S, C), crops of `sides_B`.

    Pillow's bicubic: Keys' kernel with a = -0.5, as wide as the scale where it shrinks, rows that
    sum to one over the pixels inside the crop.
    """
    size_B11 = sides_B.view(-1, 1, 1).float()
    scale_B11 = size_B11 / side
    width_B11 = scale_B11.clamp(min=1)
    centre_BS1 = (torch.arange(side, device=sides_B.device).view(1, -1, 1) + 0.5) * scale_B11
    at_11C = torch.arange(canvas, device=sides_B.device).view(1, 1, -1)
    weight_BSC = _keys_cubic((at_11C + 0.5 - centre_BS1) / width_B11) * (at_11C < size_B11)
    return weight_BSC / weight_BSC.sum(2, keepdim=True)


def colour_jitter(pixels_BSSC: Tensor, draws: Tensor, strength: float) -> Tensor:
    """Brightness, contrast and saturation of each image times a factor in 1 +- `strength`.

    `draws` are uniform numbers (B, 3), one per factor. [0, 255] in, float32 in [0, 255] out.
    """
    factors = 1 + strength * (2 * draws[:, :, None, None, None] - 1)
    brightness, contrast, saturation = factors.unbind(1)
    out = pixels_BSSC.float() * brightness
    out = torch.lerp(_gray(out).mean((1, 2, 3), keepdim=True), out, contrast)
    return torch.lerp(_gray(out), out, saturation).clamp(0, 255)


def normalise(pixels_BSSC: Tensor) -> Tensor:
    """(B, S, S, 3) in [0, 255], uint8 or float, to float32 (B, 3, S, S) as CLIP standardises it."""
    planes_BCSS = pixels_BSSC.permute(0, 3, 1, 2)
    mean, std = (_constant(values, planes_BCSS.device).view(3, 1, 1) for values in (MEAN, STD))
    if planes_BCSS.device.type == "cpu":
        # numpy asks the kernel for huge pages and torch does not: fresh memory in half the time.
        out_BCSS = torch.from_numpy(np.empty(planes_BCSS.shape, np.float32))
        places = zip(out_BCSS, planes_BCSS, strict=True)  # one by one they stay in the cache
    else:
        out_BCSS = torch.empty(planes_BCSS.shape, device=planes_BCSS.device)
        places = zip([out_BCSS], [planes_BCSS], strict=True)
    for out, planes in places:
        out.copy_(planes).mul_(1 / (255 * std)).sub_(mean / std)
    return out_BCSS


def _keys_cubic(x: Tensor) -> Tensor:
    """Keys' cubic convolution kernel (1981, equation 4)."""
    x = x.abs()
    near = ((CUBIC + 2) * x - (CUBIC + 3)) * x * x + 1
    far = (((x - 5) * x + 8) * x - 4) * CUBIC
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _gray(pixels_BSSC: Tensor) -> Tensor:
    """Luma (ITU-R BT.601), (B, S, S, 1)."""
    return (pixels_BSSC * _constant(LUMA, pixels_BSSC.device)).sum(-1, keepdim=True)


@cache
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """On the device once: each copy to a GPU would wait for all that it has yet to do."""
    return torch.tensor(values, device=device)
