"""The perceptual hash against imagehash, and what it holds still under."""

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageDraw

from curation.images.decode import Picture, decode_rgb
from curation.images.perceptual import chunk_keys, colours, hamming, phash
from tests.support.pictures import encode, photo


def distance(a: int, b: int) -> int:
    return int(hamming(np.array([a], np.uint64), np.array([b], np.uint64))[0])


def pixels(image: Image.Image) -> Picture:
    return np.asarray(image)


@pytest.mark.parametrize("seed", range(40))
def test_agrees_with_imagehash_within_a_few_bits(seed: int) -> None:
    image = photo(seed)
    assert distance(phash(pixels(image)), int(str(imagehash.phash(image)), 16)) <= 6


def test_agrees_with_imagehash_on_average_within_two_bits() -> None:
    bits = [
        distance(phash(pixels(image)), int(str(imagehash.phash(image)), 16))
        for image in map(photo, range(40))
    ]
    assert np.mean(bits) < 2


CHANGES = {
    "jpeg 30": lambda image: decode_rgb(encode(image, quality=30), 1 << 30),
    "webp 50": lambda image: decode_rgb(encode(image, "webp", quality=50), 1 << 30),
    "half": lambda image: pixels(image.reduce(2)),
    "odd size": lambda image: pixels(image.resize((211, 158))),
    "scaled decode": lambda image: decode_rgb(encode(image, quality=95), 1 << 30, 64),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_scaled_or_re_encoded_picture_stays_within_three_bits(change: str) -> None:
    moved = [
        distance(phash(pixels(image)), phash(CHANGES[change](image)))
        for image in map(photo, range(20))
    ]
    assert max(moved) <= 3


def test_different_pictures_are_far_apart() -> None:
    hashes = np.array([phash(pixels(photo(seed))) for seed in range(60)], np.uint64)
    apart = hamming(hashes[:, None], hashes[None, :])[np.triu_indices(60, 1)]
    assert apart.min() > 8


def symmetric() -> Image.Image:
    image = Image.new("RGB", (64, 64), "white")
    ImageDraw.Draw(image).ellipse((8, 8, 55, 55), fill="orange", outline="brown", width=4)
    return image


def test_a_symmetric_drawing_survives_a_re_encoding() -> None:
    """Half its frequencies vanish: without the margin a JPEG's noise would toss those bits."""
    image = symmetric()
    for quality in (95, 75, 40):
        changed = decode_rgb(encode(image, quality=quality), 1 << 30)
        assert distance(phash(pixels(image)), phash(changed)) <= 3


def test_gray_and_rgb_of_one_picture_have_one_hash() -> None:
    gray = photo(3).convert("L")
    assert phash(pixels(gray)) == phash(pixels(gray.convert("RGB")))


def test_colours_tell_flags_of_one_pattern_apart() -> None:
    def tricolour(*bands: str) -> Picture:
        image = Image.new("RGB", (60, 40))
        for at, band in enumerate(bands):
            image.paste(band, (20 * at, 0, 20 * at + 20, 40))
        return pixels(image)

    one, other = tricolour("blue", "white", "red"), tricolour("green", "white", "orange")
    assert len(colours(one)) == 48
    far = np.frombuffer(colours(one), np.uint8).astype(int) - np.frombuffer(
        colours(other), np.uint8
    )
    assert np.abs(far).max() > 100


def test_hamming_counts_bits_as_python_does() -> None:
    draw = np.random.default_rng(0)
    a, b = draw.integers(0, 1 << 64, (2, 500), dtype=np.uint64)
    assert hamming(a, b).tolist() == [
        (int(x) ^ int(y)).bit_count() for x, y in zip(a, b, strict=True)
    ]


def test_chunks_are_the_sixteen_bit_words_of_the_hash() -> None:
    keys = chunk_keys(np.array([0x0123_4567_89AB_CDEF], np.uint64))
    assert keys.dtype == np.uint16
    assert keys.tolist() == [[0x0123, 0x4567, 0x89AB, 0xCDEF]]
