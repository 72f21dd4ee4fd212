"""`near-dedup`: one pair for every group of pictures that are nearly the same."""

from curation.dedup import near_dedup
from pipeline.dataset import schema
from pipeline.stage import Map, Output, RowsSide, RowsTask, Stage


def _near_dedup(task: RowsTask[near_dedup.NearDedupParams]) -> Output:
    edges = task.result("edges").table()
    return Output(near_dedup.near_dedup(task.table, edges, task.params))


STAGE = Stage(
    name="near-dedup",
    version=1,
    summary="One pair for every cluster of re-encoded and resized copies",
    params=near_dedup.NearDedupParams,
    shape=Map(_near_dedup),
    needs=near_dedup.NEEDS,
    adds=near_dedup.ADDS,
    reasons=near_dedup.NearDedupReason,
    sides={"edges": RowsSide("image-neighbours", "the close pairs", needs=schema.EDGES)},
)
