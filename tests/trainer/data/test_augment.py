"""What the device does to crops: Pillow's resize on either path, mirror, jitter, standardising."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance
from torch import Tensor

from tests.support.folders import pictures, write_dataset
from trainer.config import TrainConfig
from trainer.data import augment
from trainer.data.augment import (
    MEAN,
    STD,
    colour_jitter,
    normalise,
    prepare,
    resize_batched,
    resize_each,
)
from trainer.data.loader import Loader, Source

SIDES = torch.tensor([64, 63, 60, 56, 50, 23, 7])
MIRROR = torch.tensor([0, 1, 0, 1, 0, 1, 0], dtype=torch.bool)
CONFIG = TrainConfig(model="ViT-Ti-8-32px", steps=9, batch_size=16, crop_scale_min=0.5, flip=True)

Resize = Callable[[Tensor, Tensor, Tensor, int], Tensor]
ON_A_GPU = partial(resize_batched, kind=torch.float16)
RESIZES: list[Resize] = [resize_each, partial(resize_batched, kind=torch.float32), ON_A_GPU]


def sharp(side: int) -> np.ndarray:
    """Edges and noise, where resizing overshoots."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)
    pixels[side // 3 :, : side // 2] //= 8
    pixels[: side // 4] |= 0xC0
    return pixels


def canvases() -> tuple[Tensor, Tensor]:
    """Crops of `SIDES` in canvases, and what Pillow makes of each at side 56."""
    pixels, expected = np.zeros((len(SIDES), 64, 64, 3), np.uint8), []
    for canvas, side, mirror in zip(pixels, SIDES.tolist(), MIRROR.tolist(), strict=True):
        canvas[:side, :side] = crop = sharp(side)
        small = np.asarray(Image.fromarray(crop).resize((56, 56), Image.Resampling.BICUBIC))
        expected.append(small[:, ::-1] if mirror else small)
    return torch.from_numpy(pixels), torch.from_numpy(np.stack(expected))


@pytest.mark.parametrize("resize", RESIZES)
def test_resizing_is_pillows_within_two_levels(resize: Resize) -> None:
    pixels, expected = canvases()
    out = resize(pixels, SIDES, MIRROR, 56).float()
    assert out.shape == (len(SIDES), 56, 56, 3)
    difference = (out - expected.float()).abs()
    assert difference.max() <= 2
    assert difference.mean() < 0.3


def test_half_precision_is_a_fourth_of_a_level_off_at_most() -> None:
    pixels, _ = canvases()
    half, exact = (
        resize_batched(pixels, SIDES, MIRROR, 56, kind) for kind in (torch.float16, torch.float64)
    )
    assert 0 < (half - exact).abs().max() <= 0.25


@pytest.mark.parametrize("resize", RESIZES)
def test_a_crop_of_the_right_side_is_left_as_it_is(resize: Resize) -> None:
    pixels, _ = canvases()
    out = resize(pixels[3:4], SIDES[3:4], torch.tensor([False]), 56)
    torch.testing.assert_close(out.float(), pixels[3:4, :56, :56].float(), atol=1e-3, rtol=0)


def test_what_lies_around_a_crop_does_not_matter() -> None:
    pixels, _ = canvases()
    other = pixels.clone()
    for canvas, side in zip(other, SIDES.tolist(), strict=True):
        canvas[side:], canvas[:, side:] = 255, 255
    for resize in RESIZES:
        one, two = (resize(some, SIDES, MIRROR, 56) for some in (pixels, other))
        assert torch.equal(one, two)


def test_prepared_images_are_the_resized_crops_standardised(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path / "pairs", pictures(20))
    batch = Loader([Source(folder)], CONFIG).batch(1)
    assert 0 < batch.mirror.sum() < 16
    out = prepare(batch, CONFIG)
    pixels = resize_each(batch.pixels, batch.sides, batch.mirror, 32)
    expected = (pixels.permute(0, 3, 1, 2) / 255 - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(
        STD
    ).view(3, 1, 1)
    assert out.shape == (16, 3, 32, 32) and out.dtype == torch.float32
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


def test_prepared_images_do_not_depend_on_how_many_are_made_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(CONFIG, colour_jitter=0.4)
    batch = Loader([Source(write_dataset(tmp_path / "pairs", pictures(20)))], config).batch(0)
    at_once = prepare(batch, config)
    monkeypatch.setattr(augment, "AT_ONCE", 5)
    assert torch.equal(prepare(batch, config), at_once)
    assert not torch.equal(prepare(batch, CONFIG), at_once)


def test_jitter_of_nothing_is_nothing_and_its_factors_are_what_they_say() -> None:
    image = Image.fromarray(sharp(16))
    pixels = torch.from_numpy(np.array(image))[None]
    middle = torch.full((1, 3), 0.5)
    torch.testing.assert_close(colour_jitter(pixels, middle, 0.5), pixels.float())
    darker = colour_jitter(pixels, torch.tensor([[0.0, 0.5, 0.5]]), 0.5)
    torch.testing.assert_close(darker, pixels * 0.5)
    for draws, kind in (
        ([0.5, 0.0, 0.5], ImageEnhance.Contrast),
        ([0.5, 0.5, 0.0], ImageEnhance.Color),
    ):
        oracle = np.array(kind(image).enhance(0.5))
        ours = colour_jitter(pixels, torch.tensor([draws]), 0.5)[0]
        torch.testing.assert_close(ours, torch.from_numpy(oracle).float(), atol=1.5, rtol=0)


def test_normalised_pixels_have_clips_mean_and_deviation() -> None:
    white = normalise(torch.full((1, 2, 2, 3), 255, dtype=torch.uint8))
    expected = (1 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(white[0, :, 0, 0], expected)
    assert white.shape == (1, 3, 2, 2)
