"""Keeps one row of each picture, and none of a picture that stands for nothing.

Works on rows that met by the SHA-256 of the bytes. A picture under many unrelated captions is no
picture of them: it is the "image not found" that a host serves for whatever it no longer has.
"""

import numpy as np
import pyarrow as pa
from pydantic import Field

from curation.dedup.survivors import Index, hex_digits, survivors
from pipeline.dataset.column import Column, put
from pipeline.dataset.params import Params
from pipeline.dataset.schema import CAPTION, IMAGE_COPIES, SHA256, UID
from pipeline.dataset.verdict import Judge, Reason

NEEDS: tuple[Column, ...] = (UID, SHA256, CAPTION)
ADDS: tuple[Column, ...] = (IMAGE_COPIES,)


class ImageDedupReason(Reason):
    """Why a row gives way to another with the same bytes."""

    PLACEHOLDER = (
        "placeholder",
        "one picture under many captions",
        "raise placeholder_captions if the pictures are wanted",
    )
    DUPLICATE_IMAGE = "duplicate_image", "same picture as another row"


class ImageDedupParams(Params):
    """When a repeated picture is a placeholder."""

    placeholder_captions: int = Field(8, ge=1)
    """A picture with more distinct captions than this is dropped in all its rows."""


def image_dedup(table: pa.Table, params: ImageDedupParams) -> pa.Table:
    """The rows with `image_copies` int32 and verdicts of `ImageDedupReason`.

    All rows of a sha256 must be in the table. The row with the smallest uid survives and has the
    number of rows of its picture in image_copies; the others have 1, and the survivor's uid as
    evidence.
    """
    digest = table["sha256"].combine_chunks()
    survivor, copies = survivors(digest, table["uid"])
    captions = _distinct_captions(survivor, table["caption"])
    stays = survivor == np.arange(table.num_rows)
    counted = pa.array(np.where(stays, copies, 1), IMAGE_COPIES.type)
    judge = Judge(put(table, {IMAGE_COPIES: counted}))
    judge.drop(
        captions > params.placeholder_captions,
        ImageDedupReason.PLACEHOLDER,
        captions,
        params.placeholder_captions,
        hex_digits(digest),
    )
    judge.drop(
        ~stays,
        ImageDedupReason.DUPLICATE_IMAGE,
        copies,
        1,
        hex_digits(table["uid"])[survivor],
    )
    return judge.table()


def _distinct_captions(survivor: Index, captions: pa.ChunkedArray) -> Index:
    """How many captions each row's picture has; a picture is known by its surviving row."""
    pairs = pa.table({"picture": survivor, "caption": captions}).group_by(["picture", "caption"])
    distinct = pairs.aggregate([])["picture"].to_numpy()
    return np.bincount(distinct, minlength=1)[survivor]
