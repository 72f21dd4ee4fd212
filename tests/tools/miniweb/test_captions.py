"""Captions: the faults that the generator plants are those that `curation` is asked to repair."""

import ftfy
import pytest

from tools.miniweb import captions

CURLY = "The \u201cgrinning face\u201d emoji \u2013 it\u2019s cute"


@pytest.mark.parametrize("times", [1, 2])
def test_mojibake_is_what_ftfy_undoes(times: int) -> None:
    spoiled = captions.mojibake(CURLY, times)
    assert spoiled != CURLY
    assert ftfy.fix_encoding(spoiled) == CURLY


@pytest.mark.parametrize(
    ("name", "article"),
    [("apple", "an apple"), ("cat", "a cat"), ("glasses", "glasses"), ("flag of Chad",) * 2],
)
def test_names_get_the_article_that_english_wants(name: str, article: str) -> None:
    assert captions.article(name) == article
