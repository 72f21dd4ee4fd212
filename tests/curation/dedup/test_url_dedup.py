"""Exact duplicates: the first of every key survives, and the others name it."""

import enum

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.url_dedup import UrlDedupParams, UrlReason, first_of_key, url_dedup
from pipeline.dataset.verdict import VERDICT
from tests.support.tables import pair_uids


def pairs(*rows):
    urls, captions = zip(*rows, strict=True) if rows else ((), ())
    table = pa.table(
        {
            "uid": pair_uids(urls, captions),
            "url": pa.array(urls, pa.string()),
            "caption": pa.array(captions, pa.string()),
        }
    )
    return table.sort_by("uid")


@given(st.lists(st.one_of(st.none(), st.integers(0, 5))))
def test_one_row_of_every_key_survives_the_first(keys):
    table = pairs(*((f"http://h/{row}", "x") for row in range(len(keys))))
    judged = first_of_key(table, pa.array(keys, pa.int64()), UrlReason.DUPLICATE_URL, "copies")
    assert judged.drop_columns(["copies", "verdict"]).equals(table)
    assert judged.schema.field("verdict").type == VERDICT
    assert judged.schema.field("copies").type == pa.int32()
    uids = [uid.hex() for uid in table["uid"].to_pylist()]
    for row, (key, copies, verdict) in enumerate(
        zip(keys, judged["copies"].to_pylist(), judged["verdict"].to_pylist(), strict=True)
    ):
        assert copies == (1 if key is None else keys.count(key))
        first = row if key is None else keys.index(key)
        assert (verdict is None) == (first == row)
        if verdict:
            assert verdict["evidence"] == uids[first]
            assert (verdict["value"], verdict["threshold"]) == (copies, 1.0)


def test_bytes_can_be_keys_and_chunks_make_no_difference():
    table = pairs(("a", "1"), ("b", "2"), ("c", "3"))
    key = pa.array([b"x" * 32, b"y" * 32, b"x" * 32], pa.binary(32))
    whole = first_of_key(table, key, UrlReason.DUPLICATE_URL, "image_copies")
    sliced = pa.concat_tables([table[:1], table[1:]])
    chunked = pa.chunked_array([key[:2], key[2:]])
    assert first_of_key(sliced, chunked, UrlReason.DUPLICATE_URL, "image_copies").equals(whole)
    assert whole["image_copies"].to_pylist() == [2, 1, 2]


def test_pairs_of_one_address_are_one_and_the_reason_tells_whether_the_caption_differs():
    table = pairs(
        ("http://example.com/a.jpg", "an apple"),
        ("https://www.example.com/a.jpg", "an apple"),
        ("http://example.com/a.jpg?utm_source=x", "something else"),
        ("http://example.com/b.jpg", "an apple"),
    )
    judged = url_dedup(table, UrlDedupParams())
    assert sorted(judged["url_copies"].to_pylist()) == [1, 3, 3, 3]
    kept = [row for row in judged.to_pylist() if row["verdict"] is None]
    assert len(kept) == 2
    survivor = next(row for row in kept if row["url_copies"] == 3)
    for row in judged.to_pylist():
        if row["verdict"]:
            same = row["caption"] == survivor["caption"]
            assert row["verdict"]["reason"] == ("duplicate_pair" if same else "duplicate_url")
            assert row["verdict"]["evidence"] == survivor["uid"].hex()


def test_the_same_pair_seen_twice_is_a_duplicate_pair():
    judged = url_dedup(pairs(*[("http://h/a.jpg", "x")] * 3), UrlDedupParams())
    reasons = [verdict and verdict["reason"] for verdict in judged["verdict"].to_pylist()]
    assert reasons == [None, "duplicate_pair", "duplicate_pair"]


@pytest.mark.parametrize("rows", [(), (("http://h/a", "x"),)])
def test_tables_without_duplicates_pass(rows):
    judged = url_dedup(pairs(*rows), UrlDedupParams())
    assert judged["verdict"].null_count == len(rows)
    assert isinstance(UrlReason.DUPLICATE_URL, enum.Enum)
