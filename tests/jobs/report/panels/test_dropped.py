"""Dropped pairs: every reason in words, with rows and pictures."""

from pipeline.dataset.verdict import Reason
from tests.support.html import Document
from tests.support.reports import CATALOGUE, ReportedBuild


def test_every_reason_is_shown_with_label_hint_count_and_rows(
    built: ReportedBuild, page: Document
) -> None:
    text = page.panels["dropped"]
    for name, dataset in built.datasets.items():
        reasons = {str(reason): reason for reason in CATALOGUE[name].reasons or ()}
        for reason, count in dataset.manifest.reasons.items():
            member = reasons[reason]
            assert isinstance(member, Reason)
            assert f"{member.label}\n" in text
            assert member.hint in text
            assert f"\n{count:,} (" in text
    assert text.count("damage\n") == 2, "time-outs and broken pictures, nothing else"
    assert "0.1 against a bound of 0.5; de\n" in text
    assert "404; HTTP 404\n" in text


def test_dropped_pictures_are_shown_where_they_can_be_decoded(
    built: ReportedBuild, page: Document
) -> None:
    reasons = built.manifest("image-rules").reasons
    assert set(reasons) == {"undecodable", "too_small"}
    copies = built.manifest("image-dedup").reasons
    shown = [reasons["too_small"], *copies.values()]
    assert len(page.pictures["dropped"]) == sum(min(6, count) for count in shown)
    assert "no preview" in page.panels["dropped"]
    assert "no picture came" in page.panels["dropped"]
