"""The image tower: CLIP's vision transformer, with a norm before and after the blocks.

Shapes: B batch, C channels, S image side, P patch side, N patches, K of them kept, V = C * P * P,
L = K + 1 positions, D width, E embedding.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.models.config import ModelConfig
from trainer.models.norms import LayerNorm
from trainer.models.transformer import Transformer


class PatchEmbedding(nn.Module):
    """A convolution whose stride is its kernel, as one matrix product over cut-out patches."""

    def __init__(self, width: int, patch: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width, 3, patch, patch))

    def forward(self, image_BCSS: Tensor, kept_BK: Tensor | None) -> Tensor:
        """(B, 3, S, S) to the embeddings (B, N, D) of all patches, or of those kept: (B, K, D)."""
        patches_BNV = patchify(image_BCSS, self.weight.shape[-1])
        if kept_BK is not None:
            index_BKV = kept_BK[:, :, None].expand(-1, -1, patches_BNV.shape[2])
            patches_BNV = patches_BNV.gather(1, index_BKV)
        return F.linear(patches_BNV, self.weight.flatten(1))


def patchify(image_BCSS: Tensor, patch: int) -> Tensor:
    """(B, C, S, S) to (B, N, V): patches row by row, each in the order of a kernel's weights."""
    batch, channels, side, _ = image_BCSS.shape
    grid = side // patch
    cut = image_BCSS.view(batch, channels, grid, patch, grid, patch).permute(0, 2, 4, 1, 3, 5)
    return cut.reshape(batch, grid * grid, channels * patch * patch)


class VisionTransformer(nn.Module):
    """Patches without bias, a class token, learned positions."""

    def __init__(self, config: ModelConfig, patch: int, layers: int) -> None:
        super().__init__()
        width = config.vision_width
        self.conv1 = PatchEmbedding(width, patch)
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(config.grid**2 + 1, width))
        self.ln_pre = LayerNorm(width)
        self.transformer = Transformer(width, layers, config.vision_heads, False, config.activation)
        self.ln_post = LayerNorm(width)
        self.proj = nn.Parameter(torch.empty(width, config.embed_dim))

    def forward(self, image_BCSS: Tensor, kept_BK: Tensor | None = None) -> Tensor:
        """Normalised pixels (B, 3, S, S) to embeddings (B, E), not of unit length.

        `kept_BK` int64: the patches that the blocks see; the others cost nothing (FLIP, Li et al.
        2023, section 3). All of them by default.
        """
        x_BLD = self._embed(image_BCSS, kept_BK)
        x_BLD = self.transformer(self.ln_pre(x_BLD))
        out: Tensor = self.ln_post(x_BLD[:, 0]) @ self.proj
        return out

    def blocks(self) -> list[nn.Module]:
        """The residual blocks, first to last."""
        return list(self.transformer.resblocks)

    def checkpoint_blocks(self, on: bool) -> None:
        """Compute blocks again in the backward pass, or not."""
        self.transformer.recompute = on

    def _embed(self, image_BCSS: Tensor, kept_BK: Tensor | None) -> Tensor:
        patches_BKD = self.conv1(image_BCSS, kept_BK)
        class_D, positions_ND = self.positional_embedding[0], self.positional_embedding[1:]
        at = positions_ND if kept_BK is None else positions_ND[kept_BK]
        token_B1D = (self.class_embedding + class_D).expand(len(patches_BKD), 1, -1)
        x_BKD = patches_BKD + at
        return torch.cat([token_B1D.to(x_BKD.dtype), x_BKD], dim=1)
