"""Turns away pictures that are damaged, too small, too large, too elongated or empty.

Measures as it goes: every decodable picture gets its size, format, perceptual hash and colours,
which the duplicate search works on. Where the bytes are kept is the caller's affair.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.images.decode import Broken, Picture, UndecodableImage, decode_rgb, probe
from curation.images.perceptual import colours, phash
from pipeline.dataset.params import Params
from pipeline.dataset.schema import COLOURS, FORMAT, HEIGHT, PHASH, WIDTH, Column, put
from pipeline.dataset.verdict import Judge, Reason

NEEDS: tuple[Column, ...] = ()
ADDS: tuple[Column, ...] = (WIDTH, HEIGHT, FORMAT, PHASH, COLOURS)

_BATCH = 256
_MEASURED_SIDE = 64


class ImageReason(Reason):
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
    width: int | None = None
    height: int | None = None
    format: str | None = None
    phash: int | None = None
    colours: bytes | None = None
    deviation: float = np.nan
    broken: str | None = None


def image_rules(
    table: pa.Table, images: Callable[[pa.Table], list[bytes]], params: ImageRuleParams
) -> pa.Table:
    """The rows with `width`, `height`, `format`, `phash`, `colours` and verdicts of `ImageReason`.

    `images` gives the bytes of the rows of a table; it is asked for a few hundred rows at a time.
    Sizes are those of the upright picture; hash and colours are null where nothing was decoded.
    """
    rows = list(_measure_all(table, images, params))
    judge = Judge(_with_columns(table, rows))
    judge.drop(
        np.array([row.broken is not None for row in rows], bool),
        ImageReason.UNDECODABLE,
        evidence=[row.broken for row in rows],
    )
    sides = np.array([(row.width or 0, row.height or 0) for row in rows], float).reshape(-1, 2)
    short, long = sides.min(axis=1), sides.max(axis=1)
    pixels, aspect = short * long, long / np.maximum(short, 1)
    deviation = np.array([row.deviation for row in rows])
    bounds = params.min_side, params.max_pixels, params.max_aspect, params.min_deviation
    judge.drop(short < bounds[0], ImageReason.TOO_SMALL, short, bounds[0])
    judge.drop(pixels > bounds[1], ImageReason.TOO_LARGE, pixels, bounds[1])
    judge.drop(aspect > bounds[2], ImageReason.TOO_ELONGATED, aspect, bounds[2])
    judge.drop(deviation < bounds[3], ImageReason.LOW_INFORMATION, deviation, bounds[3])
    return judge.table()


def _measure_all(
    table: pa.Table, images: Callable[[pa.Table], list[bytes]], params: ImageRuleParams
) -> Iterator[_Measured]:
    for start in range(0, table.num_rows, _BATCH):
        # One picture at a time: decoders take one, and it costs a thousand times the loop.
        for data in images(table.slice(start, _BATCH)):
            yield _measure(data, params)


def _measure(data: bytes, params: ImageRuleParams) -> _Measured:
    header = probe(data)
    if isinstance(header, Broken):
        return _Measured(broken=header.why[:200])
    row = _Measured(header.width, header.height, header.format)
    if header.width * header.height > params.max_pixels:
        return row
    try:
        picture = decode_rgb(data, params.max_pixels, _MEASURED_SIDE)
    except UndecodableImage as error:
        row.broken = str(error)[:200]
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
