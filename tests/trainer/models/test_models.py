"""ViT and text towers against open_clip and transformers, and what training asks of them."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from tests.support.dense_loss import gradient
from tests.support.towers import (
    SMALL_RESNET,
    SMALL_VIT,
    assert_same_embeddings,
    batch,
    open_clip_model,
    randomised,
)
from trainer.errors import ConfigError
from trainer.interchange.hugging_face import hugging_face_config, to_hugging_face
from trainer.models.clip import CLIP, MAX_LOGIT_SCALE
from trainer.models.config import MODELS, Activation, ModelConfig, model_config
from trainer.models.flops import forward_flops
from trainer.models.init import new_clip
from trainer.models.norms import LayerNorm
from trainer.text.tokenizer import encode_batch, pad

pytestmark = pytest.mark.slow

PUBLISHED = {
    "RN50": (102.0, 12.22, 5.96),
    "RN101": (119.7, 19.54, 5.96),
    "RN50x4": (178.3, 42.56, 9.27),
    "RN50x16": (291.0, 149.4, 13.3),
    "RN50x64": (623.3, 529.1, 23.6),
    "ViT-B-32": (151.3, 8.82, 5.96),
    "ViT-B-16": (149.6, 35.13, 5.96),
    "ViT-L-14": (427.6, 162.0, 13.3),
    "ViT-L-14-336": (427.9, 381.9, 13.3),
}
"""Millions of parameters, and GFLOPs of an image and of 77 tokens, from open_clip's profiles."""


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_embeddings_and_logits_are_those_of_transformers(
    transformers: Any, activation: Activation
) -> None:
    config = replace(SMALL_VIT, activation=activation)
    model = randomised(config)
    peer = transformers.CLIPModel(
        transformers.CLIPConfig(**hugging_face_config(config, torch.float32))
    ).eval()
    peer.load_state_dict(to_hugging_face(model.state_dict()))
    pixels, tokens = batch(config)
    with torch.no_grad():
        image, text, scale, bias = model(pixels, tokens)
        theirs = peer(input_ids=tokens, pixel_values=pixels)
    assert bias is None
    torch.testing.assert_close(image, theirs.image_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(text, theirs.text_embeds, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        scale * image @ text.T, theirs.logits_per_image, atol=1e-5, rtol=1e-5
    )


@pytest.mark.parametrize("config", [SMALL_VIT, MODELS["ViT-Ti-8-32px"]], ids=["small", "tiny"])
@pytest.mark.parametrize("activation", ["quick_gelu", "gelu"])
def test_embeddings_are_those_of_open_clip(
    open_clip: Any, config: ModelConfig, activation: Activation
) -> None:
    model = randomised(replace(config, activation=activation, logit_bias=True))
    peer = open_clip_model(open_clip, model.config)
    peer.load_state_dict(model.state_dict())
    assert_same_embeddings(model, peer.encode_image, peer.encode_text)


def test_a_model_of_full_size_embeds_like_open_clips(open_clip: Any) -> None:
    model = randomised(model_config("ViT-B-32"), noise=0.01)
    peer = open_clip_model(open_clip, model.config)
    peer.load_state_dict(model.state_dict())
    assert_same_embeddings(model, peer.encode_image, peer.encode_text)


@pytest.mark.parametrize("name", [name for name in MODELS if name != "ViT-Ti-8-32px"])
def test_named_shapes_have_open_clips_tensors(open_clip: Any, name: str) -> None:
    with torch.device("meta"):
        model = CLIP(model_config(name))
        peer = open_clip.CLIP(**open_clip.get_model_config(name))
    ours, theirs = model.state_dict(), peer.state_dict()
    assert {key: value.shape for key, value in ours.items()} == {
        key: value.shape for key, value in theirs.items()
    }
    if name in PUBLISHED:
        millions = sum(each.numel() for each in model.parameters()) / 1e6
        assert millions == pytest.approx(PUBLISHED[name][0], abs=0.06)


@pytest.mark.parametrize("name", PUBLISHED)
def test_arithmetic_is_what_was_published(name: str) -> None:
    config, (_, image, text) = model_config(name), PUBLISHED[name]
    counted = forward_flops(config, 77) / 1e9
    if config.is_resnet:  # the published count asks the pool's question at every position
        unasked = config.grid**2
        width = config.vision_features
        counted += unasked * 2 * width * (width + config.embed_dim) / 1e9
    assert counted == pytest.approx(image + text, rel=2e-3)


def test_arithmetic_falls_with_tokens_and_with_patches() -> None:
    config = model_config("ViT-B-32")
    width, layers = config.text_width, config.text_layers
    per_token = layers * 2 * 12 * width**2
    attention = layers * 4 * width * (77**2 - 32**2)
    saved = forward_flops(config, 77) - forward_flops(config, 32)
    assert saved == 45 * per_token + attention
    wide, deep, patch = config.vision_width, config.vision_layers, 3 * 32 * 32
    assert isinstance(deep, int)
    per_patch = deep * 2 * 12 * wide**2 + 2 * patch * wide
    saved = forward_flops(config, 77) - forward_flops(config, 77, kept=25)
    assert saved == 24 * per_patch + deep * 4 * wide * (50**2 - 26**2)


def test_padding_cannot_reach_an_embedding() -> None:
    model = randomised(SMALL_VIT)
    tokens = torch.from_numpy(pad(encode_batch(["a small red square"])))
    longer = F.pad(tokens, (0, 77 - tokens.shape[1]))
    with torch.no_grad():
        near, far = model.encode_text(tokens), model.encode_text(longer)
    torch.testing.assert_close(near, far, atol=1e-5, rtol=0)


def test_dropping_no_patch_changes_nothing() -> None:
    model = randomised(SMALL_VIT)
    pixels, tokens = batch(SMALL_VIT)
    everything = torch.arange(16).expand(4, 16)
    with torch.no_grad():
        assert torch.equal(model(pixels, tokens, everything).image, model(pixels, tokens).image)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 16), st.integers(0, 2**31))
