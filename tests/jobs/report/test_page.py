"""The page: every text is data, nothing is loaded, and the same pieces give the same bytes."""

import base64
from enum import StrEnum
from html.parser import HTMLParser

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from jobs.report import page
from jobs.report.charts import Axis, Series, lines
from jobs.report.page import Card, Cards, Charts, Figure, Fold, Heading, Page, Panel, Table, Text
from pipeline.ledger.funnel import FunnelRow
from pipeline.stage import Map, Output, Stage

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}"


class Elements(HTMLParser):
    """Start tags with their attributes, and all text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.texts.append(data)


def page_of(*pieces) -> Page:
    return Page(EVIL, [(EVIL, EVIL)], [Figure(EVIL, EVIL, EVIL)], [Panel("p", EVIL, pieces)])


def everything(text: str) -> Page:
    cards = [Card(text, [(text, text)], text, b"\xff\xd8", mark=text), Card(text, blank=text)]
    chart = lines(text, [Series(text, [(0, 1), (1, 2)])], Axis(text), Axis(text))
    table = Table([text, text], "lr", [[text, text]])
    fold = Fold(text, text, text, [Text(text)], tag=text)
    return page_of(Text(text), Heading(text), table, Charts([chart]), Cards(cards), fold)


def test_hostile_texts_stay_texts_in_every_kind_of_piece():
    shown = Elements(page.render(everything(EVIL)))
    assert not {"script", "iframe", "object", "form", "base"} & {tag for tag, _ in shown.tags}
    names = {name for _, attributes in shown.tags for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    sources = [attributes["src"] for _, attributes in shown.tags if "src" in attributes]
    assert sources == ["data:image/jpeg;base64," + base64.b64encode(b"\xff\xd8").decode()]
    assert [attributes["href"] for _, attributes in shown.tags if "href" in attributes] == ["#p"]
    assert shown.texts.count(EVIL) >= 20


def test_a_page_forbids_itself_scripts_and_the_network():
    shown = Elements(page.render(page_of()))
    (policy,) = (
        attributes["content"]
        for tag, attributes in shown.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")


def test_control_characters_become_visible():
    html = page.render(page_of(Text("a\x00b\x1bc\x85d\ud800e\tf")))
    assert "a\ufffdb\ufffdc\ufffdd\ufffde\tf" in html
    html.encode()


def test_the_same_pieces_give_the_same_bytes():
    assert page.render(everything("a caption")) == page.render(everything("a caption"))


class Nothing(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Why(StrEnum):
    SHORT = "short"
    BROKEN = "broken"
    label: str
    damage: bool


Why.SHORT.label, Why.SHORT.damage = "too short", False
Why.BROKEN.label, Why.BROKEN.damage = "could not be read", True


def test_the_funnel_shows_the_ledger_and_adds_up():
    stage = Stage("rules", 1, "", Nothing, Map(lambda task: Output(pa.table({}))), Why)
    rows = [
        FunnelRow(
            "rules", 2_000_000, 1_500_000, 500_000, 0.75, 0.75, {"short": 499_990, "broken": 10}
        ),
        FunnelRow("rest", 1_500_000, 1_499_999, 1, 0.7499995, 0.9999993, {"odd": 1}),
    ]
    panel = page.funnel_panel(rows, {"rules": stage}, {"rules": 1.25})
    chart, total, table = panel.pieces
    assert total == Text("1,499,999 kept + 500,001 dropped = 2,000,000 candidates.")
    assert table.rows[0] == [
        "rules",
        "2,000,000",
        "500,000",
        "1,500,000",
        "75.0 %",
        "75.0 %",
        "too short 499,990; could not be read 10",
        "1.2",
    ]
    assert table.rows[1][-2:] == ["odd 1", ""]
    assert (
        '<i class="damage" style="width:0.001%" title="could not be read: 10">' in chart.charts[0]
    )
