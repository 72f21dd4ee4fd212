"""Weights for another image size or context length: learned positions are interpolated.

Everything else in a CLIP works at any size. Pure functions over state dicts in openwit's names.
Shapes: P positions, D width, H = W grid side.
"""

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.models.config import ModelConfig

TEXT = "positional_embedding"
IMAGE = ("visual.positional_embedding", "visual.attnpool.positional_embedding")


def resized(
    state: Mapping[str, Tensor],
    config: ModelConfig,
    *,
    image_size: int | None = None,
    context_length: int | None = None,
) -> tuple[dict[str, Tensor], ModelConfig]:
    """The state dict and shape for another size; what has the right one already is not touched.

    Positions of images are interpolated over the grid (bicubic, antialiased), the class token's
    or pool's own is kept. Texts get linear ones for a longer context; a shorter one is the first
    part. Raises ConfigError where the image tower's stride does not divide `image_size`.
    """
    new = replace(
        config,
        image_size=image_size or config.image_size,
        context_length=context_length or config.context_length,
    )
    out = dict(state)
    for name in IMAGE:
        if name in out and new.grid != config.grid:
            out[name] = _grid(out[name], config.grid, new.grid)
    if new.context_length != config.context_length:
        out[TEXT] = _line(out[TEXT], new.context_length)
    return out, new


def _grid(positions_PD: Tensor, old: int, new: int) -> Tensor:
    first_1D, rest_PD = positions_PD[:1], positions_PD[1:]
    grid_1DHW = rest_PD.float().T.reshape(1, -1, old, old)
    grid_1DHW = F.interpolate(
        grid_1DHW, size=(new, new), mode="bicubic", antialias=True, align_corners=False
    )
    rest_PD = grid_1DHW[0].flatten(1).T.to(positions_PD.dtype)
    return torch.cat([first_1D, rest_PD])


def _line(positions_PD: Tensor, new: int) -> Tensor:
    if new <= len(positions_PD):
        return positions_PD[:new].clone()
    line_1DP = positions_PD.float().T[None]
    line_1DP = F.interpolate(line_1DP, size=new, mode="linear", align_corners=False)
    return line_1DP[0].T.to(positions_PD.dtype).contiguous()
