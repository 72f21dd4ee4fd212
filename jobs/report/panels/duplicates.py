"""The panel on duplicates: a few rows that were kept beside the copies that gave way to them."""

from collections import defaultdict
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from jobs.report.page import Card, Cards, Heading, Panel, Piece
from jobs.report.panels.cards import COPIES, host_of, pair_card
from jobs.report.pictures import Pictures
from jobs.report.rows import Row, draw, read, rows_of
from jobs.report.view import BuildView
from pipeline.store.result import Result

CLUSTERS = 6
SIBLINGS = 3
_UID_DIGITS = 32
_COLUMNS = (
    *("uid", "url", "caption", "evidence", "value", "width", "height"),
    *("pool_part", "pool_offset", "pool_size"),
)


def duplicates_panel(view: BuildView) -> Panel | None:
    """A few survivors beside the copies that gave way to them."""
    pieces: list[Piece] = []
    for name in view.line:
        dataset = view.datasets[name]
        if COPIES.intersection(dataset.manifest.reasons):
            pieces += [Heading(name), *_clusters(dataset, view.pictures)]
    return Panel("duplicates", "Duplicates", pieces) if pieces else None


def _clusters(dataset: Result, pictures: Pictures) -> list[Cards]:
    """The drawn clusters, the largest first."""
    copies = _copies(dataset)
    survivors = rows_of(dataset, copies)
    return [
        _cluster(survivors[uid].row, copies[uid], pictures)
        for uid in sorted(copies, key=lambda uid: (-len(copies[uid]), uid))
        if uid in survivors
    ]


def _copies(dataset: Result) -> dict[bytes, list[Row]]:
    """Copies by survivor: all copies of the survivors that a few drawn copies gave way to."""
    drawn = draw(dataset, "dropped", 4 * CLUSTERS, by="reason")
    named = [
        copy.row["evidence"] for reason in sorted(COPIES & drawn.keys()) for copy in drawn[reason]
    ]
    chosen = [uid for uid in dict.fromkeys(named) if uid and len(uid) == _UID_DIGITS][:CLUSTERS]
    wanted = pa.array(chosen, pa.string())
    groups: dict[bytes, list[Row]] = defaultdict(list)
    for part in dataset.manifest.parts:
        if "dropped" in part.files:
            table = read(dataset, part, "dropped", _COLUMNS)
            for row in table.filter(pc.is_in(table["evidence"], value_set=wanted)).to_pylist():
                groups[bytes.fromhex(row["evidence"])].append(row)
    return groups


def _cluster(survivor: Row, copies: Sequence[Row], pictures: Pictures) -> Cards:
    shown = [_copy_card(survivor, pictures, f"kept, of {len(copies) + 1:,}")]
    shown += [_copy_card(row, pictures, "gave way") for row in copies[:SIBLINGS]]
    return Cards(shown)


def _copy_card(row: Row, pictures: Pictures, mark: str) -> Card:
    size = f"{row['width']} x {row['height']}" if row.get("width") else ""
    facts = [("size", size)] if size else []
    return pair_card(row, [*facts, ("host", host_of(row))], pictures, mark)
