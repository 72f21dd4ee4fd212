"""Turns away pictures that are damaged, too small, too large, too elongated or empty.

Every decodable picture also gets its size, format, perceptual hash and colours, which the search
for duplicates works on.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.bounds import Bound, Numbers, at_least, at_most
from curation.images.decode import Picture, decode_rgb
from curation.images.errors import UndecodableImage
from curation.images.header import read_header
from curation.images.perceptual import colours, phash
from pipeline.dataset.column import Column, put
from pipeline.dataset.params import Params
from pipeline.dataset.schema import COLOURS, FORMAT, HEIGHT, PHASH, WIDTH
from pipeline.dataset.verdict import Judge, Reason

# The pictures come beside the table; what finds them in a pool by `schema.POOL` needs that too.
NEEDS: tuple[Column, ...] = ()
ADDS: tuple[Column, ...] = (WIDTH, HEIGHT, FORMAT, PHASH, COLOURS)


_BATCH = 256

# The shorter side, in pixels, down to which libjpeg may scale a JPEG while it decodes, in the DCT
# domain. Hash and colours are of a smaller picture still, and this saves most of the time. The
# consequence: a JPEG is measured on averages of its pixels, and any other format on the pixels
# themselves, so whatever depends on fine detail differs between the two. A grainy grey picture may
# fall below `min_deviation` as a JPEG and not as a PNG; a measure of sharpness would differ several
# times over, and needs a decode of its own.
_MEASURED_SIDE = 64


class ImageRuleReason(Reason):
    """Why a picture is turned away."""

    UNDECODABLE = (
        "undecodable",
        "picture cannot be decoded",
        "fetch it again: the bytes are damaged, cut off or not of a known kind",
        True,
    )
    TOO_SMALL = "too_small", "picture is too small", "lower min_side"
    TOO_LARGE = "too_large", "picture has too many pixels", "raise max_pixels if memory allows"
    TOO_ELONGATED = "too_elongated", "picture is too elongated", "raise max_aspect"
    LOW_INFORMATION = "low_information", "picture is nearly one colour", "lower min_deviation"


class ImageRuleParams(Params):
    """Bounds on a picture. DataComp asks for a shorter side of 200; the default keeps icons."""

    min_side: int = Field(32, ge=1)
    """Pixels of the shorter side."""
    max_pixels: int = Field(64_000_000, ge=1)
    """Width times height, read from the header before anything is decoded."""
    max_aspect: float = Field(3.0, ge=1)
    """Longer side over shorter side."""
    min_deviation: float = Field(2.0, ge=0)
    """Standard deviation of the pixels, in 8-bit levels, of the channel that varies most."""


@dataclass(slots=True)
class _Measured:
    """What is known of one picture; None where its header or its pixels could not be read."""

    width: int | None = None
    height: int | None = None
    format: str | None = None
    phash: int | None = None
    colours: bytes | None = None
    deviation: float = np.nan
    fault: str | None = None


class _Pictures:
    """The quantities that rules bound, one value per row."""

    def __init__(self, rows: list[_Measured]) -> None:
        sides = [(row.width or 0, row.height or 0) for row in rows]
        self._sides = np.array(sides, float).reshape(-1, 2)
        self._deviation = np.array([row.deviation for row in rows])

    def short_side(self) -> Numbers:
        """The shorter side in pixels."""
        shorter: Numbers = self._sides.min(axis=1)
        return shorter

    def pixels(self) -> Numbers:
        """Width times height."""
        product: Numbers = self._sides.prod(axis=1)
        return product

    def aspect(self) -> Numbers:
        """The longer side over the shorter one."""
        ratio: Numbers = self._sides.max(axis=1) / np.maximum(self.short_side(), 1)
        return ratio

    def deviation(self) -> Numbers:
        """Standard deviation of the channel that varies most; NaN for what was not decoded."""
        return self._deviation


_RULES = (
    Bound("min_side", at_least, _Pictures.short_side, ImageRuleReason.TOO_SMALL),
    Bound("max_pixels", at_most, _Pictures.pixels, ImageRuleReason.TOO_LARGE),
    Bound("max_aspect", at_most, _Pictures.aspect, ImageRuleReason.TOO_ELONGATED),
    Bound("min_deviation", at_least, _Pictures.deviation, ImageRuleReason.LOW_INFORMATION),
)


def image_rules(
    table: pa.Table, images: Callable[[pa.Table], list[bytes]], params: ImageRuleParams
) -> pa.Table:
    """The rows with `ADDS` and verdicts of `ImageRuleReason`.

    `images` gives the bytes of the rows of a table; it is asked for a few hundred rows at a time.
    Sizes are those of the upright picture; hash and colours are null where nothing was decoded.
    """
    rows = list(_measure_all(table, images, params))
    judge = Judge(_with_columns(table, rows))
    faults = [row.fault for row in rows]
    undecodable = np.array([fault is not None for fault in faults], bool)
    judge.drop(undecodable, ImageRuleReason.UNDECODABLE, evidence=faults)
    pictures = _Pictures(rows)
    for rule in _RULES:
        rule.apply(judge, pictures, params)
    return judge.table()


def _measure_all(
    table: pa.Table, images: Callable[[pa.Table], list[bytes]], params: ImageRuleParams
) -> Iterator[_Measured]:
    for start in range(0, table.num_rows, _BATCH):
        # One picture at a time: decoders take one, and decoding costs a thousand times the loop.
        for data in images(table.slice(start, _BATCH)):
            yield _measure(data, params)


def _measure(data: bytes, params: ImageRuleParams) -> _Measured:
    try:
        header = read_header(data)
    except UndecodableImage as error:
        return _Measured(fault=str(error)[:200])
    row = _Measured(header.width, header.height, header.format)
    if header.width * header.height > params.max_pixels:
        return row
    try:
        picture = decode_rgb(data, params.max_pixels, _MEASURED_SIDE)
    except UndecodableImage as error:
        row.fault = str(error)[:200]
        return row
    row.phash, row.colours, row.deviation = phash(picture), colours(picture), _deviation(picture)
    return row


def _deviation(picture: Picture) -> float:
    return float(cv2.meanStdDev(picture)[1].max())


def _with_columns(table: pa.Table, rows: list[_Measured]) -> pa.Table:
    values: dict[Column, list[object]] = {
        WIDTH: [row.width for row in rows],
        HEIGHT: [row.height for row in rows],
        FORMAT: [row.format for row in rows],
        PHASH: [row.phash for row in rows],
        COLOURS: [row.colours for row in rows],
    }
    return put(table, {column: pa.array(values[column], column.type) for column in ADDS})
