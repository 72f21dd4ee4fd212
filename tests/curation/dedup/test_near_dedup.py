"""Near duplicates: every close pair is found once, and each group keeps its largest picture."""

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.dedup.near_dedup import NearDedupParams, near_dedup
from curation.dedup.neighbours import EDGE_SCHEMA, NeighbourParams, by_chunk, neighbours
from pipeline.dataset.schema import COLOURS
from pipeline.dataset.uid import UID_TYPE
from tests.support.verdicts import uid

BASE = 0x0F1E_2D3C_4B5A_6978


def rows(
    hashes: Sequence[int | None],
    shades: Sequence[int] | None = None,
    sizes: Sequence[tuple[int, int]] | None = None,
    uids: Iterable[int] | None = None,
) -> pa.Table:
    count = len(hashes)
    shades = shades or [0] * count
    sizes = sizes or [(10, 10)] * count
    return pa.table(
        {
            "uid": pa.array([uid(n) for n in uids or range(count)], UID_TYPE),
            "phash": pa.array(hashes, pa.uint64()),
            "colours": pa.array([bytes([s] * 48) for s in shades], COLOURS.type),
            "width": pa.array([w for w, _ in sizes], pa.int32()),
            "height": pa.array([h for _, h in sizes], pa.int32()),
        }
    )


def bucketed(table: pa.Table, buckets: int = 5) -> list[pa.Table]:
    """What an exchange does: rows of one chunk value come to one bucket."""
    tall = by_chunk(table)
    home = tall["chunk_value"].to_numpy() % buckets
    return [tall.filter(pa.array(home == n)) for n in range(buckets)]


def edges_of(table: pa.Table, params: NeighbourParams | None = None) -> pa.Table:
    found = [neighbours(bucket, params or NeighbourParams()) for bucket in bucketed(table)]
    return pa.concat_tables(found)


def pairs(edges: pa.Table) -> list[tuple[int, int, int]]:
    return [
        (int.from_bytes(e["uid_a"], "big"), int.from_bytes(e["uid_b"], "big"), e["distance"])
        for e in edges.to_pylist()
    ]


def close_hashes() -> st.SearchStrategy[list[int]]:
    """Hashes that crowd round a few centres, so that all distances from 0 up occur."""
    flips = st.lists(st.integers(0, 63), max_size=5)
    centre = st.sampled_from([0, BASE, BASE ^ 0b111, (1 << 64) - 1])
    return st.lists(
        st.builds(lambda c, bits: c ^ sum({1 << b for b in bits}), centre, flips),
        max_size=40,
        unique=True,
    )


@settings(deadline=None)
@given(close_hashes(), st.integers(0, 3))
def test_distinct_hashes_pair_as_brute_force_pairs_them(hashes: list[int], distance: int) -> None:
    found = pairs(edges_of(rows(hashes), NeighbourParams(max_distance=distance)))
    brute = [
        (i, j, (hashes[i] ^ hashes[j]).bit_count())
        for i, j in itertools.combinations(range(len(hashes)), 2)
        if (hashes[i] ^ hashes[j]).bit_count() <= distance
    ]
    assert sorted(found) == brute


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from([BASE, BASE ^ 1, BASE ^ 0xF]), st.sampled_from([0, 10, 20, 99])),
        max_size=25,
    )
)
def test_edges_are_true_pairs_reported_once_and_reach_every_colour_group(
    members: list[tuple[int, int]],
) -> None:
    hashes, shades = [m[0] for m in members], [m[1] for m in members]
    found = pairs(edges_of(rows(hashes, shades)))
    assert len({(a, b) for a, b, _ in found}) == len(found)
    for a, b, distance in found:
        assert a < b
        assert distance == (hashes[a] ^ hashes[b]).bit_count() <= 3
        assert abs(shades[a] - shades[b]) <= 16
    linked = {n for a, b, _ in found for n in (a, b)}
    for i, j in itertools.combinations(range(len(members)), 2):
        if members[i] == members[j]:
            assert {i, j} <= linked


