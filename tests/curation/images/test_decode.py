"""Decoding: one normal form for whatever comes, and nothing at all for what is damaged."""

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from curation.images.decode import Picture, decode_rgb
from curation.images.errors import UndecodableImage
from curation.images.header import ImageHeader, read_header, sniff
from tests.support.pictures import BOMBS, KINDS, PHOTO, encode, png_header

LIMIT = 10_000_000


def oracle(data: bytes) -> Picture:
    """Pillow's reading, upright and in RGB."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))


def furthest(a: Picture, b: Picture) -> int:
    assert a.shape == b.shape
    return int(np.abs(a.astype(int) - b).max())


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_those_that_pillow_reads(kind: str) -> None:
    picture = decode_rgb(KINDS[kind], LIMIT)
    assert picture.dtype == np.uint8
    assert furthest(picture, oracle(KINDS[kind])) <= 2


@pytest.mark.parametrize("kind", KINDS)
def test_the_header_tells_size_and_format(kind: str) -> None:
    with Image.open(io.BytesIO(KINDS[kind])) as image:
        name = str(image.format).lower()
    assert read_header(KINDS[kind]) == ImageHeader(320, 240, name)
    assert sniff(KINDS[kind]) == name


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["jpeg", "png", "webp"])
def test_exif_orientation_is_undone(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encode(PHOTO, kind, exif=exif)
    assert furthest(decode_rgb(data, LIMIT), oracle(data)) <= 2
    if kind == "jpeg":
        height, width = oracle(data).shape[:2]
        assert read_header(data) == ImageHeader(width, height, "jpeg")


def test_alpha_is_laid_on_white() -> None:
    image = Image.new("RGBA", (3, 1))
    image.putdata([(255, 0, 0, 255), (255, 0, 0, 128), (255, 0, 0, 0)])
    for kind in ("png", "webp"):
        data = encode(image, kind, lossless=True, exact=True)
        assert decode_rgb(data, LIMIT).tolist() == [[[255, 0, 0], [255, 127, 127], [255] * 3]]


def test_a_transparent_palette_entry_is_white() -> None:
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putdata([0, 1])
    for kind in ("png", "gif"):
        data = encode(image, kind, transparency=1)
        assert decode_rgb(data, LIMIT).tolist() == [[[10, 20, 30], [255, 255, 255]]]


def test_sixteen_bit_gray_keeps_its_high_byte() -> None:
    levels = np.array([[0, 255, 256, 0x8000, 0xFFFF]], np.uint16)
    data = encode(Image.fromarray(levels), "png")
    assert decode_rgb(data, LIMIT)[0, :, 0].tolist() == [0, 0, 1, 128, 255]


def test_the_first_frame_of_an_animation_counts() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "green", "blue")]
    for kind in ("gif", "webp", "png"):
        data = encode(frames[0], kind, save_all=True, append_images=frames[1:], lossless=True)
        assert decode_rgb(data, LIMIT)[4, 4].tolist() == [255, 0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_file_is_refused_or_whole_but_never_half(kind: str) -> None:
    data, whole = KINDS[kind], decode_rgb(KINDS[kind], LIMIT)
    for cut in range(1, len(data), max(len(data) // 40, 1)):
        try:
            picture = decode_rgb(data[:-cut], LIMIT)
        except UndecodableImage:
            continue
        assert np.array_equal(picture, whole)
        assert cut < 13


@pytest.mark.parametrize("side", [16, 64, 100, 240])
def test_a_scaled_decode_keeps_the_side_that_was_asked_for(side: int) -> None:
    picture = decode_rgb(KINDS["jpeg"], LIMIT, side)
    assert side <= min(picture.shape[:2]) <= 240
    assert side > 120 or min(picture.shape[:2]) < 240
    small = Image.fromarray(decode_rgb(KINDS["jpeg"], LIMIT)).resize(picture.shape[1::-1])
    assert np.abs(picture.astype(int) - np.asarray(small)).mean() < 3


def test_a_picture_smaller_than_the_side_asked_for_comes_whole() -> None:
    assert decode_rgb(KINDS["jpeg"], LIMIT, 4000).shape == (240, 320, 3)


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_refused_by_its_header(kind: str) -> None:
    header = read_header(BOMBS[kind])
    assert header.width * header.height > 200_000_000
    with pytest.raises(UndecodableImage, match="more than 10000000 pixels"):
        decode_rgb(BOMBS[kind], LIMIT)


def test_a_jpeg_of_a_thousand_scans_is_refused() -> None:
    data = KINDS["progressive"]
    scan = data.index(b"\xff\xda")
    bomb = data[:-2] + data[scan : scan + 400] * 1000 + data[-2:]
    with pytest.raises(UndecodableImage, match="scans"):
        decode_rgb(bomb, LIMIT)


BROKEN = {
    "empty": b"",
    "text": b"<html>404</html>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "tiff": b"II*\x00" + bytes(100),
    "bmp": b"BM" + bytes(100),
    "riff of another kind": b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(100),
    "jpeg marker only": b"\xff\xd8\xff",
    "jpeg without frame": b"\xff\xd8\xff\xda\x00\x02" + bytes(50),
    "jpeg with a segment past the end": b"\xff\xd8\xff\xe0\xff\xff" + bytes(50),
    "jpeg of no width": KINDS["jpeg"].replace(struct.pack(">HH", 240, 320), bytes(4)),
    "png signature only": b"\x89PNG\r\n\x1a\n",
    "png of no height": png_header(10, 0),
    "png of two giga": png_header(1, 1 << 31),
    "png with another first chunk": b"\x89PNG\r\n\x1a\n" + bytes(30),
    "gif of no size": b"GIF89a" + bytes(30),
    "gif header cut": b"GIF89a\x01",
    "webp cut": KINDS["webp"][:-9],
    "webp of an unknown chunk": b"RIFF\x10\x00\x00\x00WEBPVP9 " + bytes(30),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_header_that_makes_no_sense_is_refused_with_a_reason(kind: str) -> None:
    with pytest.raises(UndecodableImage, match=r"\w"):
        read_header(BROKEN[kind])
    with pytest.raises(UndecodableImage):
        decode_rgb(BROKEN[kind], LIMIT)


def test_damage_never_raises_anything_else() -> None:
    draw = np.random.default_rng(0)
    for data in KINDS.values():
        for _ in range(12):
            changed = np.frombuffer(data, np.uint8).copy()
            changed[draw.integers(0, len(data), 6)] ^= draw.integers(1, 256, 6, dtype=np.uint8)
            try:
                assert decode_rgb(changed.tobytes(), LIMIT).ndim == 3
            except UndecodableImage as error:
                assert str(error)


def test_the_reason_for_the_same_bytes_is_the_same_each_time() -> None:
    """Pillow's own text for this one holds the address of a buffer in memory."""
    with pytest.raises(UndecodableImage) as error:
        decode_rgb(KINDS["gif"][:20], LIMIT)
    assert str(error.value) == "gif: cannot be identified"
