"""Panels that show pairs: what was dropped and why, what was kept, and which copies gave way.

A handful of each, the same ones every time. What the numbers add up to is not told here.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pyarrow as pa
import pyarrow.compute as pc

from jobs.report.charts import number, share
from jobs.report.page import Card, Cards, Fold, Heading, Panel, Piece, Text
from jobs.report.rows import Build, Drawn, Pictures, Row, draw, hosts, read, rows_of
from pipeline.dataset.manifest import Manifest
from pipeline.stage import Stage
from pipeline.store.result import Result

SAMPLES = 6
KEPT = 48
CLUSTERS = 6
SIBLINGS = 3
QUERIES = 3
SIDE, KEPT_SIDE = 96, 160
_MAX_TEXT, _MAX_URL = 240, 160
_MAX_EVIDENCE = 120
_COPIES = {"duplicate_image", "near_duplicate"}
_GIVES_WAY = {*_COPIES, "duplicate_url", "duplicate_pair"}
_UID_DIGITS = 32


def dropped_panel(build: Build, pictures: Pictures) -> Panel:
    """Every reason of every stage, with a few of the rows that it took."""
    pieces: list[Piece] = []
    manifests = {name: build.datasets[name].manifest for name in build.line}
    most = max((n for each in manifests.values() for n in each.reasons.values()), default=0)
    for name, manifest in manifests.items():
        if not manifest.rows_dropped:
            continue
        taken = f"{name}: {manifest.rows_dropped:,} of {manifest.rows_in:,} dropped"
        folds = _reasons(build, name, pictures)
        opened = max(manifest.reasons.values()) == most
        pieces += [Heading(taken), replace(folds[0], opened=opened), *folds[1:]]
    told = Text(
        f"Up to {SAMPLES} rows of each reason, drawn by a hash of their uids. openwit why tells "
        "the whole life of a pair from its uid or its URL."
    )
    title = "Why pairs were dropped"
    return Panel("dropped", title, [told, *pieces] if pieces else [Text("Nothing was dropped.")])


def _reasons(build: Build, name: str, pictures: Pictures) -> list[Fold]:
    dataset, stage = build.datasets[name], build.stages.get(name)
    samples = draw(dataset, "dropped", SAMPLES, by="reason")
    ranked = sorted(dataset.manifest.reasons.items(), key=lambda item: (-item[1], item[0]))
    return [
        _reason(build, dataset.manifest, stage, reason, samples[reason], pictures)
        for reason, _ in ranked
    ]


def _reason(
    build: Build,
    manifest: Manifest,
    stage: Stage | None,
    reason: str,
    samples: Sequence[Drawn],
    pictures: Pictures,
) -> Fold:
    taken = manifest.reasons[reason]
    member = next(
        (each for each in (stage.reasons if stage else None) or () if each == reason), None
    )
    title = stage.label(reason) if stage else reason
    cards = [_dropped_card(build, drawn.row, pictures) for drawn in samples]
    return Fold(
        title=title,
        value=f"{taken:,} ({share(taken / max(1, manifest.rows_in))} of the stage's input)",
        note=str(getattr(member, "hint", "")),
        pieces=[Cards(cards)],
        tag="damage" if stage and reason in stage.damages() else "",
    )


def _dropped_card(build: Build, row: Row, pictures: Pictures) -> Card:
    decision = [text for text in (_decision(row), _evidence(build, row)) if text]
    facts = [("decided by", "; ".join(decision))] if decision else []
    url = clipped(row.get("url") or "(none)", _MAX_URL)
    return _card(row, [*facts, ("URL", url)], pictures)


def _card(row: Row, facts: Sequence[tuple[str, str]], pictures: Pictures, mark: str = "") -> Card:
    fetched = pictures.pool is not None and "pool_part" in row
    picture = pictures.fetched(row, SIDE)
    missing = "no picture came" if row.get("pool_part") is None else "no preview"
    blank = missing if fetched and picture is None else ""
    return Card(_caption(row), facts, row["uid"].hex(), picture, blank, mark)


def _decision(row: Row) -> str:
    value, threshold = row.get("value"), row.get("threshold")
    if value is None:
        return ""
    return number(value) + ("" if threshold is None else f" against a bound of {number(threshold)}")


def _evidence(build: Build, row: Row) -> str:
    """The evidence in words: a balanced pair's is the number of its most frequent query."""
    evidence: str = row.get("evidence") or ""
    if row.get("reason") == "over_represented" and build.queries and evidence.isdecimal():
        query = int(evidence)
        return f'query "{build.queries[query]}"' if query < len(build.queries) else evidence
    if row.get("reason") in _GIVES_WAY:
        return f"gave way to {evidence}"
    return clipped(evidence, _MAX_EVIDENCE)


