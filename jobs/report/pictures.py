"""Thumbnails of the pictures that a build fetched and packed."""

from dataclasses import dataclass

import cv2
import numpy as np
import simplejpeg

from curation.images.decode import decode_rgb
from curation.images.errors import UndecodableImage
from jobs.report.rows import Drawn, Row
from pipeline.store.result import Result

MAX_PIXELS = 64_000_000
JPEG_QUALITY = 72


@dataclass(frozen=True)
class Pictures:
    """The pictures of a build: in the pool of what was fetched, and in shards."""

    pool: Result | None

    def fetched(self, row: Row, side: int) -> bytes | None:
        """The picture of a row that says where in the pool it lies, as a JPEG of at most `side`.

        None if the row has none, or one that cannot be decoded.
        """
        if self.pool is None or row.get("pool_part") is None:
            return None
        part = self.pool.manifest.parts[row["pool_part"]]
        (data,) = self.pool.ranges(part, "tar", [row["pool_offset"]], [row["pool_size"]])
        return thumbnail(data, side)

    def packed(self, shards: Result, drawn: Drawn, side: int) -> bytes | None:
        """The picture of a row of a shard, None if there is no picture to be had."""
        row = drawn.row
        if "tar" not in drawn.part.files or row.get("image_offset") is None:
            return None
        (data,) = shards.ranges(drawn.part, "tar", [row["image_offset"]], [row["image_size"]])
        return thumbnail(data, side)


def thumbnail(data: bytes, side: int) -> bytes | None:
    """A picture as a JPEG whose longer side has at most `side` pixels; None if undecodable."""
    try:
        picture = decode_rgb(data, MAX_PIXELS, side)
    except UndecodableImage:
        return None
    height, width = picture.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    jpeg: bytes = simplejpeg.encode_jpeg(np.ascontiguousarray(small), JPEG_QUALITY, "RGB", "420")
    return jpeg
