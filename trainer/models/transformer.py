"""The pre-norm residual block that both towers stack (CLIP section 2.4; OpenAI's names).

Shapes: B batch, L positions, D width, H heads, K = D / H.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from trainer.models.config import Activation
from trainer.models.norms import LayerNorm
from trainer.models.recompute import run_blocks


class Attention(nn.Module):
    """Multi-head self-attention, its parameters named as in `nn.MultiheadAttention`."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)
        self.heads, self.causal = heads, causal

    def forward(self, x_BLD: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        batch, length, width = x_BLD.shape
        qkv = F.linear(x_BLD, self.in_proj_weight, self.in_proj_bias)
        q_BHLK, k_BHLK, v_BHLK = (
            qkv.view(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        ).unbind(0)
        y_BHLK = F.scaled_dot_product_attention(q_BHLK, k_BHLK, v_BHLK, is_causal=self.causal)
        y_BLD = y_BHLK.transpose(1, 2).reshape(batch, length, width)
        out: Tensor = self.out_proj(y_BLD)
        return out


class MLP(nn.Module):
    """Two linear layers, four times as wide between them."""

    def __init__(self, width: int, activation: Activation) -> None:
        super().__init__()
        self.c_fc = nn.Linear(width, 4 * width)
        self.c_proj = nn.Linear(4 * width, width)
        self.quick = activation == "quick_gelu"

    def forward(self, x_BLD: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D); QuickGELU is x * sigmoid(1.702 x), by way of SiLU."""
        h = self.c_fc(x_BLD)
        h = F.silu(1.702 * h) / 1.702 if self.quick else F.gelu(h)
        out: Tensor = self.c_proj(h)
        return out


class ResidualBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int, causal: bool, activation: Activation) -> None:
        super().__init__()
        self.attn = Attention(width, heads, causal)
        self.ln_1 = LayerNorm(width)
        self.mlp = MLP(width, activation)
        self.ln_2 = LayerNorm(width)

    def forward(self, x_BLD: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D)."""
        x_BLD = x_BLD + self.attn(self.ln_1(x_BLD))
        out: Tensor = x_BLD + self.mlp(self.ln_2(x_BLD))
        return out


class Transformer(nn.Module):
    """A stack of residual blocks."""

    recompute = False
    """Whether blocks are computed again in the backward pass."""

    def __init__(
        self, width: int, layers: int, heads: int, causal: bool, activation: Activation
    ) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(
            ResidualBlock(width, heads, causal, activation) for _ in range(layers)
        )

    def forward(self, x_BLD: Tensor) -> Tensor:
        """(B, L, D) to (B, L, D), in autocast's dtype where that is on: half the traffic."""
        return run_blocks(self.resblocks, x_BLD.to(_compute_dtype(x_BLD)), self.recompute)


def _compute_dtype(x: Tensor) -> torch.dtype:
    kind = x.device.type
    if torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind):
        return torch.get_autocast_dtype(kind)
    return x.dtype