def test_copies_of_one_hash_are_chained_and_not_all_paired() -> None:
    count = 30_000
    edges = edges_of(rows([BASE] * count))
    assert edges.num_rows == count - 1
    assert {a for a, _, _ in pairs(edges)} == {0}


def test_a_crowded_chunk_is_searched_without_comparing_all_pairs() -> None:
    draw = np.random.default_rng(0)
    low = draw.integers(0, 1 << 48, 60_000, dtype=np.uint64)
    hashes = np.append(low, low[:1000] ^ np.uint64(0b101)).tolist()
    found = pairs(edges_of(rows(hashes)))
    assert {(n, 60_000 + n, 2) for n in range(1000)} <= set(found)


def test_rows_without_a_hash_take_no_part() -> None:
    assert edges_of(rows([BASE, None, BASE])).num_rows == 1
    assert edges_of(rows([None])).schema == EDGE_SCHEMA


def test_the_order_of_rows_changes_nothing() -> None:
    draw = np.random.default_rng(1)
    hashes = [BASE ^ (1 << int(b)) for b in draw.integers(0, 64, 50)]
    table = rows(hashes, draw.integers(0, 40, 50).tolist())
    shuffled = table.take(pa.array(draw.permutation(50)))
    assert edges_of(table).equals(edges_of(shuffled))


SIZES = [(10, 10), (20, 10), (20, 10), (5, 5), (1, 1), (1, 1)]
CHAIN = [BASE, BASE ^ 0b111, BASE ^ 0b111111, BASE ^ 0b111111111, 0, (1 << 64) - 1]


def judged(table: pa.Table, edges: pa.Table, **params: Any) -> list[dict[str, Any]]:
    result = near_dedup(table, edges, NearDedupParams(**params))
    judged_rows: list[dict[str, Any]] = result.select(["near_copies", "verdict"]).to_pylist()
    return judged_rows


def test_the_largest_of_a_chain_survives_then_the_smallest_uid() -> None:
    table = rows(CHAIN, sizes=SIZES)
    drop = {
        "reason": "near_duplicate",
        "value": 3.0,
        "threshold": 3.0,
        "evidence": uid(1).hex(),
    }
    assert judged(table, edges_of(table)) == [
        {"near_copies": 1, "verdict": drop},
        {"near_copies": 4, "verdict": None},
        {"near_copies": 1, "verdict": drop},
        {"near_copies": 1, "verdict": drop},
        {"near_copies": 1, "verdict": None},
        {"near_copies": 1, "verdict": None},
    ]


def test_a_row_is_judged_alike_whatever_stands_beside_it() -> None:
    table = rows(CHAIN, sizes=SIZES)
    edges = edges_of(table)
    together = judged(table, edges)
    assert [judged(table.slice(n, 1), edges)[0] for n in range(6)] == together


def test_a_smaller_distance_follows_fewer_pairs() -> None:
    table = rows([BASE, BASE ^ 1, BASE ^ 0b1111])
    kept = [row["verdict"] is None for row in judged(table, edges_of(table), max_distance=1)]
    assert kept == [True, False, True]


def test_without_pairs_everything_stays() -> None:
    table = rows([BASE, 0])
    assert [row["near_copies"] for row in judged(table, EDGE_SCHEMA.empty_table())] == [1, 1]


@pytest.mark.parametrize("links", [1, 7, 500])
def test_a_long_chain_is_one_group(links: int) -> None:
    draw = np.random.default_rng(links)
    ends = draw.permutation(links + 1)
    edges = pa.table(
        [
            pa.array([uid(int(n)) for n in ends[:-1]], UID_TYPE),
            pa.array([uid(int(n)) for n in ends[1:]], UID_TYPE),
            pa.array([1] * links, pa.int8()),
            pa.array([7] * links, pa.int64()),
            pa.array([7] * links, pa.int64()),
        ],
        schema=EDGE_SCHEMA,
    )
    result = judged(rows([0] * (links + 1)), edges)
    assert [row["near_copies"] for row in result] == [links + 1] + [1] * links
