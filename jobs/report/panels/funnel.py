"""The funnel: what every stage kept and dropped, as bars and as exact counts."""

from jobs.report import charts
from jobs.report.charts import Bar, Segment, share
from jobs.report.page import Charts, Panel, Table, Text
from jobs.report.panels.timings import timed
from jobs.report.rows import by_count
from jobs.report.view import BuildView
from pipeline.dataset.manifest import Manifest
from pipeline.ledger.funnel import FunnelRow

TOP_REASONS = 3
COLUMNS = ("stage", "in", "dropped", "kept", "of candidates", "of its input", "most dropped for")


def funnel_panel(view: BuildView) -> Panel:
    """What every stage kept and dropped, as bars and as exact counts."""
    rows = view.funnel
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
        [_bar(row, view.manifest(row.stage), first) for row in rows],
        legend,
    )
    total = f"{last:,} kept + {first - last:,} dropped = {first:,} candidates."
    return Panel("funnel", "Funnel", [Charts([picture]), Text(total), _table(view)])


def _bar(row: FunnelRow, manifest: Manifest, first: int) -> Bar:
    whole = max(first, 1)
    damages = manifest.damages()
    segments = [Segment(row.rows_kept / whole, "kept", f"kept: {row.rows_kept:,}")]
    choices: list[Segment] = []
    lost: list[Segment] = []
    for reason, number in by_count(row.reasons):
        title = f"{manifest.label(reason)}: {number:,}"
        if reason in damages:
            lost.append(Segment(number / whole, "damage", title))
        else:
            tone = f"choice{min(len(choices), TOP_REASONS)}"
            choices.append(Segment(number / whole, tone, title))
    return Bar(
        row.stage, [*segments, *choices, *lost], f"{row.rows_kept:,}", share(row.share_of_first)
    )


def _table(view: BuildView) -> Table:
    body = []
    for row in view.funnel:
        cells = [
            row.stage,
            f"{row.rows_in:,}",
            f"{row.rows_dropped:,}",
            f"{row.rows_kept:,}",
            share(row.share_of_first),
            share(row.share_of_input),
            _top_reasons(row, view.manifest(row.stage)),
        ]
        body.append(cells)
    return timed(Table(COLUMNS, "lrrrrrl", body), [row.stage for row in view.funnel], view)


def _top_reasons(row: FunnelRow, manifest: Manifest) -> str:
    ranked = by_count(row.reasons)
    named = [f"{manifest.label(name)} {number:,}" for name, number in ranked[:TOP_REASONS]]
    rest = sum(number for _, number in ranked[TOP_REASONS:])
    return "; ".join([*named, *([f"{len(ranked) - TOP_REASONS} more {rest:,}"] if rest else [])])
