"""The life of one row: what every stage did with it, and on what evidence.

Read from manifests and ledgers; no stage is run again. Columns are shown by their names, whatever
they mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.dataset.errors import UserError
from pipeline.dataset.uid import UID_DIGITS
from pipeline.dataset.verdict import LEDGER_FIELDS
from pipeline.ledger.lineage import main_line
from pipeline.store.objects import Store
from pipeline.store.refs import Ref
from pipeline.store.result import Result

LONG_URL = 1_000


@dataclass(frozen=True)
class Event:
    """What a stage did with one row: what it changed or added, and its verdict if it dropped it."""

    stage: str
    kept: bool
    changes: Mapping[str, object]
    reason: str | None = None
    value: float | None = None
    threshold: float | None = None
    evidence: str | None = None


@dataclass(frozen=True)
class Life:
    """The events of one row, in order; the last one tells whether it is still there."""

    uid: str
    url: str
    events: Sequence[Event]


def why(ref: Ref, store: Store, target: str) -> list[Life]:
    """The lives of the rows with this uid (32 hex digits) or URL.

    Raises UserError with the closest URLs if there are none.
    """
    line = main_line(ref, store)
    first = next(iter(line.values()), None)
    if first is None:
        raise UserError(f"{ref.name} has no finished stage that passes rows on")
    is_uid = len(target) == UID_DIGITS and set(target) <= set("0123456789abcdef")
    column, value = ("uid", bytes.fromhex(target)) if is_uid else ("url", target)
    tables = [rows for rows in first.find(column, value) if rows is not None]
    if not tables and len(target) > LONG_URL:
        tables = _cut_short(first, target)
    if not tables:
        raise UserError(
            f"no candidate of {ref.name} has the {column} {target}{_hint(first, target)}"
        )
    uids = sorted({uid for rows in tables for uid in rows["uid"].to_pylist()})
    return [_life(line, uid) for uid in uids]


def _cut_short(first: Result, target: str) -> list[pa.Table]:
    """The dropped rows whose URL is the beginning of the target: absurd ones are cut when kept."""
    tables = []
    for rows in first.dropped():
        matches = [
            len(url) > LONG_URL and target.startswith(url) for url in rows["url"].to_pylist()
        ]
        if any(matches):
            tables.append(rows.filter(pa.array(matches)))
    return tables


def _hint(first: Result, target: str) -> str:
    needle = target.split("://")[-1].split("#")[0].rstrip("/")
    tables = [first.table(["url"]), *first.dropped(["url"])]
    urls = sorted({url for table in tables for url in table["url"].to_pylist() if needle in url})
    return f"; did you mean {', '.join(urls[:3])}?" if urls and needle else ""


def _life(line: Mapping[str, Result], uid: bytes) -> Life:
    """What every stage did with a uid; a row seen several times has several events in a stage."""
    events: list[Event] = []
    before: Mapping[str, Any] = {}
    for name, dataset in line.items():
        kept, dropped = dataset.find("uid", uid)
        records = [*_records(dropped), *_records(kept)]
        for event in (_event(name, before, record) for record in records):
            if event not in events:
                events.append(event)
        before = records[-1] if records else before
    return Life(uid.hex(), str(before.get("url", "")), events)


def _records(rows: pa.Table | None) -> list[dict[str, Any]]:
    return [] if rows is None else rows.to_pylist()


def _event(stage: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Event:
    verdict = {name: after[name] for name in LEDGER_FIELDS if name in after}
    changes = {
        name: value
        for name, value in after.items()
        if name not in LEDGER_FIELDS and value is not None and before.get(name) != value
    }
    return Event(stage, not verdict, changes, **verdict)
