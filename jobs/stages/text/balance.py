"""`balance`: at most about t pairs per query."""

from curation.queries import balance
from pipeline.stage import Map, Output, RowsSide, RowsTask, Stage


def _balance(task: RowsTask[balance.BalanceParams]) -> Output:
    return Output(balance.balance(task.table, task.result("counts").table(), task.params))


STAGE = Stage(
    name="balance",
    version=1,
    summary="At most about t pairs per query: keep each by a coin that is a hash of its uid",
    params=balance.BalanceParams,
    shape=Map(_balance),
    needs=balance.NEEDS,
    adds=balance.ADDS,
    reasons=balance.BalanceReason,
    sides={"counts": RowsSide("count", "pairs of each query", needs=balance.COUNTS)},
)
