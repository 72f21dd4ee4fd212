"""Decoding and resizing: torchvision's pixels, white behind alpha, and damage told apart."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance

from trainer import images


def picture(width: int, height: int) -> Image.Image:
    """A smooth picture with some noise."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(x / 9), np.cos(y / 7), np.sin((x + y) / 11)], axis=-1)
    noise = rng.normal(0, 8, (height, width, 3))
    return Image.fromarray((127 + 100 * waves + noise).clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize("size", [(64, 64), (97, 61), (50, 173), (20, 20), (333, 250)])
@pytest.mark.parametrize("side", [32, 36])
def test_squares_are_the_pixels_of_clips_own_transform(
    torchvision_without_operators: None, size: tuple[int, int], side: int
) -> None:
    transforms = pytest.importorskip("torchvision.transforms")
    peer = transforms.Compose(
        [
            transforms.Resize(side, interpolation=transforms.InterpolationMode.BICUBIC),
            transforms.CenterCrop(side),
        ]
    )
    image = picture(*size)
    ours = images.square(encoded(image, "PNG"), side)
    assert np.array_equal(ours, np.asarray(peer(image)))


@pytest.mark.parametrize("options", [{"quality": 90}, {"quality": 50, "subsampling": 0}])
def test_jpegs_decode_alike_with_and_without_simplejpeg(
    options: dict[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("simplejpeg")
    data = encoded(picture(75, 51), "JPEG", **options)
    fast = np.asarray(images.decode(memoryview(data)))
    monkeypatch.setattr(images, "simplejpeg", None)
    assert np.array_equal(fast, np.asarray(images.decode(memoryview(data))))


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_jpegs_of_other_colour_spaces_are_read(mode: str) -> None:
    image = images.decode(encoded(picture(40, 30).convert(mode), "JPEG"))
    assert image.mode == "RGB" and image.size == (40, 30)


def test_alpha_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    assert np.asarray(images.decode(encoded(clear, "PNG"))).min() == 255
    assert np.asarray(images.decode(encoded(half, "PNG")))[0, 0].tolist() == [127, 127, 127]
    palette = clear.convert("P", palette=Image.Palette.ADAPTIVE)
    assert images.decode(encoded(palette, "PNG", transparency=0)).mode == "RGB"


@pytest.mark.parametrize(
    "data",
    [b"", b"<html></html>", b"\xff\xd8\xff\xe0 short", encoded(picture(64, 64), "PNG")[:900]],
)
def test_bytes_that_are_no_image_are_bad_images(data: bytes) -> None:
    with pytest.raises(images.BadImage):
        images.square(data, 32)


def test_a_truncated_jpeg_is_a_bad_image() -> None:
    data = encoded(picture(200, 200), "JPEG")
    with pytest.raises(images.BadImage):
        images.square(data[: len(data) // 2], 32)


def test_normalised_pixels_have_clips_mean_and_deviation() -> None:
    white = images.normalise(torch.full((1, 2, 2, 3), 255, dtype=torch.uint8))
    expected = (1 - torch.tensor(images.MEAN)) / torch.tensor(images.STD)
    torch.testing.assert_close(white[0, :, 0, 0], expected)
    assert white.shape == (1, 3, 2, 2)


def test_a_crop_of_everything_is_the_image_and_a_mirror_mirrors() -> None:
    pixels = torch.from_numpy(np.array(picture(16, 16)))[None]
    whole, mirrored = torch.tensor([[0.0, 0.5, 0.5, 0.9]]), torch.tensor([[0.0, 0.5, 0.5, 0.1]])
    for draws, expected in ((whole, pixels), (mirrored, pixels.flip(2))):
        out = images.random_crop(pixels, draws, side=16, scale_min=1.0, flip=True)
        torch.testing.assert_close(out, expected.float(), atol=1e-2, rtol=0)


def test_jitter_of_nothing_is_nothing_and_its_factors_are_what_they_say() -> None:
    pixels = torch.from_numpy(np.array(picture(16, 16)))[None]
    middle = torch.full((1, 3), 0.5)
    torch.testing.assert_close(images.colour_jitter(pixels, middle, 0.5), pixels.float())
    darker = images.colour_jitter(pixels, torch.tensor([[0.0, 0.5, 0.5]]), 0.5)
    torch.testing.assert_close(darker, pixels * 0.5)
    oracle = ImageEnhance.Color(picture(16, 16)).enhance(0.5)
    greyer = images.colour_jitter(pixels, torch.tensor([[0.5, 0.5, 0.0]]), 0.5)
    torch.testing.assert_close(
        greyer[0], torch.from_numpy(np.array(oracle)).float(), atol=1.5, rtol=0
    )


def test_a_crop_lies_where_its_draws_say() -> None:
    ramp = torch.arange(64).repeat(64, 1)[None, :, :, None].expand(1, 64, 64, 3).to(torch.uint8)
    for column, left in ((0.0, 0.0), (1.0, 32.0)):
        draws = torch.tensor([[0.0, column, 0.5, 0.9]])
        out = images.random_crop(ramp, draws, side=32, scale_min=0.25, flip=False)
        torch.testing.assert_close(out[0, 5, :, 0], left + torch.arange(32.0), atol=1e-2, rtol=0)
