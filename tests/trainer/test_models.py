"""The towers against transformers' CLIP with the same weights, and parameters' first values."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.errors import ConfigError
from trainer.models.clip import CLIP, MAX_LOGIT_SCALE
from trainer.models.config import Activation, ModelConfig, model_config
from trainer.models.init import new_clip
from trainer.tokenizer import EOT, SOT, encode_batch, pad

SMALL = ModelConfig(
    embed_dim=24,
    image_size=32,
    patch_size=8,
    vision_width=32,
    vision_layers=2,
    vision_heads=2,
    text_width=48,
    text_layers=3,
    text_heads=3,
)
PARTS = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
TOPS = {
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.ln_pre": "vision_model.pre_layrnorm",
    "visual.ln_post": "vision_model.post_layernorm",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final": "text_model.final_layer_norm",
    "logit_scale": "logit_scale",
}


def to_transformers(ours: dict[str, Tensor]) -> dict[str, Tensor]:
    """OpenAI's names and layout to those of transformers' CLIPModel."""
    out = {"visual_projection.weight": ours["visual.proj"].T}
    out["text_projection.weight"] = ours["text_projection"].T
    for name, value in ours.items():
        if "resblocks" in name:
            out |= _block_entry(name, value)
            continue
        for old, new in TOPS.items():
            if name == old or name.startswith(old + "."):
                out[new + name[len(old) :]] = value
    return out


def _block_entry(name: str, value: Tensor) -> dict[str, Tensor]:
    head, _, tail = name.partition("transformer.resblocks.")
    number, _, part = tail.partition(".")
    prefix = f"{'vision_model' if head else 'text_model'}.encoder.layers.{number}"
    module, _, kind = part.rpartition(".")
    if kind.startswith("in_proj"):
        names = (f"{prefix}.self_attn.{letter}_proj.{kind[8:]}" for letter in "qkv")
        return dict(zip(names, value.chunk(3), strict=True))
    return {f"{prefix}.{PARTS[module]}.{kind}": value}


def randomised(config: ModelConfig) -> CLIP:
    """A model whose gains and biases are not the trivial ones."""
    model = new_clip(config, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
        model.logit_scale.fill_(2.0)
    return model.eval()


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_logits_are_those_of_transformers(transformers: Any, activation: Activation) -> None:
    config = replace(SMALL, activation=activation)
    model = randomised(config)
    peer = transformers.CLIPModel(_transformers_config(transformers, config)).eval()
    missing, unexpected = peer.load_state_dict(to_transformers(model.state_dict()), strict=False)
    assert not unexpected and all("position_ids" in name for name in missing)
    pixels = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    tokens = torch.from_numpy(pad(encode_batch(["a cat", "two dogs and a bird", "x", ""])))
    with torch.no_grad():
        image, text, scale = model(pixels, tokens)
        theirs = peer(input_ids=tokens, pixel_values=pixels)
    torch.testing.assert_close(image, theirs.image_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(text, theirs.text_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(scale * image @ text.T, theirs.logits_per_image, atol=1e-4, rtol=0)


def _transformers_config(transformers: Any, config: ModelConfig) -> Any:
    activation = {"hidden_act": config.activation}
    return transformers.CLIPConfig(
        projection_dim=config.embed_dim,
        vision_config=activation
        | {
            "hidden_size": config.vision_width,
            "intermediate_size": 4 * config.vision_width,
            "num_hidden_layers": config.vision_layers,
            "num_attention_heads": config.vision_heads,
            "image_size": config.image_size,
            "patch_size": config.patch_size,
        },
        text_config=activation
        | {
            "hidden_size": config.text_width,
            "intermediate_size": 4 * config.text_width,
            "num_hidden_layers": config.text_layers,
            "num_attention_heads": config.text_heads,
            "vocab_size": config.vocab_size,
            "max_position_embeddings": config.context_length,
            "bos_token_id": SOT,
            "eos_token_id": EOT,
            "pad_token_id": 0,
        },
    )


def test_padding_cannot_reach_an_embedding() -> None:
    model = randomised(SMALL)
    tokens = torch.from_numpy(pad(encode_batch(["a small red square"])))
    longer = torch.nn.functional.pad(tokens, (0, 77 - tokens.shape[1]))
    with torch.no_grad():
        near, far = model.encode_text(tokens), model.encode_text(longer)
    torch.testing.assert_close(near, far, atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("name", "millions"),
    [("ViT-B-32", 151.3), ("ViT-B-16", 149.6), ("ViT-L-14", 427.6), ("ViT-L-14-336", 427.9)],
)
def test_named_shapes_have_clips_number_of_parameters(name: str, millions: float) -> None:
    with torch.device("meta"):
        model = CLIP(model_config(name))
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.06)


def test_first_values_are_clips() -> None:
    model = new_clip(SMALL, seed=0)
    values = dict(model.named_parameters())
    width, layers = SMALL.text_width, SMALL.text_layers
    std = {
        "token_embedding.weight": 0.02,
        "positional_embedding": 0.01,
        "text_projection": width**-0.5,
        "transformer.resblocks.0.attn.in_proj_weight": width**-0.5,
        "transformer.resblocks.1.attn.out_proj.weight": width**-0.5 * (2 * layers) ** -0.5,
        "transformer.resblocks.2.mlp.c_proj.weight": width**-0.5 * (2 * layers) ** -0.5,
        "transformer.resblocks.0.mlp.c_fc.weight": (2 * width) ** -0.5,
        "visual.proj": SMALL.vision_width**-0.5,
        "visual.transformer.resblocks.0.attn.in_proj_weight": (2 / (4 * 32)) ** 0.5,
        "visual.transformer.resblocks.0.mlp.c_fc.weight": (1 / (3 * 32)) ** 0.5,
    }
    for name, expected in std.items():
        assert values[name].std().item() == pytest.approx(expected, rel=0.1), name
    assert values["logit_scale"].item() == pytest.approx(math.log(1 / 0.07))
    assert all(torch.isfinite(value).all() for value in values.values())


def test_first_values_depend_on_seed_and_name_alone() -> None:
    first, again, other = (new_clip(SMALL, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["visual.proj"], other["visual.proj"])
    blocks = "visual.transformer.resblocks.{}.mlp.c_fc.weight"
    assert not torch.equal(first[blocks.format(0)], first[blocks.format(1)])


def test_the_scale_of_logits_stops_at_100() -> None:
    model = new_clip(SMALL, seed=0)
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    model.clamp_logit_scale()
    assert model.logit_scale.item() == pytest.approx(MAX_LOGIT_SCALE)


def test_unknown_names_and_shapes_are_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"ViT-B-32"):
        model_config("ViT-B-23")
    with pytest.raises(ConfigError, match=r"patch_size 5"):
        replace(SMALL, patch_size=5)
