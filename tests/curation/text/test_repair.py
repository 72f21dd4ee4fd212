"""Captions: what repair undoes, what it leaves alone, and which captions say nothing."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.text.repair import BOILERPLATE, CaptionParams, CaptionReason, captions, repair
from pipeline.dataset.verdict import VERDICT
from tests.support.verdicts import dropped, on_captions, reasons

NAUGHTY = json.loads((Path(__file__).parent / "data" / "naughty_strings.json").read_text("utf-8"))


judged = on_captions(captions, CaptionParams)


@pytest.mark.parametrize(
    ("raw", "repaired"),
    [
        ("A red apple", "A red apple"),
        ("  A red\n\tapple ", "A red apple"),
        ("A\u00a0red\u3000apple", "A red apple"),
        ("caf\u00c3\u00a9", "caf\u00e9"),
        ("caf\u00c3\u0192\u00c2\u00a9", "caf\u00e9"),
        (
            "The Mona Lisa doesn\u00c3\u00a2\u00e2\u201a\u00ac\u00e2\u201e\u00a2t",
            "The Mona Lisa doesn't",
        ),
        ("salt &amp; pepper", "salt & pepper"),
        ("salt &amp;amp;amp; pepper", "salt & pepper"),
        ("&lt;3 caf&eacute; &#8211; bar", "<3 caf\u00e9 \u2013 bar"),
        ("cafe\u0301", "caf\u00e9"),
        ("re\u00addi\u200bvi\ufeffded", "redivided"),
        ("a\0b\x07c\x81", "abc"),
        ("\u202eevil\u202c", "evil"),
        ("\u201cquoted\u201d", '"quoted"'),
        ("\U0001f469\u200d\U0001f33e farmer", "\U0001f469\u200d\U0001f33e farmer"),
        ("\u6771\u4eac\u30bf\u30ef\u30fc", "\u6771\u4eac\u30bf\u30ef\u30fc"),
        ("\u0915\u094d\u200d\u0937", "\u0915\u094d\u200d\u0937"),
        ("R\u00f6yksopp \u2013 Melody A.M.", "R\u00f6yksopp \u2013 Melody A.M."),
        ("", ""),
    ],
)
def test_repair(raw: str, repaired: str) -> None:
    assert repair(raw) == repaired


@given(
    st.one_of(st.text(), st.sampled_from(NAUGHTY), st.text("&amp;lt#38 \u00c3\u00a9\u00e2\u20ac"))
)
def test_repair_is_idempotent_and_leaves_one_line_without_controls(text: str) -> None:
    repaired = repair(text)
    assert repair(repaired) == repaired
    assert repaired == " ".join(repaired.split())
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in repaired)
    repaired.encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a dog", None),
        ("Cafe", None),
        ("decade", None),
        ("E-mail", None),
        ("printer", None),
        ("iPhone 15", None),
        ("A photo of my dog.jpg at the beach", None),
        ("Company logo of Acme", None),
        ("Visit of the queen, photo by John Smith, www.example.com", None),
        ("\u732b", None),
        ("Route 66", None),
        ("B52", None),
        ("P-51", None),
        ("hamburger", None),
        ("play button", None),
        ("", "empty"),
        (" \n\t", "empty"),
        ("\0\0", "empty"),
        ("\u200b\u00ad", "empty"),
        (None, "empty"),
        ("http://example.com/a.jpg", "url_or_email"),
        ("www.example.com", "url_or_email"),
        ("example.com", "url_or_email"),
        ("mail jane.doe@example.org", "url_or_email"),
        ("see https://example.com/some/long/path", "url_or_email"),
        ("IMG_2034.jpg", "file_name"),
        ("IMG 2034", "file_name"),
        ("DSC00012", "file_name"),
        ("_MG_1234.CR2.jpeg", "file_name"),
        ("1f600.png", "file_name"),
        ("Screenshot 2020-01-31 at 10.11.12", "file_name"),
        ("Screenshot_20200131-101112.png", "file_name"),
        ("P1010023", "file_name"),
        ("image (3)", "file_name"),
        ("d41d8cd98f00b204e9800998ecf8427e", "file_name"),
        ("550e8400-e29b-41d4-a716-446655440000", "file_name"),
        ("my-red-apple.webp", "file_name"),
        ("Logo", "boilerplate"),
        ("[Image]", "boilerplate"),
        ("CLICK TO ENLARGE!", "boilerplate"),
        ("No image available.", "boilerplate"),
        ("12:30", "no_letters"),
        ("***", "no_letters"),
        ("\U0001f600", "no_letters"),
    ],
)
def test_captions_that_say_nothing_are_turned_away(text: str | None, expected: str | None) -> None:
    assert reasons(judged(text)) == [expected]


def test_the_link_share_is_the_verdict_s_value_and_its_bound_a_parameter() -> None:
    text = "me@example.org me"
    [verdict] = dropped(judged(text))
    assert (verdict["value"], verdict["threshold"]) == (0.875, 0.5)
    assert judged(text, max_link_share=0.9)["verdict"].to_pylist() == [None]


def test_the_raw_caption_is_there_only_where_repair_changed_it() -> None:
    table = judged("a dog", " a  dog ", None)
    assert table["caption"].to_pylist() == ["a dog", "a dog", ""]
    assert table["raw_caption"].to_pylist() == [None, " a  dog ", None]


def test_boilerplate_is_written_as_it_is_compared() -> None:
    assert all(phrase == repair(phrase).casefold() for phrase in BOILERPLATE)
    assert all(reasons(judged(*sorted(BOILERPLATE))))


@given(st.lists(st.one_of(st.none(), st.text(), st.sampled_from(NAUGHTY))))
def test_rows_are_conserved_and_reasons_closed_for_any_text(texts: list[str | None]) -> None:
    table = judged(*texts)
    assert table["row"].to_pylist() == list(range(len(texts)))
    assert table.schema.field("verdict").type == VERDICT
    assert table.schema.names == ["row", "caption", "raw_caption", "verdict"]
    for text, verdict in zip(
        table["caption"].to_pylist(), table["verdict"].to_pylist(), strict=True
    ):
        assert verdict is None or verdict["reason"] in set(CaptionReason)
        assert verdict is not None or text
