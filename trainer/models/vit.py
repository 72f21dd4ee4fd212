"""The image tower: CLIP's vision transformer, with a norm before and after the blocks.

Shapes: B batch, C channels, S image side, G = S / patch, D width, E embedding.
"""

import torch
from torch import Tensor, nn

from trainer.models.config import ModelConfig
from trainer.models.transformer import Transformer


class VisionTransformer(nn.Module):
    """Patches by a convolution without bias, a class token, learned positions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, patch = config.vision_width, config.patch_size
        positions = (config.image_size // patch) ** 2 + 1
        self.conv1 = nn.Conv2d(3, width, kernel_size=patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(positions, width))
        self.ln_pre = nn.LayerNorm(width)
        self.transformer = Transformer(
            width, config.vision_layers, config.vision_heads, False, config.activation
        )
        self.ln_post = nn.LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, config.embed_dim))

    def forward(self, image_BCSS: Tensor) -> Tensor:
        """Normalised pixels (B, 3, S, S) to embeddings (B, E), not of unit length."""
        patches_BLD = self.conv1(image_BCSS).flatten(2).transpose(1, 2)
        token_B1D = self.class_embedding.to(patches_BLD.dtype).expand(len(patches_BLD), 1, -1)
        x_BLD = torch.cat([token_B1D, patches_BLD], dim=1) + self.positional_embedding
        x_BLD = self.transformer(self.ln_pre(x_BLD))
        out: Tensor = self.ln_post(x_BLD[:, 0]) @ self.proj
        return out
