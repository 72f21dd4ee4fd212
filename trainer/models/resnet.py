"""The image tower: CLIP's ModifiedResNet (Radford et al. 2021, section 2.4; OpenAI's names).

Three convolutions for a stem, average pools where others stride (anti-aliasing, Zhang 2019), and
attention for the last pool. Shapes: B batch, C channels, H = W = grid side, P = H * W, L = P + 1
positions, D features, N heads, K = D / N, E embedding.
"""

from collections import OrderedDict
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.models.config import ModelConfig, Stages
from trainer.models.norms import BatchNorm
from trainer.models.recompute import run_blocks

EXPANSION = 4
"""Channels that leave a bottleneck to those inside."""


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut; a stride is an average pool of both."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        channels_out = EXPANSION * channels
        self.conv1 = nn.Conv2d(channels_in, channels, 1, bias=False)
        self.bn1 = BatchNorm(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = BatchNorm(channels)
        self.avgpool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        self.conv3 = nn.Conv2d(channels, channels_out, 1, bias=False)
        self.bn3 = BatchNorm(channels_out)
        self.downsample = (
            _shortcut(channels_in, channels_out, stride)
            if stride > 1 or channels_in != channels_out
            else nn.Identity()
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to (B, 4 channels, H / stride, W / stride)."""
        y_BCHW = F.relu(self.bn1(self.conv1(x_BCHW)), inplace=True)
        y_BCHW = F.relu(self.bn2(self.conv2(y_BCHW)), inplace=True)
        y_BCHW = self.bn3(self.conv3(self.avgpool(y_BCHW)))
        return F.relu(y_BCHW + self.downsample(x_BCHW), inplace=True)


def _shortcut(channels_in: int, channels_out: int, stride: int) -> nn.Sequential:
    parts: list[tuple[str, nn.Module]] = [
        ("-1", nn.AvgPool2d(stride)),
        ("0", nn.Conv2d(channels_in, channels_out, 1, bias=False)),
        ("1", BatchNorm(channels_out)),
    ]
    return nn.Sequential(OrderedDict(parts))


class AttentionPool(nn.Module):
    """One head-split attention of the mean over all positions, itself among them."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.vision_features
        self.positional_embedding = nn.Parameter(torch.empty(config.grid**2 + 1, width))
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.c_proj = nn.Linear(width, config.embed_dim)
        self.heads = config.vision_heads

    def forward(self, x_BDHW: Tensor) -> Tensor:
        """(B, D, H, W) to (B, E)."""
        x_BPD = x_BDHW.flatten(2).transpose(1, 2)
        x_BLD = torch.cat([x_BPD.mean(dim=1, keepdim=True), x_BPD], dim=1)
        x_BLD = x_BLD + self.positional_embedding.to(x_BLD.dtype)
        y_BN1K = F.scaled_dot_product_attention(
            self._split(self.q_proj(x_BLD[:, :1])),
            self._split(self.k_proj(x_BLD)),
            self._split(self.v_proj(x_BLD)),
        )
        out: Tensor = self.c_proj(y_BN1K.flatten(1))
        return out

    def _split(self, x_BLD: Tensor) -> Tensor:
        batch, length, width = x_BLD.shape
        return x_BLD.view(batch, length, self.heads, width // self.heads).transpose(1, 2)


class ModifiedResNet(nn.Module):
    """A stem, four stages of bottlenecks and an attention pool; a 32nd of the image's side."""

    recompute = False
    """Whether bottlenecks are computed again in the backward pass."""

    def __init__(self, config: ModelConfig, stages: Stages) -> None:
        super().__init__()
        width = config.vision_width
        self.conv1 = nn.Conv2d(3, width // 2, 3, stride=2, padding=1, bias=False)
        self.bn1 = BatchNorm(width // 2)
        self.conv2 = nn.Conv2d(width // 2, width // 2, 3, padding=1, bias=False)
        self.bn2 = BatchNorm(width // 2)
        self.conv3 = nn.Conv2d(width // 2, width, 3, padding=1, bias=False)
        self.bn3 = BatchNorm(width)
        self.layer1 = _stage(width, width, stages[0], 1)
        self.layer2 = _stage(4 * width, 2 * width, stages[1], 2)
        self.layer3 = _stage(8 * width, 4 * width, stages[2], 2)
        self.layer4 = _stage(16 * width, 8 * width, stages[3], 2)
        self.attnpool = AttentionPool(config)

    def forward(self, image_BCSS: Tensor) -> Tensor:
        """Normalised pixels (B, 3, S, S) to embeddings (B, E), not of unit length."""
        x_BCHW = F.relu(self.bn1(self.conv1(image_BCSS)), inplace=True)
        x_BCHW = F.relu(self.bn2(self.conv2(x_BCHW)), inplace=True)
        x_BCHW = F.relu(self.bn3(self.conv3(x_BCHW)), inplace=True)
        x_BCHW = run_blocks(self.blocks(), F.avg_pool2d(x_BCHW, 2), self.recompute)
        out: Tensor = self.attnpool(x_BCHW)
        return out

    def blocks(self) -> list[nn.Module]:
        """The bottlenecks, first to last."""
        return list(chain(self.layer1, self.layer2, self.layer3, self.layer4))

    def checkpoint_blocks(self, on: bool) -> None:
        """Compute bottlenecks again in the backward pass, or not."""
        self.recompute = on


def _stage(channels_in: int, channels: int, count: int, stride: int) -> nn.Sequential:
    rest = (Bottleneck(EXPANSION * channels, channels, 1) for _ in range(1, count))
    return nn.Sequential(Bottleneck(channels_in, channels, stride), *rest)
