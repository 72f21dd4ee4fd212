"""CLIP: an image tower, a text tower and a learned temperature (Radford et al. 2021).

State-dict names and shapes are those of OpenAI's release, so that weights pass both ways.
Shapes: B batch, C channels, S image side, K patches kept, L tokens, E embedding.
"""

import math
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.errors import ConfigError
from trainer.models.config import ModelConfig
from trainer.models.norms import frozen_statistics
from trainer.models.resnet import ModifiedResNet
from trainer.models.text import TextTransformer
from trainer.models.vit import VisionTransformer

MAX_LOGIT_SCALE = math.log(100.0)
"""Upper bound of the log temperature: "necessary to prevent training instability" (section 2.5)."""


class Embeddings(NamedTuple):
    """What a loss needs of a batch; logits are `scale * image @ text.T + bias`."""

    image: Tensor
    """(B, E) float32, rows of unit length."""
    text: Tensor
    """(B, E) float32, rows of unit length."""
    scale: Tensor
    """Scalar: one over the temperature."""
    bias: Tensor | None
    """Scalar, in models with `logit_bias`."""


class CLIP(TextTransformer):
    """Two towers into one space; `init.new_clip` or a checkpoint gives the parameters values."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.visual = _image_tower(config)
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.logit_bias = nn.Parameter(torch.empty(())) if config.logit_bias else None
        self.config = config

    def encode_image(self, image_BCSS: Tensor, kept_BK: Tensor | None = None) -> Tensor:
        """Normalised pixels (B, 3, S, S) to embeddings (B, E), not of unit length.

        `kept_BK` int64: indices of the patches to encode; None encodes all. Raises
        ConfigError where a ResNet is to leave some out.
        """
        if isinstance(self.visual, ModifiedResNet):
            if kept_BK is not None:
                raise ConfigError("model: a ResNet has no patches to drop; use a ViT or drop none")
            out: Tensor = self.visual(image_BCSS)
        else:
            out = self.visual(image_BCSS, kept_BK)
        return out

    def forward(
        self, image_BCSS: Tensor, tokens_BL: Tensor, kept_BK: Tensor | None = None
    ) -> Embeddings:
        """Pixels (B, 3, S, S), tokens (B, L) int64 and patches to keep, to unit embeddings."""
        image_BE = F.normalize(self.encode_image(image_BCSS, kept_BK).float(), dim=-1)
        text_BE = F.normalize(self.encode_text(tokens_BL).float(), dim=-1)
        # As a result, not the parameter itself: DDP finds what a step uses from how results came.
        bias = None if self.logit_bias is None else self.logit_bias.clone()
        return Embeddings(image_BE, text_BE, self.logit_scale.exp(), bias)

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep the scale of logits at or below 100, after an update."""
        self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)

    def blocks(self) -> list[nn.Module]:
        """The residual blocks of both towers, images first: what to compile, shard, recompute."""
        return [*self.visual.blocks(), *self.transformer.resblocks]

    def checkpoint_blocks(self, on: bool) -> None:
        """Recompute blocks in the backward pass instead of keeping their activations, or do not."""
        self.visual.checkpoint_blocks(on)
        self.transformer.recompute = on

    def frozen_statistics(self) -> AbstractContextManager[None]:
        """Inside, batch norms in training normalise by their batch but change no buffer.

        A batch that passes twice is then counted once. Outputs are the same bits either way.
        """
        return frozen_statistics(self)


def _image_tower(config: ModelConfig) -> VisionTransformer | ModifiedResNet:
    if isinstance(config.vision_layers, int):
        return VisionTransformer(config, config.stride, config.vision_layers)
    return ModifiedResNet(config, config.vision_layers)
