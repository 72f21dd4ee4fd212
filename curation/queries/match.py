"""Which queries a caption contains: substring matching as in MetaCLIP, one pass for all queries."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from curation.queries.automaton import Mode, matcher
from pipeline.dataset.column import Column, put
from pipeline.dataset.params import Params
from pipeline.dataset.schema import CAPTION, QUERY_IDS
from pipeline.dataset.verdict import Judge, Reason

NEEDS: tuple[Column, ...] = (CAPTION,)
ADDS: tuple[Column, ...] = (QUERY_IDS,)


class MatchReason(Reason):
    """Why a caption is not taken."""

    NO_QUERY = "no_query", "the caption contains none of the queries"


class MatchParams(Params):
    """How a caption and a query are compared."""

    mode: Mode = "normalized"
    """`metaclip`: as published, case-sensitive. `normalized`: in any case, marks set apart."""


def match(table: pa.Table, queries: Sequence[str], params: MatchParams) -> pa.Table:
    """Adds `query_ids` (list<uint32>, sorted and distinct indices into `queries`) and `verdict`."""
    query_ids = matcher(queries, params.mode).match(table["caption"].to_pylist())
    none = np.diff(np.asarray(query_ids.offsets)) == 0
    judge = Judge(put(table, {QUERY_IDS: query_ids}))
    judge.drop(none, MatchReason.NO_QUERY, 0.0, 1.0)
    return judge.table()
