"""Pixels of the mini-web: the vendors' drawings in the formats of the real web, and broken ones.

Encodings are Pillow's, so the bytes are the same for the same Pillow; what a picture shows and
where it is served is not known here.
"""

import io
from pathlib import Path

from PIL import Image, ImageDraw, ImageEnhance

FORMATS = {"webp": 0.36, "jpg": 0.29, "png": 0.22, "gif": 0.10, "original": 0.03}
"""Shares of formats among the emoji pictures."""

TYPES = {
    "webp": "image/webp",
    "jpg": "image/jpeg",
    "png": "image/png",
    "gif": "image/gif",
    "svg": "image/svg+xml",
}


def load(path: Path, longest: int | None = None) -> Image.Image:
    """The picture as RGBA, its longer side at most `longest` pixels."""
    with Image.open(path) as opened:
        image = opened.convert("RGBA")
    if longest and max(image.size) > longest:
        image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    return image


def flat(image: Image.Image, background: str = "white") -> Image.Image:
    """The picture on a background, as RGB."""
    canvas = Image.new("RGBA", image.size, background)
    canvas.alpha_composite(image)
    return canvas.convert("RGB")


def encode(image: Image.Image, suffix: str, quality: int = 75, colours: int = 32) -> bytes:
    """The file's bytes; GIF and PNG get a palette, PNG keeps transparency."""
    out = io.BytesIO()
    if suffix == "webp":
        flat(image).save(out, "WEBP", quality=quality, method=6)
    elif suffix == "jpg":
        flat(image).save(out, "JPEG", quality=quality, optimize=True)
    elif suffix == "gif":
        quantised = flat(image).quantize(colours, dither=Image.Dither.NONE)
        quantised.save(out, "GIF", optimize=True)
    else:
        octree = Image.Quantize.FASTOCTREE
        quantised = image.quantize(colours, method=octree, dither=Image.Dither.NONE)
        quantised.save(out, "PNG", optimize=True)
    return out.getvalue()


def lookalike(image: Image.Image, way: int) -> Image.Image:
    """The same drawing as another host would keep it: resized, brightened, padded or duller."""
    ways = (
        lambda: image.resize((48, 48), Image.Resampling.BILINEAR),
        lambda: image.resize((80, 80), Image.Resampling.BICUBIC),
        lambda: ImageEnhance.Brightness(image).enhance(1.08),
        lambda: ImageEnhance.Color(image).enhance(0.8),
        lambda: image.resize((60, 64), Image.Resampling.BILINEAR),
    )
    return ways[way % len(ways)]()


def missing_picture() -> bytes:
    """The one "image not found" picture that dozens of hosts answer with."""
    image = Image.new("RGB", (120, 90), "#e8e8e8")
    pen = ImageDraw.Draw(image)
    pen.rectangle((8, 8, 111, 81), outline="#b0b0b0", width=2)
    pen.line((8, 8, 111, 81), fill="#b0b0b0", width=2)
    pen.line((111, 8, 8, 81), fill="#b0b0b0", width=2)
    pen.ellipse((45, 30, 75, 60), fill="#e8e8e8", outline="#808080", width=3)
    return encode(image.convert("RGBA"), "png", colours=8)


def pixel() -> bytes:
    """A transparent tracking pixel."""
    out = io.BytesIO()
    Image.new("P", (1, 1)).save(out, "GIF", transparency=0)
    return out.getvalue()


def banner(size: tuple[int, int], hue: int) -> bytes:
    """An advertisement of stripes, far wider than high."""
    image = Image.new("RGB", size, f"hsl({hue}, 60%, 50%)")
    pen = ImageDraw.Draw(image)
    for left in range(0, size[0], 80):
        stripe = f"hsl({(hue + 40) % 360}, 60%, 70%)"
        pen.rectangle((left, size[1] // 3, left + 40, 2 * size[1] // 3), fill=stripe)
    return encode(image.convert("RGBA"), "png", colours=8)


def svg(colour: str) -> bytes:
    """A drawing of our own in a format that no raster decoder opens."""
    return (
        '<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 64 64">'
        f'<circle cx="32" cy="32" r="28" fill="{colour}"/><path d="M16 36q16 20 32 0"/></svg>'
    ).encode()
