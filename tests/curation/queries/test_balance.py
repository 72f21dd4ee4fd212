"""Balancing: nested, order-free, exact below the cap, and of the size that the formula promises."""

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.queries.balance import BalanceParams, balance, count, merge_counts
from pipeline.dataset.verdict import VERDICT
from tests.support.tables import pair_uids

RNG = np.random.default_rng(7)
NUM_QUERIES = 300


def pairs(lists: list[list[int] | None], start: int = 0) -> pa.Table:
    urls = [f"http://h/{start + row}" for row in range(len(lists))]
    return pa.table(
        {
            "uid": pair_uids(urls, [""] * len(urls)),
            "query_ids": pa.array(lists, pa.list_(pa.uint32())),
        }
    )


def zipf_pairs(rows: int) -> pa.Table:
    drawn = RNG.zipf(1.3, size=(rows, 4)) - 1
    return pairs([sorted(set(row[row < NUM_QUERIES])) or [0] for row in drawn])


POOL = zipf_pairs(20_000)
COUNTS = count(POOL, NUM_QUERIES)


def kept(table: pa.Table, counts: pa.Table, **params: Any) -> set[bytes]:
    judged = balance(table, counts, BalanceParams(**params))
    rows = zip(judged["uid"].to_pylist(), judged["verdict"].to_pylist(), strict=True)
    return {uid for uid, verdict in rows if verdict is None}


def test_counts_are_the_pairs_of_every_query_in_order() -> None:
    table = count(pairs([[0, 2], [2], [], None, [3, 2]]), 5)
    assert table.schema == pa.schema([("query_id", pa.uint32()), ("count", pa.int64())])
    assert table["query_id"].to_pylist() == [0, 1, 2, 3, 4]
    assert table["count"].to_pylist() == [1, 0, 3, 1, 0]


@given(st.lists(st.integers(0, 20_000), max_size=4))
def test_counts_of_parts_add_up_to_the_count_of_the_whole(cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), 20_000]
    parts = [POOL[a:b] for a, b in pairwise(edges)]
    assert merge_counts(count(part, NUM_QUERIES) for part in parts).equals(COUNTS)


def test_counts_of_other_lists_are_refused() -> None:
    with pytest.raises(ValueError, match="matched against another list"):
        count(pairs([[5]]), 5)
    with pytest.raises(ValueError, match="matched against another list"):
        balance(pairs([[5]]), count(pairs([]), 5), BalanceParams())
    with pytest.raises(ValueError, match="same number of queries"):
        merge_counts([COUNTS, count(pairs([]), 5)])
    with pytest.raises(ValueError, match="one or more"):
        merge_counts([])


def test_nothing_is_dropped_where_no_query_is_over_its_cap() -> None:
    most = max(COUNTS["count"].to_pylist())
    assert len(kept(POOL, COUNTS, t=most)) == POOL.num_rows
    judged = balance(POOL, COUNTS, BalanceParams(t=most))
    assert set(judged["keep_probability"].to_pylist()) == {1.0}


def test_every_pair_of_a_rare_query_is_kept() -> None:
    t = 40
    rare = {i for i, c in enumerate(COUNTS["count"].to_pylist()) if c <= t}
    sample = kept(POOL, COUNTS, t=t)
    for row in POOL.to_pylist():
        if rare.intersection(row["query_ids"]):
            assert row["uid"] in sample


def test_a_smaller_cap_takes_a_subset() -> None:
    samples = [kept(POOL, COUNTS, t=t) for t in (5, 10, 50, 200, 1000)]
    for smaller, larger in pairwise(samples):
        assert smaller < larger


def test_pairs_elsewhere_change_no_coin() -> None:
    alone = balance(POOL[100:200], COUNTS, BalanceParams(t=20))
    together = balance(POOL, COUNTS, BalanceParams(t=20))
    assert alone.equals(together[100:200].combine_chunks())
    reordered = POOL.take(pa.array(np.random.default_rng(0).permutation(POOL.num_rows)))
    assert kept(reordered, COUNTS, t=20) == kept(POOL, COUNTS, t=20)


def test_more_pairs_of_a_query_only_make_its_pairs_rarer() -> None:
    more = merge_counts([COUNTS, count(pairs([[1]] * 500, start=10**6), NUM_QUERIES)])
    assert kept(POOL, more, t=20) < kept(POOL, COUNTS, t=20)


@pytest.mark.parametrize("seed", range(5))
def test_the_sample_is_as_large_as_its_probabilities_say(seed: int) -> None:
    judged = balance(POOL, COUNTS, BalanceParams(t=20, seed=seed))
    p = np.asarray(judged["keep_probability"], float)
    deviation = judged["verdict"].null_count - p.sum()
    assert abs(deviation) < 4 * np.sqrt((p * (1 - p)).sum())


def test_other_seeds_draw_other_samples() -> None:
    assert kept(POOL, COUNTS, t=20, seed=0) != kept(POOL, COUNTS, t=20, seed=1)


def test_the_probability_is_that_of_any_query_keeping_the_pair() -> None:
    counts = pa.table({"query_id": [0, 1, 2], "count": [40, 20, 5]})
    judged = balance(pairs([[0], [1], [0, 1], [0, 2], []]), counts, BalanceParams(t=10))
    expected = [0.25, 0.5, 1 - 0.75 * 0.5, 1.0, 0.0]
    assert judged["keep_probability"].to_pylist() == pytest.approx(expected)
    assert judged.schema.field("keep_probability").type == pa.float32()


def test_the_verdict_tells_the_coin_the_probability_and_the_commonest_query() -> None:
    judged = balance(POOL, COUNTS, BalanceParams(t=5))
    assert judged.schema.field("verdict").type == VERDICT
    sizes = COUNTS["count"].to_pylist()
    dropped = [row for row in judged.to_pylist() if row["verdict"]]
    assert len(dropped) > 1000
    for row in dropped:
        verdict = row["verdict"]
        assert verdict["reason"] == "over_represented"
        assert verdict["value"] >= verdict["threshold"]
        assert verdict["threshold"] == pytest.approx(row["keep_probability"], rel=1e-6)
        commonest = max(row["query_ids"], key=lambda i: (sizes[i], -i))
        assert verdict["evidence"] == str(commonest)


@given(st.lists(st.one_of(st.none(), st.lists(st.integers(0, 9), unique=True))), st.integers(1, 9))
def test_rows_are_conserved_for_any_lists(lists: list[list[int] | None], t: int) -> None:
    table = pairs(lists)
    judged = balance(table, count(table, 10), BalanceParams(t=t))
    assert judged.drop_columns(["keep_probability", "verdict"]).equals(table)
    for found, verdict in zip(lists, judged["verdict"].to_pylist(), strict=True):
        assert found or verdict is not None
