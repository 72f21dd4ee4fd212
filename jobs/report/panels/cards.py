"""Cards of pairs, as the panels on dropped, kept and duplicate pairs show them."""

from collections.abc import Mapping, Sequence

import pyarrow as pa

from jobs.report.page import Card
from jobs.report.pictures import Pictures
from jobs.report.rows import Row, hosts

SIDE = 96
"""Longest side of a picture on a card, in pixels."""
COPIES = frozenset({"duplicate_image", "near_duplicate"})
"""Reasons whose evidence is the uid of the row that was kept instead."""
_MAX_TEXT = 240


def pair_card(
    row: Row, facts: Sequence[tuple[str, str]], pictures: Pictures, mark: str = ""
) -> Card:
    """The card of a row whose picture, if it has one, lies in the pool."""
    fetched = pictures.pool is not None and "pool_part" in row
    picture = pictures.fetched(row, SIDE)
    missing = "no picture came" if row.get("pool_part") is None else "no preview"
    blank = missing if fetched and picture is None else ""
    return Card(caption(row), facts, row["uid"].hex(), picture, blank, mark)


def caption(row: Row) -> str:
    """The caption as a card has room for it."""
    return clipped(row.get("caption") or "(no caption)", _MAX_TEXT)


def host_of(row: Mapping[str, object]) -> str:
    """The host of a row's URL."""
    return str(hosts(pa.chunked_array([[row.get("url")]], pa.string()))[0])


def clipped(text: str, length: int) -> str:
    """The text, cut off with dots where it is too long."""
    return text if len(text) <= length else text[: length - 3] + "..."
