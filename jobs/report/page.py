"""The page on which a build is looked at: one HTML file that opens from disk and loads nothing.

A page is made of panels and panels of typed pieces (text, figures, tables, charts, cards). The
panels that every build has, its funnel and its manifests, are made here; what captions and pictures
are is not known. The same pieces give the same bytes.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from jobs.report import charts
from jobs.report.charts import Bar, Segment, count, share
from pipeline.ledger.funnel import FunnelRow
from pipeline.stage import Stage
from pipeline.store.result import Result

TOP_REASONS = 3
_UNPRINTABLE = {
    code: "\ufffd"
    for code in (*range(9), 11, *range(14, 32), *range(127, 160), *range(0xD800, 0xE000))
}


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: ClassVar[str] = "text"
    text: str


@dataclass(frozen=True)
class Heading:
    """A heading inside a panel."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Figure:
    """A number that stands for itself: in words, what it counts, what to compare it with."""

    value: str
    label: str
    note: str = ""


@dataclass(frozen=True)
class Figures:
    """Figures side by side."""

    kind: ClassVar[str] = "figures"
    figures: Sequence[Figure]


@dataclass(frozen=True)
class Table:
    """Rows of cells; `align` has a letter a column: l(eft), r(ight, numbers) or c(ode)."""

    kind: ClassVar[str] = "table"
    columns: Sequence[str]
    align: str
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Charts:
    """Charts side by side, made by `jobs.report.charts`."""

    kind: ClassVar[str] = "charts"
    charts: Sequence[Markup]


