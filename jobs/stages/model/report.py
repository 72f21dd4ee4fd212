"""`report`: one page and one summary of the whole build, as its last stage."""

import json

import pyarrow as pa

from jobs.report import compose
from jobs.stages.model.common import json_bytes
from pipeline.dataset import schema
from pipeline.dataset.column import schema_of
from pipeline.dataset.params import Params
from pipeline.inputs import Files
from pipeline.ledger.lineage import wiring
from pipeline.stage import Output, Stage, Whole, WholeTask
from pipeline.store.result import Result


class ReportParams(Params):
    """What the report says of itself."""

    title: str = "openwit"
    """The heading."""


def _report(task: WholeTask[ReportParams]) -> Output:
    results = {name: side for name, side in task.sides.items() if isinstance(side, Result)}
    page = compose.render(task.params.title, results, wiring(results), _queries(task))
    figures = pa.table(
        [pa.array([json.dumps(page.summary, sort_keys=True)])],
        schema=schema_of([schema.REPORT_JSON]),
    )
    return Output(figures, {"html": page.html.encode(), "json": json_bytes(page.summary)})


def _queries(task: WholeTask[ReportParams]) -> tuple[str, ...] | None:
    queries = task.sides.get("queries")
    return queries.lines() if isinstance(queries, Files) else None


STAGE = Stage(
    name="report",
    version=2,
    summary="One HTML page and one JSON summary of the whole build",
    params=ReportParams,
    shape=Whole(_report),
    adds=(schema.REPORT_JSON,),
    conserves=False,
    files=("html", "json"),
    sees_all=True,
)
