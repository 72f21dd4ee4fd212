"""The funnel: what every stage kept and dropped, and that it adds up."""

from collections.abc import Mapping

from jobs.report.page import Charts, Table, Text
from jobs.report.panels.funnel import funnel_panel
from jobs.report.view import BuildView
from pipeline.dataset.manifest import Manifest
from pipeline.ledger.funnel import FunnelRow
from pipeline.store.objects import Store
from pipeline.store.result import Result

REASONS = {
    "short": {"label": "too short", "hint": "", "damage": False},
    "broken": {"label": "could not be read", "hint": "", "damage": True},
}


def finished(store: Store, stage: str, reason_list: Mapping[str, Mapping[str, object]]) -> Result:
    """A stage of which nothing but its manifest is there."""
    manifest = Manifest(
        stage=stage,
        stage_version=1,
        key="",
        params={},
        inputs={},
        conserves=True,
        content_digest="",
        ledger_digest="",
        rows_in=0,
        rows_kept=0,
        rows_dropped=0,
        reasons={},
        parts=(),
        reason_list=reason_list,
    )
    store.put(f"{stage}/key/manifest.json", manifest.to_json().encode())
    return Result(store, f"{stage}/key")


def test_the_funnel_shows_the_ledger_and_adds_up() -> None:
    store = Store("memory://funnel")
    datasets = {"rules": finished(store, "rules", REASONS), "rest": finished(store, "rest", {})}
    rows = [
        FunnelRow(
            "rules", 2_000_000, 1_500_000, 500_000, 0.75, 0.75, {"short": 499_990, "broken": 10}
        ),
        FunnelRow("rest", 1_500_000, 1_499_999, 1, 0.7499995, 0.9999993, {"odd": 1}),
    ]
    panel = funnel_panel(BuildView("small", datasets, rows, {}, timings={"rules": 1.25}))
    chart, total, table = panel.pieces
    assert isinstance(chart, Charts) and isinstance(table, Table)
    assert total == Text("1,499,999 kept + 500,001 dropped = 2,000,000 candidates.")
    assert list(table.rows[0]) == [
        "rules",
        "2,000,000",
        "500,000",
        "1,500,000",
        "75.0 %",
        "75.0 %",
        "too short 499,990; could not be read 10",
        "1.2",
    ]
    assert list(table.rows[1][-2:]) == ["odd 1", ""]
    assert (
        '<i class="damage" style="width:0.001%" title="could not be read: 10">' in chart.charts[0]
    )
