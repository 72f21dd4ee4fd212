"""Keeps one row of each picture, and none of a picture that stands for nothing.

Works on rows that met by the SHA-256 of the bytes. A picture under many unrelated captions is no
picture of them: it is the "image not found" that a host serves for whatever it no longer has.
"""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from pipeline.dataset.params import Params
from pipeline.dataset.schema import CAPTION, IMAGE_COPIES, SHA256, UID, Column, put
from pipeline.dataset.uid import uid_words
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
    picture = table["sha256"].combine_chunks().dictionary_encode().indices.to_numpy()
    survivor, copies = _survivors(picture, table["uid"])
    captions = _distinct_captions(picture, table["caption"])
    stays = survivor == np.arange(table.num_rows)
    counted = pa.array(np.where(stays, copies, 1), IMAGE_COPIES.type)
    judge = Judge(put(table, {IMAGE_COPIES: counted}))
    judge.drop(
        captions > params.placeholder_captions,
        ImageDedupReason.PLACEHOLDER,
        captions,
        params.placeholder_captions,
        _hex(table["sha256"]),
    )
    judge.drop(
        ~stays,
        ImageDedupReason.DUPLICATE_IMAGE,
        copies,
        1,
        _hex(table["uid"].take(pa.array(survivor))),
    )
    return judge.table()


def _survivors(
    picture: npt.NDArray[np.int32], uids: pa.ChunkedArray
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """For each row, the row of its picture with the smallest uid, and how many rows there are."""
    words = uid_words(uids)
    order = np.lexsort((words[:, 1], words[:, 0], picture))
    heads, sizes = np.unique(picture[order], return_index=True, return_counts=True)[1:]
    survivor, copies = np.empty(len(order), np.intp), np.empty(len(order), np.intp)
    survivor[order] = np.repeat(order[heads], sizes)
    copies[order] = np.repeat(sizes, sizes)
    return survivor, copies


def _distinct_captions(
    picture: npt.NDArray[np.int32], captions: pa.ChunkedArray
) -> npt.NDArray[np.int64]:
    pairs = pa.table({"picture": picture, "caption": captions}).group_by(["picture", "caption"])
    distinct = pairs.aggregate([])["picture"].to_numpy()
    return np.bincount(distinct, minlength=1)[picture]


def _hex(values: pa.ChunkedArray) -> list[str]:
    return [value.hex() for value in values.to_pylist()]
