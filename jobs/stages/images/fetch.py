"""`fetch`: the pictures of each partition, in a pool tar of its own."""

from pydantic import Field

from curation.fetch import pool
from curation.fetch.network import Network
from pipeline.stage import Execution, Map, Output, RowsTask, Stage


class FetchExecution(Execution):
    """How images are asked for; none of it changes what is asked for."""

    connect_to: str | None = None
    """Connect every host to this one address (host:port) over plain http: a replay server or a
    proxy.
    """
    concurrency: int = Field(default=64, ge=1)
    """Requests in flight in one partition."""
    per_host: int = Field(default=8, ge=1)
    """Requests in flight to one host in one partition."""


def _fetch(task: RowsTask[pool.FetchParams, FetchExecution]) -> Output:
    network = Network(
        connect_to=task.execution.connect_to,
        concurrency=task.execution.concurrency,
        per_host=task.execution.per_host,
    )
    fetched = pool.fetch(task.table, task.params, network, task.index)
    return Output(fetched.table, {"tar": fetched.tar})


STAGE = Stage(
    name="fetch",
    version=1,
    summary="Fetch the images politely and safely into a pool of tars",
    params=pool.FetchParams,
    shape=Map(_fetch),
    needs=pool.NEEDS,
    adds=pool.ADDS,
    reasons=pool.FetchReason,
    files=("tar",),
    execution=FetchExecution,
)
