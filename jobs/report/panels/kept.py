"""The panel on what was kept: a draw of the pairs, with their pictures once these are packed."""

from collections.abc import Sequence

from jobs.report.page import Card, Cards, Panel, Text
from jobs.report.panels.cards import caption, clipped, host_of
from jobs.report.rows import Drawn, draw
from jobs.report.view import BuildView
from pipeline.store.result import Result

KEPT = 48
QUERIES = 3
SIDE = 160
"""Longest side of a picture, in pixels."""


def kept_panel(view: BuildView) -> Panel | None:
    """A draw of the pairs that were kept."""
    kept = view.kept
    if kept is None or not kept.manifest.rows_kept:
        return None
    drawn = draw(kept, "parquet", KEPT)[""]
    packed = any("tar" in part.files for part in kept.manifest.parts)
    cards = [_card(view, kept, row, packed) for row in drawn]
    shown = f"{len(cards)} of {kept.manifest.rows_kept:,} pairs, drawn by a hash of their uids."
    return Panel("kept", "What was kept", [Text(shown), Cards(cards, small=packed)])


def _card(view: BuildView, kept: Result, drawn: Drawn, packed: bool) -> Card:
    row = drawn.row
    facts = [("host", host_of(row))]
    if row.get("language"):
        facts.append(("language", row["language"]))
    if row.get("query_ids") and view.queries:
        facts.append(("queries", _names(view.queries, row["query_ids"])))
    picture = view.pictures.packed(kept, drawn, SIDE) if packed else None
    blank = "no preview" if packed and picture is None else ""
    return Card(caption(row), facts, row["uid"].hex(), picture, blank)


def _names(queries: Sequence[str], ids: Sequence[int]) -> str:
    """The longest queries of a row, which say most, and how many more there are."""
    names = [queries[number] for number in ids if number < len(queries)]
    names.sort(key=lambda name: (-len(name), name))
    more = f" and {len(names) - QUERIES} more" if len(names) > QUERIES else ""
    return clipped(", ".join(names[:QUERIES]), 80) + more