def test_dropped_patches_are_as_if_they_had_never_been(count: int, seed: int) -> None:
    model = randomised(SMALL_VIT)
    pixels, _ = batch(SMALL_VIT)
    generator = torch.Generator().manual_seed(seed)
    kept = torch.stack([torch.randperm(16, generator=generator)[:count] for _ in range(4)])
    with torch.no_grad():
        ours = model.encode_image(pixels, kept)
        singly = [_embed_patches(model, *row) for row in zip(pixels, kept, strict=True)]
    torch.testing.assert_close(ours, torch.stack(singly), atol=1e-5, rtol=1e-5)


def _embed_patches(model: CLIP, image: Tensor, kept: Tensor) -> Tensor:
    """One image by torch's own convolution, its tokens put together one by one."""
    visual: Any = model.visual
    feature = F.conv2d(image[None], visual.conv1.weight, stride=8)[0]
    positions = visual.positional_embedding
    tokens = [visual.class_embedding + positions[0]]
    for place in kept.tolist():
        tokens.append(feature[:, place // 4, place % 4] + positions[1 + place])
    x = visual.transformer(visual.ln_pre(torch.stack(tokens)[None]))
    embedding: Tensor = visual.ln_post(x[0, 0]) @ visual.proj
    return embedding


@pytest.mark.parametrize("config", [SMALL_VIT, SMALL_RESNET], ids=["vit", "resnet"])
def test_recomputed_blocks_give_the_same_gradients_and_statistics(config: ModelConfig) -> None:
    runs = []
    for on in (False, True):
        model = randomised(config).train()
        model.checkpoint_blocks(on)
        image, text, scale, _ = model(*batch(config))
        (scale * image @ text.T).logsumexp(0).sum().backward()
        gradients = {name: gradient(value) for name, value in model.named_parameters()}
        runs.append((gradients, dict(model.named_buffers())))
    (plain, buffers), (again, counted) = runs
    assert all(value.any() for value in plain.values())
    for name, value in plain.items():
        assert torch.equal(value, again[name]), name
    for name, value in buffers.items():
        assert torch.equal(value, counted[name]), name


@pytest.mark.parametrize("config", [SMALL_VIT, SMALL_RESNET], ids=["vit", "resnet"])
def test_recomputed_blocks_keep_less(config: ModelConfig) -> None:
    kept = {}
    for on in (False, True):
        model = randomised(config).train()
        model.checkpoint_blocks(on)
        sizes: list[int] = []

        def saved(value: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(value.numel())
            return value

        with torch.autograd.graph.saved_tensors_hooks(saved, lambda value: value):
            model(*batch(config))
        kept[on] = sum(sizes)
    assert kept[True] < kept[False] / 2


def test_blocks_are_all_residual_blocks_of_both_towers() -> None:
    model = new_clip(SMALL_VIT, seed=0)
    visual: Any = model.visual
    expected = [*visual.transformer.resblocks, *model.transformer.resblocks]
    assert model.blocks() == expected
    assert len(new_clip(SMALL_RESNET, seed=0).blocks()) == 1 + 2 + 1 + 1 + 1


def test_layer_norm_computes_in_float32_whatever_it_is_given() -> None:
    generator = torch.Generator().manual_seed(0)
    x = (50 + torch.randn(64, 96, generator=generator)).bfloat16()
    norm = LayerNorm(96).bfloat16()
    with torch.no_grad():
        norm.weight.copy_(torch.rand(96, generator=generator))
        norm.bias.copy_(torch.rand(96, generator=generator))
        ours = norm(x)
    exact = F.layer_norm(x.double(), (96,), norm.weight.double(), norm.bias.double())
    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours, exact.bfloat16(), atol=0, rtol=2**-7)


@pytest.mark.parametrize("config", [SMALL_VIT, SMALL_RESNET], ids=["vit", "resnet"])
@pytest.mark.parametrize("how", ["autocast", "parameters"])
def test_low_precision_answers_in_float32_and_nearly_the_same(
    config: ModelConfig, how: str
) -> None:
    model = new_clip(config, seed=0).train()
    pixels, tokens = batch(config)
    with torch.no_grad(), model.frozen_statistics():
        exact = model(pixels, tokens)
        if how == "autocast":
            with torch.autocast("cpu", torch.bfloat16):
                rough = model(pixels, tokens)
        else:
            for parameter in model.parameters():  # as FSDP does: buffers stay what they are
                parameter.data = parameter.data.bfloat16()
            rough = model(pixels.bfloat16(), tokens)
    for ours, reference in ((rough.image, exact.image), (rough.text, exact.text)):
        assert ours.dtype == torch.float32
        assert not torch.equal(ours, reference)
        assert (ours * reference).sum(dim=1).min() > 0.99


def test_first_values_are_clips() -> None:
    model = new_clip(SMALL_VIT, seed=0)
    values = dict(model.named_parameters())
    width, layers = SMALL_VIT.text_width, SMALL_VIT.text_layers
    std = {
        "token_embedding.weight": 0.02,
        "positional_embedding": 0.01,
        "text_projection": width**-0.5,
        "transformer.resblocks.0.attn.in_proj_weight": width**-0.5,
        "transformer.resblocks.1.attn.out_proj.weight": width**-0.5 * (2 * layers) ** -0.5,
        "transformer.resblocks.2.mlp.c_proj.weight": width**-0.5 * (2 * layers) ** -0.5,
        "transformer.resblocks.0.mlp.c_fc.weight": (2 * width) ** -0.5,
        "visual.proj": SMALL_VIT.vision_width**-0.5,
        "visual.transformer.resblocks.0.attn.in_proj_weight": (2 / (4 * 64)) ** 0.5,
        "visual.transformer.resblocks.0.mlp.c_fc.weight": (1 / (3 * 64)) ** 0.5,
    }
    for name, expected in std.items():
        assert values[name].std().item() == pytest.approx(expected, rel=0.1), name
    assert values["logit_scale"].item() == pytest.approx(math.log(1 / 0.07))
    assert all(torch.isfinite(value).all() for value in values.values())


def test_first_values_of_a_model_with_a_bias_are_siglips() -> None:
    model = new_clip(replace(SMALL_VIT, logit_bias=True), seed=0)
    _, _, scale, bias = model(*batch(SMALL_VIT))
    assert scale.item() == pytest.approx(10)
    assert bias is not None and bias.item() == -10


def test_first_values_depend_on_seed_and_name_alone() -> None:
    first, again, other = (new_clip(SMALL_VIT, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["visual.proj"], other["visual.proj"])
    blocks = "visual.transformer.resblocks.{}.mlp.c_fc.weight"
    assert not torch.equal(first[blocks.format(0)], first[blocks.format(1)])


def test_the_scale_of_logits_stops_at_100() -> None:
    model = new_clip(SMALL_VIT, seed=0)
    with torch.no_grad():
        model.logit_scale.fill_(9.0)
    model.clamp_logit_scale()
    assert model.logit_scale.item() == pytest.approx(MAX_LOGIT_SCALE)


def test_a_named_shape_takes_another_context_and_a_bias() -> None:
    config = model_config("ViT-B-32", context_length=128, logit_bias=True)
    assert config == replace(MODELS["ViT-B-32"], context_length=128, logit_bias=True)
    assert model_config("ViT-B-32") == MODELS["ViT-B-32"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"patch_size": 5}, "patch_size 5"),
        ({"patch_size": None}, "no patch_size"),
        ({"vision_layers": (1, 1, 1, 1)}, "four numbers"),
        ({"vision_heads": 5}, "vision_heads 5"),
        ({"image_size": -32}, "image_size -32"),
        ({"context_length": 0}, "context_length 0"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(SMALL_VIT, **change)


def test_unknown_names_are_refused_with_the_choices() -> None:
    with pytest.raises(ConfigError, match=r"ViT-B-32"):
        model_config("ViT-B-23")
