"""CLIP: an image tower, a text tower and a learned temperature (Radford et al. 2021).

State-dict names and shapes are those of OpenAI's release, so that weights pass both ways.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.models.config import ModelConfig
from trainer.models.text import TextTransformer
from trainer.models.vit import VisionTransformer

MAX_LOGIT_SCALE = math.log(100.0)
"""Upper bound of the log temperature: "necessary to prevent training instability" (section 2.5)."""


class CLIP(TextTransformer):
    """Two towers into one space; `init.new_clip` or a checkpoint gives the parameters values."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.visual = VisionTransformer(config)
        self.logit_scale = nn.Parameter(torch.empty(()))
        self.config = config

    def encode_image(self, image_BCSS: Tensor) -> Tensor:
        """Normalised pixels (B, 3, S, S) to embeddings (B, E), not of unit length."""
        out: Tensor = self.visual(image_BCSS)
        return out

    def forward(self, image_BCSS: Tensor, tokens_BL: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Unit embeddings of images and texts in float32, (B, E) each, and the scale of logits."""
        image_BE = F.normalize(self.encode_image(image_BCSS).float(), dim=-1)
        text_BE = F.normalize(self.encode_text(tokens_BL).float(), dim=-1)
        return image_BE, text_BE, self.logit_scale.exp()

    @torch.no_grad()
    def clamp_logit_scale(self) -> None:
        """Keep the scale of logits at or below 100, after an update."""
        self.logit_scale.clamp_(max=MAX_LOGIT_SCALE)
