"""The panel on what was dropped: every reason of every stage, with a few of its rows."""

from collections.abc import Sequence
from dataclasses import replace

from jobs.report.charts import number, share
from jobs.report.page import Card, Cards, Details, Heading, Panel, Piece, Text
from jobs.report.panels.cards import COPIES, clipped, pair_card
from jobs.report.rows import Drawn, Row, by_count, draw
from jobs.report.view import BuildView

SAMPLES = 6
_MAX_URL = 160
_MAX_EVIDENCE = 120
_GIVES_WAY = COPIES | {"duplicate_url", "duplicate_pair"}
_HOW = Text(
    f"Up to {SAMPLES} rows of each reason, drawn by a hash of their uids. openwit why tells "
    "the whole life of a pair from its uid or its URL."
)


def dropped_panel(view: BuildView) -> Panel:
    """Every reason of every stage, with a few of the rows that it took."""
    pieces: list[Piece] = []
    manifests = {name: view.manifest(name) for name in view.line}
    most = max((n for m in manifests.values() for n in m.reasons.values()), default=0)
    for name, manifest in manifests.items():
        if not manifest.rows_dropped:
            continue
        heading = f"{name}: {manifest.rows_dropped:,} of {manifest.rows_in:,} dropped"
        first, *others = _reasons(view, name)
        opened = max(manifest.reasons.values()) == most
        pieces += [Heading(heading), replace(first, opened=opened), *others]
    shown = [_HOW, *pieces] if pieces else [Text("Nothing was dropped.")]
    return Panel("dropped", "Why pairs were dropped", shown)


def _reasons(view: BuildView, name: str) -> list[Details]:
    dataset = view.datasets[name]
    samples = draw(dataset, "dropped", SAMPLES, by="reason")
    return [
        _reason(view, name, reason, samples[reason])
        for reason, _ in by_count(dataset.manifest.reasons)
    ]


def _reason(view: BuildView, name: str, reason: str, samples: Sequence[Drawn]) -> Details:
    manifest = view.manifest(name)
    rows = manifest.reasons[reason]
    return Details(
        title=manifest.label(reason),
        value=f"{rows:,} ({share(rows / max(1, manifest.rows_in))} of the stage's input)",
        note=str(manifest.reason_list.get(reason, {}).get("hint", "")),
        pieces=[Cards([_card(view, drawn.row) for drawn in samples])],
        tag="damage" if reason in manifest.damages() else "",
    )


def _card(view: BuildView, row: Row) -> Card:
    decision = [text for text in (_decision(row), _evidence(view.queries, row)) if text]
    facts = [("decided by", "; ".join(decision))] if decision else []
    url = clipped(row.get("url") or "(none)", _MAX_URL)
    return pair_card(row, [*facts, ("URL", url)], view.pictures)


def _decision(row: Row) -> str:
    value, threshold = row.get("value"), row.get("threshold")
    if value is None:
        return ""
    return number(value) + ("" if threshold is None else f" against a bound of {number(threshold)}")


def _evidence(queries: Sequence[str] | None, row: Row) -> str:
    """The evidence in words: a balanced pair's is the number of its most frequent query."""
    evidence: str = row.get("evidence") or ""
    if row.get("reason") == "over_represented" and queries and evidence.isdecimal():
        query = int(evidence)
        return f'query "{queries[query]}"' if query < len(queries) else evidence
    if row.get("reason") in _GIVES_WAY:
        return f"gave way to {evidence}"
    return clipped(evidence, _MAX_EVIDENCE)
