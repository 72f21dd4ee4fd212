"""`match`: which queries each caption contains."""

from curation.queries import match
from pipeline.stage import FilesSide, Map, Output, RowsTask, Stage


def _match(task: RowsTask[match.MatchParams]) -> Output:
    return Output(match.match(task.table, task.files("queries").lines(), task.params))


STAGE = Stage(
    name="match",
    version=1,
    summary="Match captions against the query list; drop those that match none",
    params=match.MatchParams,
    shape=Map(_match),
    needs=match.NEEDS,
    adds=match.ADDS,
    reasons=match.MatchReason,
    sides={"queries": FilesSide("queries", "one query per line")},
)
