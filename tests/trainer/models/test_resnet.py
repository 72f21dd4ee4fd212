"""The ModifiedResNet against open_clip's, its first values, and statistics that stand still."""

from dataclasses import asdict, replace
from typing import Any

import pytest
import torch

from tests.support.towers import (
    SMALL_RESNET,
    assert_same_embeddings,
    batch,
    open_clip_model,
    randomised,
)
from trainer.errors import ConfigError
from trainer.models.clip import CLIP
from trainer.models.config import ModelConfig, model_config
from trainer.models.init import new_clip
from trainer.models.norms import BatchNorm

LARGER = replace(SMALL_RESNET, image_size=96, vision_width=12, vision_layers=(2, 1, 3, 2))


@pytest.mark.parametrize(
    "config", [SMALL_RESNET, replace(LARGER, vision_heads=6)], ids=["small", "larger"]
)
def test_embeddings_are_those_of_open_clip(open_clip: Any, config: ModelConfig) -> None:
    model = randomised(config)
    peer = open_clip_model(open_clip, config)
    peer.load_state_dict(model.state_dict())
    assert_same_embeddings(model, peer.encode_image, peer.encode_text)


def test_a_step_of_training_is_open_clips(open_clip: Any) -> None:
    model = randomised(SMALL_RESNET).train()
    peer = open_clip_model(open_clip, SMALL_RESNET).train()
    peer.load_state_dict(model.state_dict())
    pixels, _ = batch(SMALL_RESNET)
    for each in (model, peer):
        each.encode_image(pixels).square().sum().backward()
    theirs = dict(peer.visual.named_parameters())
    for name, value in model.visual.named_parameters():
        torch.testing.assert_close(value.grad, theirs[name].grad, atol=1e-4, rtol=1e-3)
    running = dict(peer.visual.named_buffers())
    for name, buffer in model.visual.named_buffers():
        torch.testing.assert_close(buffer, running[name], atol=1e-5, rtol=1e-5)


def settled(config: ModelConfig) -> CLIP:
    """A model whose bottlenecks do something, and whose statistics are those of a batch."""
    model = new_clip(config, seed=0).train()
    with torch.no_grad():
        for name, parameter in model.visual.named_parameters():
            if name.endswith("bn3.weight"):
                parameter.fill_(0.5)
        for norm in model.modules():
            if isinstance(norm, BatchNorm):
                norm.momentum = 1.0
        model.encode_image(batch(config)[0])
    return model.eval()


@pytest.mark.slow
def test_a_model_of_full_size_embeds_like_open_clips(open_clip: Any) -> None:
    model = settled(model_config("RN50"))
    peer = open_clip_model(open_clip, model.config)
    peer.load_state_dict(model.state_dict())
    assert_same_embeddings(model, peer.encode_image, peer.encode_text)


def test_first_values_are_clips() -> None:
    model = new_clip(LARGER, seed=0)
    values = dict(model.visual.named_parameters()) | dict(model.visual.named_buffers())
    features = 32 * LARGER.vision_width
    for name, value in values.items():
        if name.endswith("bn3.weight") and name.startswith("layer"):
            assert not value.any(), name
        elif "bn" in name or "downsample.1" in name:
            one = name.endswith(("weight", "running_var"))
            assert torch.equal(value, torch.full_like(value, int(one))), name
        elif name.startswith("attnpool") and value.ndim == 2:
            assert value.std().item() == pytest.approx(features**-0.5, rel=0.1), name
        elif value.ndim == 4:
            bound = value[0].numel() ** -0.5  # torch's own: Kaiming with a gain of sqrt(1/3)
            assert value.abs().max() <= bound, name
            assert value.std().item() == pytest.approx(bound / 3**0.5, rel=0.15), name


def test_frozen_statistics_stay_and_change_no_output() -> None:
    model = randomised(SMALL_RESNET).train()
    pixels, tokens = batch(SMALL_RESNET)
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    with model.frozen_statistics():
        held = model(pixels, tokens)
    for name, buffer in model.named_buffers():
        assert torch.equal(buffer, before[name]), name
    free = model(pixels, tokens)
    assert torch.equal(held.image, free.image)
    changed = [name for name, buffer in model.named_buffers() if torch.equal(buffer, before[name])]
    assert changed == []


def test_frozen_statistics_thaw_after_an_error_and_nest() -> None:
    model = randomised(SMALL_RESNET).train()
    visual: Any = model.visual
    with pytest.raises(KeyError), model.frozen_statistics():
        with model.frozen_statistics():
            assert visual.bn1.frozen
        assert visual.bn1.frozen
        raise KeyError
    assert not visual.bn1.frozen


def test_evaluation_uses_running_statistics_in_batches_of_any_size() -> None:
    model = randomised(SMALL_RESNET)
    pixels, _ = batch(SMALL_RESNET)
    with torch.no_grad():
        together = model.encode_image(pixels)
        singly = torch.cat([model.encode_image(image[None]) for image in pixels])
    torch.testing.assert_close(together, singly, atol=1e-5, rtol=1e-5)


def test_there_are_no_patches_to_drop() -> None:
    model = new_clip(SMALL_RESNET, seed=0)
    pixels, _ = batch(SMALL_RESNET)
    with pytest.raises(ConfigError, match="no patches to drop"):
        model.encode_image(pixels, torch.zeros(4, 1, dtype=torch.int64))


def test_a_shape_passes_through_json() -> None:
    record = asdict(SMALL_RESNET) | {"vision_layers": [1, 2, 1, 1]}
    assert ModelConfig(**record) == SMALL_RESNET
