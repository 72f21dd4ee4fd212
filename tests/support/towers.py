"""Small models with values that are not trivial, their peers, and a batch to show to both."""

from typing import Any

import torch
from torch import Tensor

from trainer.models.clip import CLIP
from trainer.models.config import ModelConfig
from trainer.models.init import new_clip
from trainer.text.tokenizer import encode_batch, pad

SMALL_VIT = ModelConfig(
    embed_dim=24,
    image_size=32,
    patch_size=8,
    vision_width=64,
    vision_layers=2,
    vision_heads=1,
    text_width=128,
    text_layers=3,
    text_heads=2,
)
SMALL_RESNET = ModelConfig(
    embed_dim=24,
    image_size=64,
    patch_size=None,
    vision_width=8,
    vision_layers=(1, 2, 1, 1),
    vision_heads=4,
    text_width=64,
    text_layers=1,
    text_heads=1,
)
CAPTIONS = ["a cat", "two dogs and a bird", "x", ""]


def randomised(config: ModelConfig, noise: float = 0.1) -> CLIP:
    """A model in evaluation mode whose gains, biases and running statistics are not trivial."""
    model = new_clip(config, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(noise * torch.randn(parameter.shape, generator=generator))
        for name, buffer in model.named_buffers():
            if buffer.is_floating_point():
                draws = torch.rand(buffer.shape, generator=generator)
                buffer.copy_(draws + 0.5 if name.endswith("var") else draws - 0.5)
        model.logit_scale.fill_(2.0)
    return model.eval()


def batch(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Normalised pixels (4, 3, S, S) and tokens (4, L)."""
    generator = torch.Generator().manual_seed(3)
    pixels = torch.randn(4, 3, config.image_size, config.image_size, generator=generator)
    return pixels, torch.from_numpy(pad(encode_batch(CAPTIONS)))


def open_clip_model(open_clip: Any, config: ModelConfig) -> Any:
    """Open_clip's CLIP of the same shape, in evaluation mode."""
    resnet = {"layers": config.vision_layers, "patch_size": config.patch_size}
    vision = {
        "image_size": config.image_size,
        "width": config.vision_width,
        "head_width": config.vision_features // config.vision_heads,
    }
    text = {
        "context_length": config.context_length,
        "vocab_size": config.vocab_size,
        "width": config.text_width,
        "heads": config.text_heads,
        "layers": config.text_layers,
    }
    return open_clip.CLIP(
        config.embed_dim,
        vision | {key: value for key, value in resnet.items() if value is not None},
        text,
        quick_gelu=config.activation == "quick_gelu",
        init_logit_bias=0.0 if config.logit_bias else None,
    ).eval()


def assert_same_embeddings(model: CLIP, encode_image: Any, encode_text: Any) -> None:
    """Both towers agree with the peer's to 1e-5, before and after normalisation."""
    pixels, tokens = batch(model.config)
    padded = torch.nn.functional.pad(tokens, (0, model.config.context_length - tokens.shape[1]))
    with torch.no_grad():
        unit = model(pixels, tokens)
        for ours, rows, theirs in (
            (model.encode_image(pixels), unit.image, encode_image(pixels)),
            (model.encode_text(tokens), unit.text, encode_text(padded)),
        ):
            assert theirs.std(dim=0).mean() > 1e-3, "the batch's rows are told apart"
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
            peer = torch.nn.functional.normalize(theirs, dim=-1)
            torch.testing.assert_close(rows, peer, atol=1e-5, rtol=0)