@dataclass(frozen=True)
class Card:
    """One row of data: its text, named facts, its uid in hex, and a JPEG if it has a picture.

    `blank` says why there is no picture; without it no room is left for one.
    """

    text: str
    facts: Sequence[tuple[str, str]] = ()
    uid: str = ""
    picture: bytes | None = None
    blank: str = ""
    mark: str = ""
    """A word set above the text: what sets this card apart from its neighbours."""

    @property
    def source(self) -> str:
        """The picture as a data URI."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.picture or b'').decode()}"


@dataclass(frozen=True)
class Cards:
    """Cards side by side; `small` ones show a picture and its text."""

    kind: ClassVar[str] = "cards"
    cards: Sequence[Card]
    small: bool = False


@dataclass(frozen=True)
class Fold:
    """Pieces behind a line that opens them; `tag` is set apart in that line."""

    kind: ClassVar[str] = "fold"
    title: str
    value: str
    note: str
    pieces: Sequence["Piece"]
    tag: str = ""
    opened: bool = False


Piece = Text | Heading | Figures | Table | Charts | Cards | Fold


@dataclass(frozen=True)
class Panel:
    """A section of the page; `name` is its anchor."""

    name: str
    title: str
    pieces: Sequence[Piece]


@dataclass(frozen=True)
class Page:
    """A report: its title, what identifies the build, its headline figures and its panels."""

    title: str
    identity: Sequence[tuple[str, str]]
    figures: Sequence[Figure]
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Report:
    """A page as HTML, and the same numbers in plain values."""

    html: str
    summary: Mapping[str, Any]


def render(page: Page) -> str:
    """The page as one HTML document; texts are escaped and control characters made visible."""
    environment = Environment(
        loader=PackageLoader("jobs.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("report.html").render(page=page)
    return html.translate(_UNPRINTABLE)


def funnel_panel(
    rows: Sequence[FunnelRow],
    stages: Mapping[str, Stage],
    seconds: Mapping[str, float] | None = None,
) -> Panel:
    """What every stage kept and dropped, as bars and as exact counts.

    `stages` gives a row's stage by its name in the recipe, for labels; `seconds` adds a column.
    """
    first = rows[0].rows_in if rows else 0
    last = rows[-1].rows_kept if rows else 0
    legend = (
        ("kept", "kept"),
        ("choice0", "turned away by choice, by reason"),
        ("damage", "lost to damage"),
        ("given", "dropped by earlier stages"),
    )
    picture = charts.bars(
        "Rows kept after each stage, and their share of the candidates",
        [_funnel_bar(row, stages.get(row.stage), first) for row in rows],
        legend,
    )
    total = f"{last:,} kept + {first - last:,} dropped = {first:,} candidates."
    table = _funnel_table(rows, stages, seconds)
    return Panel("funnel", "Funnel", [Charts([picture]), Text(total), table])


def _funnel_bar(row: FunnelRow, stage: Stage | None, first: int) -> Bar:
    whole = max(first, 1)
    damages = stage.damages() if stage else frozenset()
    segments = [Segment(row.rows_kept / whole, "kept", f"kept: {row.rows_kept:,}")]
    choices: list[Segment] = []
    lost: list[Segment] = []
    for reason, number in _by_count(row.reasons):
        title = f"{stage.label(reason) if stage else reason}: {number:,}"
        if reason in damages:
            lost.append(Segment(number / whole, "damage", title))
        else:
            tone = f"choice{min(len(choices), TOP_REASONS)}"
            choices.append(Segment(number / whole, tone, title))
    return Bar(
        row.stage, [*segments, *choices, *lost], f"{row.rows_kept:,}", share(row.share_of_first)
    )


def _funnel_table(
    rows: Sequence[FunnelRow],
    stages: Mapping[str, Stage],
    seconds: Mapping[str, float] | None,
) -> Table:
    columns = [
        "stage",
        "in",
        "dropped",
        "kept",
        "of candidates",
        "of its input",
        "most dropped for",
    ]
    align = "lrrrrrl"
    body = []
    for row in rows:
        cells = [
            row.stage,
            f"{row.rows_in:,}",
            f"{row.rows_dropped:,}",
            f"{row.rows_kept:,}",
            share(row.share_of_first),
            share(row.share_of_input),
            _top_reasons(row, stages.get(row.stage)),
        ]
        body.append(cells + ([_seconds(seconds.get(row.stage))] if seconds is not None else []))
    if seconds is not None:
        columns, align = [*columns, "seconds"], align + "r"
    return Table(columns, align, body)


def _top_reasons(row: FunnelRow, stage: Stage | None) -> str:
    ranked = _by_count(row.reasons)
    named = [
        f"{stage.label(name) if stage else name} {number:,}"
        for name, number in ranked[:TOP_REASONS]
    ]
    rest = sum(number for _, number in ranked[TOP_REASONS:])
    return "; ".join([*named, *([f"{len(ranked) - TOP_REASONS} more {rest:,}"] if rest else [])])


def _by_count(reasons: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(reasons.items(), key=lambda item: (-item[1], item[0]))


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def manifest_panel(
    datasets: Mapping[str, Result],
    stages: Mapping[str, Stage],
    upstreams: Mapping[str, str],
    seconds: Mapping[str, float] | None = None,
) -> Panel:
    """Every stage with what identifies it: version, key, content, inputs and parameters."""
    columns, align = ["stage", "version", "parts", "size", "key", "content"], "lrrrcc"
    body, folds = [], []
    for name, dataset in datasets.items():
        manifest = dataset.manifest
        size = sum(ref.size_bytes for part in manifest.parts for ref in part.files.values())
        cells = [
            _named(name, manifest.stage),
            str(manifest.version),
            f"{len(manifest.parts):,}",
            size_in_words(size),
            manifest.key,
            manifest.content,
        ]
        body.append(cells + ([_seconds(seconds.get(name))] if seconds is not None else []))
        folds.append(_details(name, dataset, stages.get(name), upstreams.get(name)))
    if seconds is not None:
        columns, align = [*columns, "seconds"], align + "r"
    return Panel("manifests", "Manifests", [Table(columns, align, body), *folds])


def _named(name: str, stage: str) -> str:
    return name if name == stage else f"{name} ({stage})"


def _details(name: str, dataset: Result, stage: Stage | None, upstream: str | None) -> Fold:
    manifest = dataset.manifest
    rows = [
        ("parameter", field, json.dumps(value, sort_keys=True, ensure_ascii=False))
        for field, value in sorted(manifest.params.items())
    ]
    for side, content in sorted(manifest.inputs.items()):
        named = f"{side} ({upstream})" if side == "upstream" and upstream else side
        rows.append(("input", named, content))
    rows.append(("ledger", "", manifest.ledger))
    summary = stage.summary if stage else ""
    table = Table(["", "name", "value"], "llc", rows)
    return Fold(_named(name, manifest.stage), "", summary, [table])


def size_in_words(size: int) -> str:
    """Bytes for people: 812 B, 34.0 KB, 1.2 GB."""
    for unit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB")):
        if size >= unit:
            return f"{size / unit:,.1f} {name}"
    return f"{count(size)} B"
