"""Decoded pictures as 8-bit RGB, whatever mode their file had."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from pipeline.dataset.pixels import GREY_16, rgb_on_white

GREYS = np.array([[0, 255, 256], [0x1234, 0x8000, 0xFFFF]], np.uint16)


def test_of_sixteen_bits_of_grey_the_upper_eight_are_kept() -> None:
    image = Image.fromarray(GREYS)
    assert image.mode in GREY_16
    assert rgb_on_white(image)[:, :, 1].tolist() == [[0, 0, 1], [0x12, 0x80, 0xFF]]
    assert rgb_on_white(image).shape == (2, 3, 3)


def test_big_endian_greys_are_the_same() -> None:
    image = Image.frombytes("I;16B", (3, 2), GREYS.astype(">u2").tobytes())
    assert np.array_equal(rgb_on_white(image), rgb_on_white(Image.fromarray(GREYS)))


def test_a_mode_counts_as_grey_where_it_is_named() -> None:
    image = Image.fromarray(GREYS.astype(np.int32))
    assert image.mode == "I"
    assert rgb_on_white(image, GREY_16 | {"I"})[1, 0].tolist() == [0x12] * 3
    assert rgb_on_white(image)[1, 0].tolist() == [255] * 3, "Pillow's conversion clips"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_alpha_is_laid_on_white(mode: str) -> None:
    image = Image.fromarray(np.array([[[0, 0, 0, 0], [200, 0, 0, 255]]], np.uint8))
    pixels = rgb_on_white(image.quantize(4) if mode == "P" else image.convert(mode))
    assert pixels.dtype == np.uint8 and pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[0, 1].max() < 255, "what is opaque stays"


def test_importing_it_loads_no_pillow() -> None:
    command = "import sys, pipeline.dataset.pixels; sys.exit('PIL' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", command], check=False).returncode == 0
