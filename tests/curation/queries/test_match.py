"""Matching: the automaton finds what a search for every query by itself would find."""

import unicodedata

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.queries.automaton import Mode, matcher, normalized
from curation.queries.match import MatchParams, match
from pipeline.dataset.verdict import VERDICT


def ids(text: str | None, queries: list[str], mode: Mode = "normalized") -> list[int]:
    table = pa.table({"caption": pa.array([text], pa.string())})
    matched: list[int] = match(table, queries, MatchParams(mode=mode))["query_ids"][0].as_py()
    return matched


@pytest.mark.parametrize(
    ("text", "query", "metaclip", "normal"),
    [
        ("a dog", "dog", True, True),
        ("dog", "dog", True, True),
        ("dogs", "dog", False, False),
        ("hotdog", "dog", False, False),
        ("a dog, a cat", "dog", True, True),
        ("a dog\tand\na cat", "dog and", True, True),
        ("New York!", "New York", True, True),
        # What the published rule misses, as its text says.
        ("Barack Obama", "barack obama", False, True),
        ("a (dog)", "dog", False, True),
        ('the "dog"', "dog", False, True),
        ("dog-friendly", "dog", False, True),
        ("St. Louis at night", "St. Louis", False, True),
        ("hot  dog", "hot dog", False, True),
        ("don\u2019t", "don't", False, True),
        ("\u201cdog\u201d", "dog", False, True),
        ("\uff24\uff4f\uff47", "dog", False, True),
        ("STRASSE", "stra\u00dfe", False, True),
        ("Spider\u2011Man", "Spider-Man", False, True),
        ("C++ & C#", "c++", False, True),
        ("caf\u00e9", "cafe", False, False),
    ],
)
def test_what_matches(text: str, query: str, metaclip: bool, normal: bool) -> None:
    assert ids(text, [query], "metaclip") == [0] * metaclip
    assert ids(text, [query], "normalized") == [0] * normal


def published(text: str, queries: list[str]) -> list[int]:
    """The published rule by itself: pad, space out seven marks, look for each padded entry."""
    text = f" {text} ".replace("\t", " ").replace("\n", " ")
    for mark in ",.;:?!`":
        text = text.replace(mark, f" {mark} ")
    return [i for i, query in enumerate(queries) if f" {query} " in text]


def brute_force(text: str, queries: list[str]) -> list[int]:
    text = f" {normalized(text)} "
    spaced = [normalized(query) for query in queries]
    return [i for i, query in enumerate(spaced) if query and f" {query} " in text]


TEXTS = st.one_of(st.text(), st.text("aB .,-'\u2019\t()"))
QUERIES = st.lists(st.one_of(st.text(max_size=3), st.text("aB .-", max_size=3)), max_size=20)


@given(TEXTS, QUERIES)
def test_the_automaton_agrees_with_a_search_for_each_query(text: str, queries: list[str]) -> None:
    assert ids(text, queries, "metaclip") == published(text, queries)
    assert ids(text, queries, "normalized") == brute_force(text, queries)


@given(st.text())
def test_normalization_is_idempotent_and_leaves_marks_alone_between_single_spaces(
    text: str,
) -> None:
    once = normalized(text)
    assert normalized(once) == once
    assert once == " ".join(once.split())
    for word in once.split():
        assert len(word) == 1 or not any(unicodedata.category(c)[0] in "PS" for c in word)


def test_queries_that_are_equal_after_normalization_all_match_and_empty_ones_never() -> None:
    assert ids("a dog .", ["Dog", "", "dog", " ", "DOG."]) == [0, 2, 4]


@given(st.lists(st.one_of(st.none(), TEXTS)), QUERIES)
def test_rows_are_conserved_and_those_without_a_query_dropped(
    texts: list[str | None], queries: list[str]
) -> None:
    table = pa.table({"caption": pa.array(texts, pa.string())})
    matched = match(table, queries, MatchParams())
    assert matched.drop_columns(["query_ids", "verdict"]).equals(table)
    assert matched.schema.field("query_ids").type == pa.list_(pa.uint32())
    assert matched.schema.field("verdict").type == VERDICT
    for found, verdict in zip(
        matched["query_ids"].to_pylist(), matched["verdict"].to_pylist(), strict=True
    ):
        assert found == sorted(set(found))
        assert (verdict is None) == bool(found)
        assert verdict is None or verdict["reason"] == "no_query"


def test_an_automaton_is_built_once_for_each_list_and_mode() -> None:
    queries = ["dog", "cat"]
    assert matcher(queries, "normalized") is matcher(list(queries), "normalized")
    assert matcher(queries, "normalized") is not matcher(queries, "metaclip")
    assert matcher(queries, "normalized") is not matcher(["dogc", "at"], "normalized")
