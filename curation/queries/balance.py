"""Balancing: how often every query occurs, and a coin for each pair so that none prevails.

A query with c pairs keeps each with probability min(1, t/c); a pair is kept if any of its queries
keeps it, P = 1 - prod(1 - p), as MetaCLIP's independent draws do. The coin is a hash of the pair,
so a smaller t takes a subset and pairs elsewhere change nothing. Xu et al. 2023, arXiv:2309.16671.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from pipeline.dataset.column import Column, put, schema_of
from pipeline.dataset.params import Params
from pipeline.dataset.schema import COUNT, KEEP_PROBABILITY, QUERY_ID, QUERY_IDS, UID
from pipeline.dataset.uid import keyed_uniform
from pipeline.dataset.verdict import Judge, Reason

COUNT_NEEDS: tuple[Column, ...] = (QUERY_IDS,)
COUNTS: tuple[Column, ...] = (QUERY_ID, COUNT)
NEEDS: tuple[Column, ...] = (UID, QUERY_IDS)
ADDS: tuple[Column, ...] = (KEEP_PROBABILITY,)


class BalanceReason(Reason):
    """Why a matched pair is left out."""

    OVER_REPRESENTED = (
        "over_represented",
        "enough pairs of its queries were taken",
        "a larger t takes more pairs of frequent queries",
    )


class BalanceParams(Params):
    """The cap and the seed of the coins."""

    t: int = Field(20_000, ge=1)
    """Pairs that a query may bring in by itself, in expectation."""
    seed: int = 0
    """Another seed draws another, independent sample."""


def count(table: pa.Table, num_queries: int) -> pa.Table:
    """The number of pairs per query: columns `COUNTS`, one row per query, in order.

    Raises ValueError if `query_ids` names a query beyond `num_queries`.
    """
    _, ids = _csr(table)
    _check(ids, num_queries)
    return _counts(np.bincount(ids, minlength=num_queries))


def merge_counts(tables: Iterable[pa.Table]) -> pa.Table:
    """The sum of counts over the same queries; associative and commutative."""
    merged = [np.asarray(table["count"], dtype=np.int64) for table in tables]
    if len({len(counts) for counts in merged}) != 1:
        raise ValueError("counts to merge must be one or more, and of the same number of queries")
    return _counts(np.sum(merged, axis=0))


def balance(table: pa.Table, counts: pa.Table, params: BalanceParams) -> pa.Table:
    """Adds `keep_probability` (float32) and `verdict`.

    A dropped pair's value is its coin, its threshold P, its evidence the most frequent query's id.
    """
    offsets, ids = _csr(table)
    per_query = np.asarray(counts["count"], dtype=np.float64)
    _check(ids, len(per_query))
    pass_over = 1.0 - np.minimum(1.0, params.t / np.maximum(per_query, 1.0))
    probability = 1.0 - _per_row(np.multiply, pass_over[ids], offsets, empty=1.0)
    coin = keyed_uniform(params.seed, "balance", table["uid"])
    dropped = coin >= probability
    rounded = pa.array(probability, KEEP_PROBABILITY.type)
    judge = Judge(put(table, {KEEP_PROBABILITY: rounded}))
    evidence = _most_frequent(offsets, ids, per_query, dropped)
    judge.drop(dropped, BalanceReason.OVER_REPRESENTED, coin, probability, evidence)
    return judge.table()


def _csr(table: pa.Table) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """`query_ids` as offsets, shape (rows + 1,), into a flat array of ids, as in a CSR matrix.

    A null list counts as an empty one.
    """
    lists = table["query_ids"].combine_chunks()
    ids = np.asarray(lists.flatten(), dtype=np.int64)
    lengths = np.asarray(lists.value_lengths().fill_null(0), dtype=np.int64)
    return np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64), ids


def _check(ids: npt.NDArray[np.int64], num_queries: int) -> None:
    if len(ids) and ids.max() >= num_queries:
        raise ValueError(
            f"query_ids holds {ids.max()}, but there are {num_queries} queries: the pairs were "
            "matched against another list; match them again or give the counts of that list"
        )


def _counts(counts: npt.NDArray[np.int64]) -> pa.Table:
    ids = pa.array(np.arange(len(counts)), QUERY_ID.type)
    return pa.table([ids, pa.array(counts, COUNT.type)], schema=schema_of(COUNTS))


def _per_row(
    operation: np.ufunc,
    values: npt.NDArray[np.float64],
    offsets: npt.NDArray[np.int64],
    empty: float,
) -> npt.NDArray[np.float64]:
    """The operation over every row's values; `reduceat` alone would misread rows without any."""
    result = np.full(len(offsets) - 1, empty)
    filled = np.flatnonzero(np.diff(offsets))
    if len(filled):
        result[filled] = operation.reduceat(values, offsets[filled])
    return result


def _most_frequent(
    offsets: npt.NDArray[np.int64],
    ids: npt.NDArray[np.int64],
    per_query: npt.NDArray[np.float64],
    mask: npt.NDArray[np.bool_],
) -> npt.NDArray[np.object_]:
    """For every row of the mask, the id of its most frequent query (the least of several) as text;
    None for the others.
    """
    rows = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    within = mask[rows]
    rows, ids = rows[within], ids[within]
    order = np.lexsort((ids, -per_query[ids], rows))
    first, at = np.unique(rows[order], return_index=True)
    result = np.full(len(offsets) - 1, None, dtype=object)
    result[first] = ids[order][at].astype(str)
    return result
