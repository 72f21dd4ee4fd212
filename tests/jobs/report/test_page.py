"""The page: every text is data, nothing is loaded, and the same pieces give the same bytes."""

import base64

from jobs.report import page
from jobs.report.charts import Axis, Series, lines
from jobs.report.page import (
    Card,
    Cards,
    Charts,
    Details,
    Figure,
    Heading,
    Panel,
    Piece,
    ReportPage,
    Table,
    Text,
)
from tests.support.html import Elements

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}"


def page_of(*pieces: Piece) -> ReportPage:
    return ReportPage(EVIL, [(EVIL, EVIL)], [Figure(EVIL, EVIL, EVIL)], [Panel("p", EVIL, pieces)])


def everything(text: str) -> ReportPage:
    cards = [Card(text, [(text, text)], text, b"\xff\xd8", mark=text), Card(text, blank=text)]
    chart = lines(text, [Series(text, [(0, 1), (1, 2)])], Axis(text), Axis(text))
    table = Table([text, text], "lr", [[text, text]])
    details = Details(text, text, text, [Text(text)], tag=text)
    return page_of(Text(text), Heading(text), table, Charts([chart]), Cards(cards), details)


def test_hostile_texts_stay_texts_in_every_kind_of_piece() -> None:
    shown = Elements(page.render(everything(EVIL)))
    assert not {"script", "iframe", "object", "form", "base"} & {tag for tag, _ in shown.tags}
    names = {name for _, attributes in shown.tags for name in attributes}
    assert not [name for name in names if name.startswith("on")]
    sources = [attributes["src"] for _, attributes in shown.tags if "src" in attributes]
    assert sources == ["data:image/jpeg;base64," + base64.b64encode(b"\xff\xd8").decode()]
    assert [attributes["href"] for _, attributes in shown.tags if "href" in attributes] == ["#p"]
    assert shown.texts.count(EVIL) >= 20


def test_a_page_forbids_itself_scripts_and_the_network() -> None:
    shown = Elements(page.render(page_of()))
    (policy,) = (
        attributes["content"]
        for tag, attributes in shown.tags
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none'; img-src data:; style-src 'unsafe-inline'")


def test_control_characters_become_visible() -> None:
    html = page.render(page_of(Text("a\x00b\x1bc\x85d\ud800e\tf")))
    assert "a\ufffdb\ufffdc\ufffdd\ufffde\tf" in html
    html.encode()


def test_the_same_pieces_give_the_same_bytes() -> None:
    assert page.render(everything("a caption")) == page.render(everything("a caption"))