def kept_panel(build: Build, pictures: Pictures) -> Panel | None:
    """A draw of the pairs that were kept."""
    kept = build.kept
    if kept is None or not kept.manifest.rows_kept:
        return None
    drawn = draw(kept, "parquet", KEPT)[""]
    packed = any("tar" in part.files for part in kept.manifest.parts)
    cards = [_kept_card(build, kept, each, pictures, packed) for each in drawn]
    shown = f"{len(cards)} of {kept.manifest.rows_kept:,} pairs, drawn by a hash of their uids."
    return Panel("kept", "What was kept", [Text(shown), Cards(cards, small=packed)])


def _kept_card(build: Build, kept: Result, drawn: Drawn, pictures: Pictures, packed: bool) -> Card:
    row = drawn.row
    facts = [("host", host_of(row))]
    if row.get("language"):
        facts.append(("language", row["language"]))
    if row.get("query_ids") and build.queries:
        facts.append(("queries", _names(build.queries, row["query_ids"])))
    picture = pictures.packed(kept, drawn, KEPT_SIDE) if packed else None
    blank = "no preview" if packed and picture is None else ""
    return Card(_caption(row), facts, row["uid"].hex(), picture, blank)


def _names(queries: Sequence[str], ids: Sequence[int]) -> str:
    """The longest queries of a row, which say most, and how many more there are."""
    names = [queries[each] for each in ids if each < len(queries)]
    names.sort(key=lambda name: (-len(name), name))
    more = f" and {len(names) - QUERIES} more" if len(names) > QUERIES else ""
    return clipped(", ".join(names[:QUERIES]), 80) + more


def duplicates_panel(build: Build, pictures: Pictures) -> Panel | None:
    """A few survivors beside the copies that gave way to them."""
    pieces: list[Piece] = []
    for name in build.line:
        dataset = build.datasets[name]
        if not _COPIES.intersection(dataset.manifest.reasons):
            continue
        groups = _clusters(dataset)
        survivors = rows_of(dataset, groups)
        pieces.append(Heading(name))
        for uid in sorted(groups, key=lambda each: (-len(groups[each]), each)):
            if uid in survivors:
                pieces.append(_cluster(survivors[uid].row, groups[uid], pictures))
    return Panel("duplicates", "Duplicates", pieces) if pieces else None


def _clusters(dataset: Result) -> dict[bytes, list[Row]]:
    """Copies by survivor: all copies of the survivors that a few drawn copies gave way to."""
    drawn = draw(dataset, "dropped", 4 * CLUSTERS, by="reason")
    named = [
        each.row["evidence"] for reason in sorted(_COPIES & drawn.keys()) for each in drawn[reason]
    ]
    chosen = [each for each in dict.fromkeys(named) if each and len(each) == _UID_DIGITS][:CLUSTERS]
    wanted = pa.array(chosen, pa.string())
    groups: dict[bytes, list[Row]] = defaultdict(list)
    columns = ("uid", "url", "caption", "evidence", "value", "width", "height")
    for part in dataset.manifest.parts:
        if "dropped" in part.files:
            places = ("pool_part", "pool_offset", "pool_size")
            table = read(dataset, part, "dropped", (*columns, *places))
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
    return _card(row, [*facts, ("host", host_of(row))], pictures, mark)


def host_of(row: Mapping[str, object]) -> str:
    """The host of a row's URL."""
    return str(hosts(pa.chunked_array([[row.get("url")]], pa.string()))[0])


def _caption(row: Row) -> str:
    return clipped(row.get("caption") or "(no caption)", _MAX_TEXT)


def clipped(text: str, length: int) -> str:
    """The text, cut off with dots where it is too long."""
    return text if len(text) <= length else text[: length - 3] + "..."
