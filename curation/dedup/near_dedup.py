"""Follows pairs of pictures that are nearly the same into groups, and keeps the largest of each."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import Field

from curation.dedup.survivors import Index, hex_digits
from pipeline.dataset.column import Column, put
from pipeline.dataset.params import Params
from pipeline.dataset.schema import NEAR_COPIES, UID
from pipeline.dataset.uid import uid_words
from pipeline.dataset.verdict import Judge, Reason

NEEDS: tuple[Column, ...] = (UID,)
ADDS: tuple[Column, ...] = (NEAR_COPIES,)


class NearDedupParams(Params):
    """Which pairs are followed."""

    max_distance: int = Field(3, ge=0, le=3)
    """Pairs further apart than this are not followed."""


class NearDedupReason(Reason):
    """Why a picture gives way to another."""

    NEAR_DUPLICATE = "near_duplicate", "nearly the same picture as a larger one"


def near_dedup(table: pa.Table, edges: pa.Table, params: NearDedupParams) -> pa.Table:
    """The rows with `near_copies` and verdicts: one row of every group of close pairs is kept.

    Groups are the connected components of all `edges`, so a row's verdict does not depend on the
    rows beside it. The largest picture survives, and of several the one with the smallest uid; it
    has the size of its group in near_copies and the others have 1. The value of a verdict is the
    distance to the row's closest neighbour, its evidence the survivor's uid in hex.
    """
    edges = edges.filter(pc.less_equal(edges["distance"], params.max_distance))
    uids, survivor, copies, distance = _groups(edges)
    place = pc.index_in(table["uid"], value_set=uids).fill_null(-1).to_numpy()
    linked = place >= 0
    leads = np.append(survivor == np.arange(len(uids)), True)[place]
    named = hex_digits(uids)[survivor]
    near = np.where(leads & linked, np.append(copies, 1)[place], 1)
    judge = Judge(put(table, {NEAR_COPIES: pa.array(near, NEAR_COPIES.type)}))
    judge.drop(
        linked & ~leads,
        NearDedupReason.NEAR_DUPLICATE,
        np.append(distance, np.nan)[place],
        params.max_distance,
        np.array([*named, None], dtype=object)[place],
    )
    return judge.table()


def _groups(edges: pa.Table) -> tuple[pa.Array, Index, Index, npt.NDArray[np.float64]]:
    """The linked uids; for each the survivor's place, its group's size, its closest distance."""
    ends = pa.chunked_array([*edges["uid_a"].chunks, *edges["uid_b"].chunks], UID.type)
    coded = ends.combine_chunks().dictionary_encode()
    uids, node = coded.dictionary, coded.indices.to_numpy().astype(np.intp)
    left, right = node[: edges.num_rows], node[edges.num_rows :]
    distance = np.full(len(uids), np.inf)
    np.minimum.at(distance, node, np.tile(edges["distance"].to_numpy(), 2))
    pixels = np.zeros(len(uids), np.int64)
    pixels[left], pixels[right] = edges["pixels_a"].to_numpy(), edges["pixels_b"].to_numpy()
    group = _components(left, right, len(uids))
    words = uid_words(uids)
    order = np.lexsort((words[:, 1], words[:, 0], -pixels, group))
    heads, size = np.unique(group[order], return_index=True, return_counts=True)[1:]
    survivor, copies = np.empty(len(uids), np.intp), np.empty(len(uids), np.intp)
    survivor[order] = np.repeat(order[heads], size)
    copies[order] = np.repeat(size, size)
    return uids, survivor, copies, distance


def _components(left: Index, right: Index, nodes: int) -> Index:
    """The smallest node of each node's connected component.

    Every node points at a smaller one of its component, or at itself. A round hooks the larger root
    of each edge under the smaller one, then follows pointers, twice as far each time, until all
    point at roots (after Shiloach and Vishkin 1982). One step at a time, a chain would take as many
    passes as it is long.
    """
    parent = np.arange(nodes)
    while (parent[left] != parent[right]).any():
        a, b = parent[left], parent[right]
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while ((above := parent[parent]) != parent).any():
            parent = above
    return parent
