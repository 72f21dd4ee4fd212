"""Exact duplicates: the first of every key survives, and the others name it."""

import enum

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.dedup.url_dedup import UrlDedupParams, UrlReason, url_dedup
from pipeline.dataset.verdict import VERDICT
from tests.support.tables import pair_uids


def pairs(*rows: tuple[str, str]) -> pa.Table:
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
def test_one_row_of_every_key_survives_the_first(keys: list[int | None]) -> None:
    urls = [None if key is None else f"http://h/{key}" for key in keys]
    table = pairs(*((f"http://h/{row}", "x") for row in range(len(keys))))
    table = table.set_column(1, "url", pa.array(urls, pa.string()))
    judged = url_dedup(table, UrlDedupParams())
    assert judged.drop_columns(["url_copies", "verdict"]).equals(table)
    assert judged.schema.field("verdict").type == VERDICT
    assert judged.schema.field("url_copies").type == pa.int32()
    uids = [uid.hex() for uid in table["uid"].to_pylist()]
    for row, (key, copies, verdict) in enumerate(
        zip(keys, judged["url_copies"].to_pylist(), judged["verdict"].to_pylist(), strict=True)
    ):
        assert copies == (1 if key is None else keys.count(key))
        first = row if key is None else keys.index(key)
        assert (verdict is None) == (first == row)
        if verdict:
            assert verdict["evidence"] == uids[first]
            assert (verdict["value"], verdict["threshold"]) == (copies, 1.0)


def test_chunks_make_no_difference() -> None:
    table = pairs(("http://h.io/a", "1"), ("http://h.io/b", "2"), ("http://www.h.io/a", "3"))
    whole = url_dedup(table, UrlDedupParams())
    chunked = pa.concat_tables([table[:1], table[1:]])
    assert url_dedup(chunked, UrlDedupParams()).equals(whole)
    assert sorted(whole["url_copies"].to_pylist()) == [1, 2, 2]


def test_the_order_of_rows_changes_no_verdict() -> None:
    table = pairs(*((f"http://h/{row % 4}", f"{row % 3}") for row in range(12)))
    order = pa.array([5, 0, 11, 3, 9, 1, 7, 2, 10, 4, 8, 6])
    shuffled = url_dedup(table.take(order), UrlDedupParams())
    assert shuffled.equals(url_dedup(table, UrlDedupParams()).take(order))


def test_pairs_of_one_address_are_one_and_the_reason_tells_whether_the_caption_differs() -> None:
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


def test_the_same_pair_seen_twice_is_a_duplicate_pair() -> None:
    judged = url_dedup(pairs(*[("http://h/a.jpg", "x")] * 3), UrlDedupParams())
    reasons = [verdict and verdict["reason"] for verdict in judged["verdict"].to_pylist()]
    assert reasons == [None, "duplicate_pair", "duplicate_pair"]


@pytest.mark.parametrize("rows", [(), (("http://h/a", "x"),)])
def test_tables_without_duplicates_pass(rows: tuple[tuple[str, str], ...]) -> None:
    judged = url_dedup(pairs(*rows), UrlDedupParams())
    assert judged["verdict"].null_count == len(rows)
    assert isinstance(UrlReason.DUPLICATE_URL, enum.Enum)
