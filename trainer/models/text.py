"""The text tower: CLIP's causal transformer, read out at the end marker.

OpenAI's release keeps these parameters at the top of the state dict, without a prefix, so this is
the base class that `CLIP` extends. Shapes: B batch, L tokens, D width, E embedding.
"""

import torch
from torch import Tensor, nn

from trainer.models.config import ModelConfig
from trainer.models.norms import LayerNorm
from trainer.models.transformer import Transformer


class TextTransformer(nn.Module):
    """Token and position embeddings, causal blocks, a norm and a projection."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.text_width
        self.token_embedding = nn.Embedding(config.vocab_size, width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context_length, width))
        self.transformer = Transformer(
            width, config.text_layers, config.text_heads, True, config.activation
        )
        self.ln_final = LayerNorm(width)
        self.text_projection = nn.Parameter(torch.empty(width, config.embed_dim))

    def encode_text(self, tokens_BL: Tensor) -> Tensor:
        """Token ids (B, L <= context length) to embeddings (B, E), not of unit length.

        The end marker has the largest id, so argmax finds the first one. Attention is causal:
        padding behind it cannot reach the embedding, and a batch may be padded to any length.
        """
        x_BLD = self.token_embedding(tokens_BL) + self.positional_embedding[: tokens_BL.shape[1]]
        x_BLD = self.transformer(x_BLD)
        rows = torch.arange(len(tokens_BL), device=tokens_BL.device)
        out: Tensor = self.ln_final(x_BLD[rows, tokens_BL.argmax(dim=1)]) @ self.text_projection
        return out
