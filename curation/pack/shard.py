"""Packs pictures and captions into a shard: a webdataset tar, an Arrow file and the table of both.

All three hold the same pairs, the tar and the Arrow file in the order of their uids, and the table
says where in the tar each payload lies.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import simplejpeg
from pydantic import Field

from curation.images import jpeg
from curation.images.decode import Picture, decode_rgb
from curation.images.errors import UndecodableImage
from curation.images.header import ImageHeader, read_header
from curation.pack.arrow import ArrowRow, arrow_file
from curation.pack.tar import TarWriter
from pipeline.dataset.column import Column, put
from pipeline.dataset.params import Params
from pipeline.dataset.schema import CAPTION, LANGUAGE, SHA256, SIDECAR, UID, URL
from pipeline.dataset.verdict import Judge, Reason

# The pictures come beside the table; what finds them in a pool by `schema.POOL` needs that too.
NEEDS: tuple[Column, ...] = (UID, CAPTION, URL, LANGUAGE, SHA256)
ADDS = SIDECAR

Tokens = npt.NDArray[np.uint16]


class PackReason(Reason):
    """Why a pair is not in the shard."""

    UNDECODABLE = "undecodable", "picture cannot be decoded", "its bytes are damaged", True


class PackParams(Params):
    """How pictures are stored."""

    image_size: int = Field(256, ge=1)
    """Pixels of the shorter side at most; pictures are never enlarged."""
    quality: int = Field(95, ge=1, le=100)
    """JPEG quality of what is encoded anew."""
    max_pixels: int = Field(64_000_000, ge=1)
    """Width times height of a source picture."""


@dataclass(frozen=True)
class Packed:
    """The rows with verdicts and places, the tar's bytes and the Arrow file's bytes."""

    table: pa.Table
    tar: bytes
    arrow: bytes


@dataclass(frozen=True)
class _Stored:
    """A picture as it goes into the shard, and the size that it came in."""

    data: bytes
    width: int
    height: int
    source: ImageHeader


def pack(
    table: pa.Table, images: Sequence[bytes], tokens: Sequence[Tokens], params: PackParams
) -> Packed:
    """The shard of `table`, whose row i has the picture `images[i]` and the token ids `tokens[i]`.

    The table keeps its rows and order and has the columns of `SIDECAR`, of which width, height and
    sha256 now describe the stored picture (source_sha256 has what sha256 was); verdicts are of
    `PackReason`.
    """
    # One picture at a time: codecs take one, and decoding it costs a thousand times the loop.
    stored = [_store(data, params) for data in images]
    rows = table.select([column.name for column in NEEDS]).to_pylist()
    tar = TarWriter()
    pairs: list[ArrowRow] = []
    sidecar: list[dict[str, object]] = [{} for _ in rows]
    for at in sorted(range(len(rows)), key=lambda at: rows[at]["uid"]):
        picture = stored[at]
        if isinstance(picture, _Stored):
            sidecar[at] = _write(tar, rows[at], picture, tokens[at])
            uid, caption = rows[at]["uid"], rows[at]["caption"]
            pairs.append(ArrowRow(uid, picture.data, caption, tokens[at]))
    judge = Judge(_with_sidecar(table, sidecar))
    faults = [None if isinstance(picture, _Stored) else picture for picture in stored]
    undecodable = np.array([fault is not None for fault in faults], bool)
    judge.drop(undecodable, PackReason.UNDECODABLE, evidence=faults)
    return Packed(judge.table(), tar.finish(), arrow_file(pairs))


def _store(data: bytes, params: PackParams) -> _Stored | str:
    """The picture as it goes into the shard, or why it cannot be decoded.

    Every picture is decoded, also one that is kept as it is: a header says nothing about the damage
    behind it. What is encoded anew loses whatever the file carried beside the picture.
    """
    try:
        header = read_header(data)
        picture = decode_rgb(data, params.max_pixels, params.image_size)
    except UndecodableImage as error:
        return str(error)[:200]
    small = min(header.width, header.height) <= params.image_size
    if small and header.format == "jpeg" and jpeg.is_plain(data):
        return _Stored(data, header.width, header.height, header)
    picture = _shrink(picture, header, params.image_size)
    encoded = simplejpeg.encode_jpeg(picture, params.quality, colorsubsampling="420")
    return _Stored(encoded, picture.shape[1], picture.shape[0], header)


def _shrink(picture: Picture, header: ImageHeader, image_size: int) -> Picture:
    """The shorter side brought down to `image_size`; the longer one in the source's proportion."""
    height, width = picture.shape[:2]
    short = min(height, width)
    if short <= image_size:
        return picture
    scale = image_size / min(header.width, header.height)
    size = max(round(header.width * scale), 1), max(round(header.height * scale), 1)
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _write(
    tar: TarWriter, row: dict[str, Any], stored: _Stored, tokens: Tokens
) -> dict[str, object]:
    key = row["uid"].hex()
    digest = hashlib.sha256(stored.data).digest()
    text, facts = row["caption"].encode(), _facts(row, stored, digest)
    return {
        "key": key,
        "image_offset": tar.add(f"{key}.jpg", stored.data),
        "image_size": len(stored.data),
        "json_offset": tar.add(f"{key}.json", facts),
        "json_size": len(facts),
        "text_offset": tar.add(f"{key}.txt", text),
        "text_size": len(text),
        "width": stored.width,
        "height": stored.height,
        "sha256": digest,
        "source_sha256": row["sha256"],
        "tokens": tokens,
    }


def _facts(row: dict[str, Any], stored: _Stored, digest: bytes) -> bytes:
    facts = {
        "uid": row["uid"].hex(),
        "url": row["url"],
        "caption": row["caption"],
        "language": row["language"],
        "width": stored.width,
        "height": stored.height,
        "original_width": stored.source.width,
        "original_height": stored.source.height,
        "sha256": digest.hex(),
    }
    return json.dumps(facts, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()


def _with_sidecar(table: pa.Table, sidecar: Sequence[dict[str, object]]) -> pa.Table:
    # Dropped first and not replaced where they stand, so that the sidecar's columns stay together.
    stale = {column.name for column in SIDECAR}
    table = table.drop_columns([name for name in table.column_names if name in stale])
    values = {
        column: pa.array([row.get(column.name) for row in sidecar], column.type)
        for column in SIDECAR
    }
    return put(table, values)
