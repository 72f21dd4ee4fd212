"""Training and evaluation: scores with interval and chance, and the surest errors."""

from tests.support.html import Document
from tests.support.reports import ReportedBuild


def test_scores_come_with_interval_and_chance(built: ReportedBuild, page: Document) -> None:
    headline = page.panels[""]
    assert "75.0 %\n" in headline
    assert "2.2 x chance; 95 %: 46.8 % to 91.1 %" in headline
    assert "5.0 x chance; 95 %: 40.0 % to 60.0 %" in headline
    assert "9.9 M\n" in page.panels["training"]
    errors = page.panels["evaluation"].split("The surest errors, 3 of 3:")[1].split()
    assert errors.index("s11") < errors.index("s10") < errors.index("s09")
    assert errors[errors.index("s11") + 1 :][:2] == ["cow", "ant"]
    assert built.report.summary["evaluation"][0]["ci95"]["acc1"]["low"] == 0.4676
