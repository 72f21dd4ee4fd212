"""Decoding, centre squares and random squares: the peers' pixels, and damage told apart."""

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from trainer.data import images


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
    torchvision: Any, size: tuple[int, int], side: int
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
@pytest.mark.parametrize("with_it", [True, False])
def test_jpegs_of_other_colour_spaces_are_read_as_pillow_reads_them(
    mode: str, with_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not with_it:
        monkeypatch.setattr(images, "simplejpeg", None)
    data = encoded(picture(300, 200).convert(mode), "JPEG", quality=90)
    ours = np.asarray(images.decode(data))
    assert np.array_equal(ours, np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))
    assert (
        np.abs(
            ours.astype(float) - np.asarray(picture(300, 200).convert(mode).convert("RGB"))
        ).mean()
        < 8
    )


def test_alpha_is_laid_on_white() -> None:
    clear = Image.new("RGBA", (8, 8), (10, 20, 30, 0))
    half = Image.new("RGBA", (8, 8), (0, 0, 0, 128))
    assert np.asarray(images.decode(encoded(clear, "PNG"))).min() == 255
    assert np.asarray(images.decode(encoded(half, "PNG")))[0, 0].tolist() == [127, 127, 127]
    palette = Image.new("P", (8, 8), 0)
    palette.putpalette([10, 20, 30, 40, 50, 60])
    palette.paste(1, (4, 0, 8, 8))
    pixels = np.asarray(images.decode(encoded(palette, "PNG", transparency=0)))
    assert pixels[0, 0].tolist() == [255, 255, 255] and pixels[0, 7].tolist() == [40, 50, 60]


@pytest.mark.parametrize(
    "data",
    [b"", b"<html></html>", b"\xff\xd8\xff\xe0 short", encoded(picture(64, 64), "PNG")[:900]],
)
def test_bytes_that_are_no_image_are_bad_images(data: bytes) -> None:
    with pytest.raises(images.BadImage):
        images.square(data, 32)


