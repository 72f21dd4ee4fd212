"""HTML: which URL and which caption a page gives to each of its images."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from curation.web.images import images, largest_candidate

PAGE = "https://example.com/dir/page.html"


def found(body: str, url: str = PAGE, charset: str | None = None) -> list[tuple[str, str]]:
    return [(image.url, image.caption) for image in images(body.encode(), url, charset)]


def only_url(body: str) -> str:
    [(url, _)] = found(body)
    return url


@pytest.mark.parametrize(
    ("src", "url"),
    [
        ("a.jpg", "https://example.com/dir/a.jpg"),
        ("/a.jpg", "https://example.com/a.jpg"),
        ("../a.jpg", "https://example.com/a.jpg"),
        ("//cdn.example.net/a.jpg", "https://cdn.example.net/a.jpg"),
        ("http://other.example/a.jpg?w=1&amp;h=2", "http://other.example/a.jpg?w=1&h=2"),
        (" a.jpg\n", "https://example.com/dir/a.jpg"),
        ("my photo.jpg", "https://example.com/dir/my%20photo.jpg"),
        ("data:image/png;base64,AAAA", "data:image/png;base64,AAAA"),
        ("http://[bad/a.jpg", "http://[bad/a.jpg"),
        ("", ""),
    ],
)
def test_an_address_is_resolved_as_a_browser_would_and_kept_if_it_cannot_be(
    src: str, url: str
) -> None:
    assert only_url(f'<img src="{src}" alt=x>') == url


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ("/assets/", "https://example.com/assets/a.jpg"),
        ("https://cdn.example.net/x/", "https://cdn.example.net/x/a.jpg"),
    ],
)
def test_base_href_is_honoured(base: str, url: str | None) -> None:
    assert only_url(f'<head><base href="{base}"><base href="/2nd/"></head><img src=a.jpg>') == url


@pytest.mark.parametrize(
    "tag",
    [
        '<img src="data:image/gif;base64,R0lGOD" data-src=real.jpg>',
        "<img data-src=real.jpg>",
        "<img src=/img/placeholder.gif data-original=real.jpg>",
        "<img src=1x1.png data-lazy-src=real.jpg>",
        "<img src=spacer.gif data-lazy=real.jpg>",
        '<img src="about:blank" data-src=real.jpg>',
        '<img srcset="small.jpg 320w, real.jpg 1280w, mid.jpg 640w">',
        '<img src=loading.svg data-srcset="small.jpg 1x, real.jpg 2x">',
        '<picture><source srcset="real.jpg"><img></picture>',
        '<picture><source srcset="small.jpg 1x, real.jpg 3x"><img src=blank.gif></picture>',
        "<img src=lazy.gif><noscript><img src=real.jpg></noscript>",
        "<picture><img src=lazy.gif></picture><noscript><img src=real.jpg></noscript>",
        "<img data-src=real.jpg><noscript><img src=real.jpg></noscript>",
        "<img src=real.jpg data-src=other.jpg srcset='large.jpg 2x'>",
        "<img src=blank.gif data-src=spacer.gif srcset='real.jpg'>",
    ],
)
def test_lazy_images_have_the_url_that_would_be_loaded(tag: str) -> None:
    assert only_url(tag) == "https://example.com/dir/real.jpg"


def test_a_placeholder_stays_where_there_is_nothing_else() -> None:
    assert only_url("<img src=placeholder.png>").endswith("/placeholder.png")


def test_a_noscript_image_of_its_own_is_an_image_of_its_own() -> None:
    body = "<div><img src=a.jpg alt=a></div><p>text</p><noscript><img src=b.jpg alt=b></noscript>"
    assert [caption for _, caption in found(body)] == ["a", "b"]


def test_the_fallback_lends_its_caption() -> None:
    body = "<img src=lazy.gif><noscript><img src=real.jpg alt='a red apple'></noscript>"
    assert found(body) == [("https://example.com/dir/real.jpg", "a red apple")]


@pytest.mark.parametrize(
    ("srcset", "url"),
    [
        ("a.jpg", "a.jpg"),
        ("a.jpg 1x, b.jpg 2x", "b.jpg"),
        ("a.jpg 320w,b.jpg 640w", "b.jpg"),
        ("a.jpg, b.jpg 1.5x", "b.jpg"),
        ("/w_300,h_200/a.jpg 300w, /w_600,h_400/a.jpg 600w", "/w_600,h_400/a.jpg"),
        ("a.jpg 2x, b.jpg 2x", "a.jpg"),
        (" , a.jpg 2x ,", "a.jpg"),
        ("", None),
        (" , ,", None),
    ],
)
def test_the_largest_candidate_of_a_srcset(srcset: str, url: str | None) -> None:
    assert largest_candidate(srcset) == url


@pytest.mark.parametrize(
    ("tag", "caption", "source"),
    [
        ("<img src=a alt='An apple' title=t>", "An apple", "alt"),
        ("<img src=a alt='' title='A pear'>", "A pear", "title"),
        ("<img src=a alt=' ' title='A pear'>", "A pear", "title"),
        (
            "<figure><a><img src=a></a><figcaption>A <b>ripe</b>\n plum</figcaption></figure>",
            "A ripe plum",
            "figcaption",
        ),
        ("<img src=a aria-label='A fig'>", "A fig", "aria-label"),
        ("<img src=a>", "", "alt"),
        ("<img src=a alt='&lt;3 &amp; &eacute;'>", "<3 & \u00e9", "alt"),
        ("<img src=a alt='  two  spaces '>", "  two  spaces ", "alt"),
    ],
)
def test_the_caption_and_where_it_was_found(tag: str, caption: str, source: str) -> None:
    [image] = images(tag.encode(), PAGE, None)
    assert (image.caption, image.caption_source) == (caption, source)


def test_positions_count_the_images_of_the_page_in_order() -> None:
    page = b"<img src=a><p><img src=b></p><img src=c>"
    assert [(i.position, i.url[-1]) for i in images(page, PAGE, None)] == [
        (0, "a"),
        (1, "b"),
        (2, "c"),
    ]


HOSTILE = {
    "nesting": "<div>" * 20_000 + "<img src=a>" * 2_000,
    "figures": "<figure>" + "<img src=a>" * 20_000,
    "picture": "<picture>" + "<source srcset=b><img src=spacer.gif>" * 10_000,
    "commas": f'<img srcset="{"," * 200_000}">',
    "spaces": f'<img srcset="{" " * 200_000}x">',
    "digits": f'<img srcset="a {"1" * 200_000}">',
    "marks": f'<img src="{"-lazy" * 50_000}">',
    "base": "<base href=/x>" * 20_000 + "<img src=a>",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_page_costs_no_more_than_its_size(name: str) -> None:
    """Each of these hangs or crawls where the work grows with the square of the page."""
    assert len(found(HOSTILE[name])) == HOSTILE[name].count("<img")


CHARSETS = st.sampled_from([None, "utf-8", "gb18030", "shift_jis", "iso-2022-jp", "utf-16", "x"])


@given(st.binary(max_size=300), CHARSETS)
def test_any_bytes_are_a_page(page: bytes, charset: str | None) -> None:
    for image in images(b"<img alt='" + page + b"' src=a>" + page, PAGE, charset):
        (image.url + image.caption).encode()


@given(st.text(max_size=60))
def test_any_text_is_an_address_or_a_srcset(text: str) -> None:
    tag = text.replace('"', "&quot;")
    for image in images(f'<img src="{tag}"><img srcset="{tag}">'.encode(), PAGE, None):
        assert isinstance(image.url, str)
