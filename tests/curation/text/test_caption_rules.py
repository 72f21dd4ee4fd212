"""Rules of form: each has its reason, the value it measured and its bound."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.text.caption_rules import CaptionRuleParams, CaptionRuleReason, caption_rules
from pipeline.dataset.verdict import VERDICT
from tests.support.verdicts import dropped, on_captions, only_verdict, reasons

judged = on_captions(caption_rules, CaptionRuleParams)


@pytest.mark.parametrize(
    ("text", "params", "reason", "value", "threshold"),
    [
        ("dog", {}, None, None, None),
        ("New York, New York", {}, None, None, None),
        ("very very good", {}, None, None, None),
        ("\u732b\u3068\u72ac", {}, None, None, None),
        (
            "\u0928\u092e\u0938\u094d\u0924\u0947 \u0926\u0941\u0928\u093f\u092f\u093e",
            {},
            None,
            None,
            None,
        ),
        ("", {}, "too_few_words", 0, 1),
        ("  ", {}, "too_few_words", 0, 1),
        ("red apple", {"min_words": 3}, "too_few_words", 2, 3),
        ("red \u00a0 apple", {"min_words": 3}, "too_few_words", 2, 3),
        ("a " * 300, {}, "too_many_words", 300, 256),
        ("ox", {}, None, None, None),
        ("o", {}, "too_few_chars", 1, 2),
        ("\U0001f469", {}, "too_few_chars", 1, 2),
        ("x" * 2001, {}, "too_many_chars", 2001, 2000),
        ("a-+=*#", {}, "too_many_symbols", 5 / 6, 0.5),
        ("ha" * 20, {}, "chars_repeat", 1 - 2 / 31, 0.5),
        ("big big big BIG", {}, "words_repeat", 0.75, 0.7),
        ("big big big BIG", {"max_word_repetition": 0.8}, None, None, None),
        ("ha" * 20, {"char_ngram": 40}, None, None, None),
        ("A Red-Hot poker", {"blocklist": ("pear", "red hot")}, None, None, None),
        ("A RED\u2010hot poker", {"blocklist": ("pear", "Red-Hot")}, "blocked_word", 1, 0),
        ("redhot", {"blocklist": ("red",)}, None, None, None),
    ],
)
def test_each_rule(
    text: str,
    params: dict[str, Any],
    reason: str | None,
    value: float | None,
    threshold: float | None,
) -> None:
    verdict = only_verdict(judged(text, **params))
    assert (verdict and verdict["reason"]) == reason
    if verdict:
        assert verdict["value"] == pytest.approx(value)
        assert verdict["threshold"] == threshold


def test_the_blocked_phrase_is_the_evidence() -> None:
    verdicts = dropped(judged("a pear", "an apple", blocklist=("apple", "pear")))
    assert [verdict["evidence"] for verdict in verdicts] == ["pear", "apple"]


def test_the_published_datacomp_bounds_can_be_said() -> None:
    """DataComp's basic rule: more than two words and more than five characters."""
    params = {"min_words": 3, "min_chars": 6}
    table = judged("a dog", "a big dog", "a b c", **params)
    assert reasons(table) == ["too_few_words", None, "too_few_chars"]


LOOSEST = {
    "min_words": 0,
    "max_words": 10**9,
    "min_chars": 0,
    "max_chars": 10**9,
    "max_symbol_share": 1,
    "max_char_repetition": 1,
    "max_word_repetition": 1,
}


@given(st.lists(st.one_of(st.none(), st.text())))
def test_rows_are_conserved_and_the_loosest_bounds_drop_nothing(texts: list[str | None]) -> None:
    for params in ({}, LOOSEST):
        table = judged(*texts, **params)
        assert table.drop_columns("verdict").to_pylist() == [
            {"row": row, "caption": text} for row, text in enumerate(texts)
        ]
        assert table.schema.field("verdict").type == VERDICT
    assert table["verdict"].null_count == len(texts)


@given(st.text("ab ", max_size=40), st.integers(1, 4))
def test_character_repetition_is_the_share_of_runs_seen_before(text: str, length: int) -> None:
    runs = [text[i : i + length] for i in range(len(text) - length + 1)]
    expected = 1 - len(set(runs)) / len(runs) if runs else 0.0
    params = LOOSEST | {"char_ngram": length, "max_char_repetition": 0.0}
    verdict = only_verdict(judged(text, **params))
    assert (verdict["value"] if verdict else 0.0) == pytest.approx(expected)
    assert verdict is None or verdict["reason"] == CaptionRuleReason.CHARS_REPEAT.value
