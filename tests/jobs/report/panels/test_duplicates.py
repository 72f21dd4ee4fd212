"""Duplicates: copies beside the row that was kept."""

import pyarrow as pa

from tests.support.html import Document
from tests.support.reports import ReportedBuild


def test_copies_stand_beside_the_row_they_gave_way_to(built: ReportedBuild, page: Document) -> None:
    dropped = pa.concat_tables(built.datasets["image-dedup"].dropped())
    survivors = set(dropped["evidence"].to_pylist())
    shown = [uid for uid in survivors if f"\n{uid}\n" in page.panels["duplicates"]]
    assert shown
    assert page.panels["duplicates"].count("kept, of ") == len(shown)
    assert page.panels["duplicates"].count("gave way") >= len(shown)
