"""The column of seconds, in tables that have one row per stage."""

from collections.abc import Sequence

from jobs.report.page import Table
from jobs.report.view import BuildView


def timed(table: Table, stages: Sequence[str], view: BuildView) -> Table:
    """The table with the seconds that each row's stage took, where the view knows them."""
    if view.timings is None:
        return table
    seconds = [view.timings.get(stage) for stage in stages]
    cells = ["" if value is None else f"{value:,.1f}" for value in seconds]
    rows = [[*row, cell] for row, cell in zip(table.rows, cells, strict=True)]
    return Table([*table.columns, "seconds"], table.align + "r", rows)
