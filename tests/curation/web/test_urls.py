"""Canonical URLs: the spellings that are one image, and those that are not."""

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.web.urls import canonical_url, canonical_urls

KEY = "http://example.com/a.jpg"
SAME = {
    "case of scheme and host": "HTTP://EXAMPLE.com/a.jpg",
    "https": "https://example.com/a.jpg",
    "www": "https://www.example.com/a.jpg",
    "default port": "http://example.com:80/a.jpg",
    "default port of https": "https://example.com:443/a.jpg",
    "empty port": "http://example.com:/a.jpg",
    "trailing dot": "http://example.com./a.jpg",
    "fragment": "http://example.com/a.jpg#top",
    "tracking": "http://example.com/a.jpg?utm_source=x&UTM_Medium=y&fbclid=1&gclid=2",
    "empty query": "http://example.com/a.jpg?",
    "dot segments": "http://example.com/b/../c/.././a.jpg",
    "escaped letters": "http://example.com/%61.jp%67",
    "escaped host": "http://ex%61mple.com/a.jpg",
    "backslashes": "http:\\\\example.com\\a.jpg",
    "white space": " http://exam\nple.com/a.jpg\t",
}


@pytest.mark.parametrize("name", SAME)
def test_spellings_of_one_address_have_one_key(name: str) -> None:
    assert canonical_url(SAME[name]) == KEY


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/A.jpg",
        "http://example.com:8080/a.jpg",
        "http://example.com/a.jpg/",
        "http://example.com/a.jpg?v=1",
        "http://cdn.example.com/a.jpg",
        "http://user@example.com/a.jpg",
        "http://example.com/b//../a.jpg",
        "http://example.com/a%2Fjpg",
    ],
)
def test_other_addresses_have_other_keys(url: str) -> None:
    assert canonical_url(url) != KEY


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("http://b\u00fccher.example/", "http://xn--bcher-kva.example/"),
        ("http://h/\u00e4 b", "http://h/%C3%A4%20b"),
        ("http://h/%c3%a4%20b", "http://h/%C3%A4%20b"),
        ("http://h?b=1&a=2&utm_id=3", "http://h/?b=1&a=2"),
        ("http://h/?a=%7e%2f", "http://h/?a=~%2F"),
        ("http://[::1]:80/x", "http://[::1]/x"),
        ("http://www.com/", "http://www.com/"),
        ("http://h/100%", "http://h/100%25"),
        ("http://h/a/..", "http://h/"),
        ("http://h/a/.", "http://h/a/"),
        ("data:image/png;base64,AA==", "data:image/png;base64,AA=="),
        ("not an address", "not an address"),
        ("", ""),
    ],
)
def test_keys(url: str, key: str) -> None:
    assert canonical_url(url) == key


CHARS = ":/\\?&=#@[]. \t+-_~;aB\u00e4\u00df\uff0e\u3002\u200d\U0001f600"
WORDS = ["http", "HTTPS", "://", "..", "%41", "%2e", "%2F", "::1", "www.", "xn--", "utm_x=1", ":80"]
PIECES = st.sampled_from([*CHARS, *WORDS])


@given(
    st.one_of(
        st.text(),
        st.lists(PIECES).map("".join),
        st.lists(PIECES).map(lambda p: "http://" + "".join(p)),
    )
)
def test_a_key_is_its_own_key_whatever_the_text(url: str) -> None:
    key = canonical_url(url)
    assert canonical_url(key) == key


def test_a_column_has_the_keys_of_its_entries_and_keeps_nulls() -> None:
    urls = [SAME["www"], None, "x", SAME["www"]]
    column = pa.chunked_array([urls[:1], urls[1:]], pa.string())
    keys = canonical_urls(column)
    assert keys.type == pa.string()
    assert keys.to_pylist() == [KEY, None, "x", KEY]
    assert canonical_urls(pa.array([], pa.string())).to_pylist() == []
