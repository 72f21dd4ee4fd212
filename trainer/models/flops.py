"""Arithmetic of one pair's forward pass, counted from the operators that really run.

For utilisation (MFU): training costs three times as much. Elementwise work is
not counted. Shapes: B batch (1), S image side, K patches kept, L tokens.
"""

from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

from trainer.models.clip import CLIP
from trainer.models.config import ModelConfig


@cache
def forward_flops(config: ModelConfig, text_length: int, kept: int | None = None) -> int:
    """FLOPs (two per multiply-accumulate) of one image and one text of `text_length` tokens.

    `kept` is the number of patches that a ViT encodes; all of them by default. Causal attention
    counts whole, as in open_clip's profiles and in published utilisations.
    """
    side = config.image_size
    with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
        image_BCSS = torch.empty(1, 3, side, side)
        tokens_BL = torch.empty(1, text_length, dtype=torch.int64)
        kept_BK = None if kept is None else torch.empty(1, kept, dtype=torch.int64)
        CLIP(config).eval()(image_BCSS, tokens_BL, kept_BK)
    return int(counter.get_total_flops())
