"""Exact duplicates and placeholders among rows that share a picture."""

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa

from curation.dedup.image_dedup import ImageDedupParams, image_dedup
from pipeline.dataset.uid import UID_TYPE
from tests.support.verdicts import uid


def judge(
    rows: list[tuple[int, bytes, str]], **params: Any
) -> list[tuple[int, str | None, str | None]]:
    """Rows are (uid, picture, caption); gives (copies, reason, evidence) of each."""
    table = pa.table(
        {
            "uid": pa.array([uid(n) for n, _, _ in rows], UID_TYPE),
            "sha256": pa.array([hashlib.sha256(p).digest() for _, p, _ in rows], pa.binary(32)),
            "caption": [caption for _, _, caption in rows],
        }
    )
    result = image_dedup(table, ImageDedupParams(**params))
    assert result.select(table.column_names).equals(table)
    verdicts = result["verdict"].to_pylist()
    return [
        (copies, verdict and verdict["reason"], verdict and verdict["evidence"])
        for copies, verdict in zip(result["image_copies"].to_pylist(), verdicts, strict=True)
    ]


def test_the_smallest_uid_of_a_picture_stays() -> None:
    assert judge([(7, b"a", "x"), (3, b"a", "y"), (5, b"b", "x"), (9, b"a", "x")]) == [
        (1, "duplicate_image", uid(3).hex()),
        (3, None, None),
        (1, None, None),
        (1, "duplicate_image", uid(3).hex()),
    ]


def test_a_picture_under_too_many_captions_goes_altogether() -> None:
    many = [(n, b"404", f"caption {n}") for n in range(9)]
    placeholder = (1, "placeholder", hashlib.sha256(b"404").hexdigest())
    results = judge([*many, (99, b"other", "caption 1")])
    assert [row[1:] for row in results[:9]] == [placeholder[1:]] * 9
    assert results[9] == (1, None, None)


def test_as_many_captions_as_allowed_are_no_placeholder() -> None:
    rows = [(n, b"p", f"caption {n}") for n in range(8)]
    assert [row[1] for row in judge(rows)] == [None] + ["duplicate_image"] * 7
    assert {row[1] for row in judge(rows, placeholder_captions=7)} == {"placeholder"}


def test_one_caption_repeated_is_no_placeholder() -> None:
    rows = [(n, b"p", "the same") for n in range(50)]
    assert judge(rows)[0] == (50, None, None)


def test_the_order_of_rows_changes_no_verdict() -> None:
    draw = np.random.default_rng(0)
    rows = [(n, bytes([draw.integers(0, 30)]), f"{draw.integers(0, 9)}") for n in range(300)]
    forward = dict(zip([r[0] for r in rows], judge(rows), strict=True))
    backward = dict(zip([r[0] for r in rows[::-1]], judge(rows[::-1]), strict=True))
    assert forward == backward


def test_no_rows_give_no_rows() -> None:
    assert judge([]) == []
