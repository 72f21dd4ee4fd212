"""Rows for the report: the same draw of the same content."""

import numpy as np
import pyarrow as pa

from jobs.report.rows import draw
from pipeline.dataset.uid import keyed_uniform
from tests.support.reports import ReportedBuild


def test_rows_shown_are_those_with_the_smallest_hashes_of_all_parts(built: ReportedBuild) -> None:
    dropped = pa.concat_tables(built.datasets["language"].dropped())
    coins = keyed_uniform(0, "report", dropped["uid"])
    uids = dropped["uid"].to_pylist()
    expected = [uids[row] for row in np.argsort(coins)[:6].tolist()]
    drawn = draw(built.datasets["language"], "dropped", 6, by="reason")
    assert [each.row["uid"] for each in drawn["other_language"]] == expected
    assert len({each.part.index for each in drawn["other_language"]}) == 2