def test_of_sixteen_bits_of_grey_the_upper_eight_are_kept() -> None:
    ramp = np.linspace(0, 65535, 64 * 64).astype(np.uint16).reshape(64, 64)
    for kind in ("PNG", "TIFF"):
        pixels = np.asarray(images.decode(encoded(Image.fromarray(ramp), kind)))
        assert np.array_equal(
            pixels, np.repeat((ramp >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
        )
    with pytest.raises(images.BadImage, match="floating"):
        images.decode(encoded(Image.new("F", (8, 8), 0.5), "TIFF"))


@pytest.mark.parametrize("with_it", [True, False])
def test_a_phones_jpeg_with_a_second_picture_is_the_first_scaled_like_any_other(
    with_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = encoded(picture(800, 600), "JPEG", quality=90)
    both = encoded(
        picture(800, 600), "MPO", quality=90, save_all=True, append_images=[picture(80, 60)]
    )
    expected = crop_of(plain, (0.5, 0.5, 0.5))
    if not with_it:
        monkeypatch.setattr(images, "simplejpeg", None)
    assert Image.open(io.BytesIO(both)).format == "MPO"
    assert np.array_equal(crop_of(both, (0.5, 0.5, 0.5)), expected)


def test_bytes_that_would_start_a_program_are_no_image(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen.__init__", forbidden)
    data = encoded(picture(64, 64), "EPS")
    with pytest.raises(images.BadImage):
        images.square(data, 32)
    with pytest.raises(images.BadImage):
        crop_of(data, (0.5, 0.5, 0.5))


def test_a_thread_of_a_picture_is_not_blown_up_to_a_square() -> None:
    data = encoded(Image.new("L", (1, 60_000)), "PNG")
    with pytest.raises(images.BadImage, match="pixels"):
        images.square(data, 224)


@pytest.mark.parametrize("with_it", [True, False])
def test_a_jpeg_of_endless_scans_is_a_bad_image(
    with_it: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not with_it:
        monkeypatch.setattr(images, "simplejpeg", None)
    monkeypatch.setattr(images, "MAX_SCANNED", 1_000_000 * 200)
    data = encoded(Image.new("L", (1000, 1000)), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    endless = data[:last] + data[last:-2] * 300 + data[-2:]
    images.decode(data)
    with pytest.raises(images.BadImage, match="scans"):
        images.decode(endless)


def test_what_lies_behind_or_inside_a_jpeg_is_no_scan(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_SCANNED", 300 * 200 * 12)
    noise = b"\xff\xda\x00\x02" * 5_000
    for progressive in (False, True):
        for subsampling in (0, 2):
            data = encoded(
                picture(300, 200),
                "JPEG",
                progressive=progressive,
                subsampling=subsampling,
                restart_marker_blocks=0 if progressive else 4,
                comment=noise[:60_000],
            )
            assert images._scans(data) == (10 if progressive else 1)
            assert crop_of(data + noise, (0.5, 0.5, 0.5)).shape == (32, 32, 3)


def test_whole_numbers_of_thirty_two_bits_are_not_shifted() -> None:
    data = encoded(Image.fromarray(np.full((8, 8), 200, np.int32)), "TIFF")
    assert np.asarray(images.decode(data)).tolist() == [[[200] * 3] * 8] * 8


def test_a_truncated_jpeg_is_a_bad_image() -> None:
    data = encoded(picture(200, 200), "JPEG")
    with pytest.raises(images.BadImage):
        images.square(data[: len(data) // 2], 32)


def crop_of(data: bytes, draws: tuple[float, float, float], side: int = 32) -> np.ndarray:
    return images.random_square(data, np.array(draws, np.float32), 0.25, side)


def test_a_small_crop_is_the_pixels_of_the_picture_where_its_draws_say() -> None:
    image = picture(50, 36)
    data, whole = encoded(image, "PNG"), np.asarray(image)
    for draws, top, left, size in (
        ((1.0, 0.0, 0.0), 0, 0, 36),
        ((1.0, 0.999, 0.0), 0, 14, 36),
        ((0.0, 0.999, 0.999), 18, 32, 18),
        ((0.0, 0.5, 0.5), 9, 16, 18),
    ):
        assert np.array_equal(crop_of(data, draws), whole[top : top + size, left : left + size])


def test_a_large_crop_is_brought_down_as_pillow_does() -> None:
    image = picture(150, 100)
    crop = image.crop((25, 0, 125, 100)).resize((32, 32), Image.Resampling.BICUBIC)
    assert np.array_equal(crop_of(encoded(image, "PNG"), (1.0, 0.5, 0.0)), np.asarray(crop))


@pytest.mark.parametrize("size", [(640, 427), (333, 999), (129, 258)])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
def test_scaled_jpegs_decode_alike_with_and_without_simplejpeg(
    size: tuple[int, int], subsampling: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("simplejpeg")
    data = encoded(picture(*size), "JPEG", quality=90, subsampling=subsampling)
    for share in (0.0, 0.7, 1.0):
        with_it = crop_of(data, (share, 0.3, 0.9))
        with monkeypatch.context() as patch:
            patch.setattr(images, "simplejpeg", None)
            assert np.array_equal(with_it, crop_of(data, (share, 0.3, 0.9)))


def test_a_scaled_decode_shows_the_same_place_and_is_never_too_small() -> None:
    image = picture(400, 300).resize((1600, 1200), Image.Resampling.BICUBIC)
    exact, scaled = (encoded(image, kind) for kind in ("PNG", "JPEG"))
    for draws in ((0.0, 0.2, 0.8), (1.0, 0.9, 0.1)):
        ours, plain = crop_of(scaled, draws), crop_of(exact, draws)
        assert ours.shape == plain.shape == (32, 32, 3)
        assert np.abs(ours.astype(float) - plain).mean() < 6


def test_a_picture_of_too_many_pixels_is_never_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 1999)
    for kind in ("JPEG", "PNG"):
        with pytest.raises(images.BadImage, match="pixels"):
            crop_of(encoded(picture(40, 50), kind), (0.0, 0.0, 0.0))


@pytest.mark.parametrize("data", [b"", b"<html></html>", encoded(picture(64, 64), "JPEG")[:900]])
def test_random_squares_of_damaged_bytes_are_bad_images(data: bytes) -> None:
    with pytest.raises(images.BadImage):
        crop_of(data, (0.0, 0.0, 0.0))
