"""`count`: how many pairs match each query."""

from collections.abc import Iterable

import pyarrow as pa

from curation.queries import balance
from pipeline.dataset.params import Params
from pipeline.stage import FilesSide, Fold, RowsTask, Stage


def _count(task: RowsTask[Params]) -> pa.Table:
    return balance.count(task.table, len(task.files("queries").lines()))


def _merge(tables: Iterable[pa.Table], params: Params) -> pa.Table:
    return balance.merge_counts(tables)


STAGE = Stage(
    name="count",
    version=1,
    summary="How many pairs match each query",
    params=Params,
    shape=Fold(_count, _merge),
    needs=balance.COUNT_NEEDS,
    adds=balance.COUNTS,
    conserves=False,
    sides={"queries": FilesSide("queries", "the list that captions were matched against")},
)
