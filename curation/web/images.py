"""The images of one HTML page, each with the URL a browser would end up loading and its caption.

<base>, lazy loading, srcset, <picture> and <noscript> fallbacks are settled here, after the HTML
and URL standards. Nothing is judged: a `data:` URI or an address that cannot be parsed is returned
as it stands in the page.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple
from urllib.parse import urljoin

from selectolax.lexbor import LexborHTMLParser, LexborNode

from curation.web.charset import decode
from curation.web.urls import CONTROL_OR_SPACE

_LAZY_ATTRIBUTES = ("data-src", "data-original", "data-lazy-src", "data-lazy")
_SRCSET_ATTRIBUTES = ("srcset", "data-srcset", "data-lazy-srcset")
_BETWEEN = re.compile(r"[\s,]*")
_WORD = re.compile(r"\S+")
_TO_COMMA = re.compile(r"[^,]*")
_DESCRIPTOR = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)[wx]\b")
_MAX_PLACEHOLDER_CHARS = 2000
_PLACEHOLDER = re.compile(
    r"(?:about:|javascript:|//:0|#|$)|.*?(?:^|[/_.-])(?:placeholder|blank|spacer|pixel|transparent"
    r"|trans|1x1|lazy|lazyload|loading|loader|gr[ae]y|clear|empty|dummy)[\w.-]*"
    r"\.(?:gif|png|svg|jpe?g|webp)(?:[?#]|$)",
    re.IGNORECASE,
)
# How far up or along the tree a caption or source is looked for: hostile pages nest without end.
_MAX_RELATIVES = 64


@dataclass(frozen=True, slots=True)
class ImageElement:
    """An image element: its URL made absolute, and the words the page gives for it."""

    url: str
    caption: str
    caption_source: str
    position: int


class _Element(NamedTuple):
    node: LexborNode
    url: str
    caption: str
    caption_source: str


def images(page: bytes, url: str, charset: str | None) -> list[ImageElement]:
    """Every <img> of the page in document order; `charset` is the HTTP header's, if it has one.

    An image that stands in <noscript> as the fallback of the one before it is the same image, and
    counts once.
    """
    tree = LexborHTMLParser(decode(page, charset))
    base = _base(tree, url)
    elements: list[_Element] = []
    for node in tree.css("img"):
        element = _element(node, base)
        if elements and _is_fallback(element, elements[-1]):
            elements[-1] = _merged(elements[-1], element)
        else:
            elements.append(element)
    return [
        ImageElement(element.url, element.caption, element.caption_source, position)
        for position, element in enumerate(elements)
    ]


def largest_candidate(srcset: str) -> str | None:
    """The URL with the greatest width or density of a `srcset`; the first one if several have it.

    None if there is no URL. Without a descriptor a candidate counts as 1x, as the standard has it.
    """
    best, best_size = None, -1.0
    for url, descriptor in _candidates(srcset):
        described = _DESCRIPTOR.match(descriptor)
        size = float(described[1]) if described else 1.0
        if size > best_size:
            best, best_size = url, size
    return best


def _candidates(srcset: str) -> Iterator[tuple[str, str]]:
    """URL and descriptor of each image candidate (HTML, "Parsing a srcset attribute").

    A comma within a URL is part of it, one at its end separates: "a,b.jpg 2x, c.jpg" has two
    candidates, "a.jpg,b.jpg" one. Splitting at commas would break every URL that has one.
    """
    position = 0
    while True:
        # "Splitting loop": white space and commas are skipped, then the URL runs to white space.
        start = _BETWEEN.match(srcset, position)
        word = _WORD.match(srcset, start.end()) if start else None
        if word is None:
            return
        # A URL that ends with commas has no descriptor; they all go.
        url, position = word[0].rstrip(","), word.end()
        # "Descriptor tokenizer", for descriptors without parentheses, which nobody has defined yet.
        descriptor = _TO_COMMA.match(srcset, position) if url == word[0] else None
        yield url, descriptor[0] if descriptor else ""
        position = descriptor.end() if descriptor else position


def _base(tree: LexborHTMLParser, url: str) -> str:
    """HTML, "document base URL": the first <base> that has an href, itself relative to the page."""
    node = tree.css_first("base[href]")
    return _resolve(url, node.attributes.get("href") or "") if node else url


def _resolve(base: str, reference: str) -> str:
    """The reference made absolute; as it stands where it cannot be, or is its own picture."""
    # URL, "basic URL parser", its first steps: control characters and spaces go at the ends, tabs
    # and newlines everywhere. urljoin would keep them, and the address would be another's.
    reference = re.sub(r"[\t\n\r]", "", reference.strip(CONTROL_OR_SPACE))
    if not reference or reference[:5].lower() == "data:":
        return reference
    try:
        return urljoin(base, reference).replace(" ", "%20")
    except ValueError:
        return reference


def _element(node: LexborNode, base: str) -> _Element:
    caption, source = _caption(node)
    return _Element(node, _resolve(base, _source(node)), caption, source)


def _source(node: LexborNode) -> str:
    """The address to load: `src` unless it is a placeholder and another attribute has a better one.

    A browser may load a candidate of srcset instead (HTML, "Updating the source set"). Here src
    comes first, so that a picture has one address whatever sizes a page offers it in.
    """
    attributes = node.attributes
    src = (attributes.get("src") or "").strip(CONTROL_OR_SPACE)
    if not _is_placeholder(src):
        return src
    for option in _alternatives(node):
        option = option.strip(CONTROL_OR_SPACE)
        if not _is_placeholder(option):
            return option
    return src


def _is_placeholder(url: str) -> bool:
    return url[:5].lower() == "data:" or (
        len(url) <= _MAX_PLACEHOLDER_CHARS and _PLACEHOLDER.match(url) is not None
    )


def _alternatives(node: LexborNode) -> list[str]:
    """Addresses in place of a placeholder: lazy attributes, srcset, <source> of a <picture>."""
    attributes = node.attributes
    options = [attributes.get(name) for name in _LAZY_ATTRIBUTES]
    sets = [attributes.get(name) for name in _SRCSET_ATTRIBUTES]
    parent = node.parent
    if parent is not None and parent.tag == "picture":
        for child in islice(parent.iter(), _MAX_RELATIVES):
            if child.tag == "source":
                sets += [child.attributes.get(name) for name in _SRCSET_ATTRIBUTES]
    options += [largest_candidate(srcset) for srcset in sets if srcset]
    return [option for option in options if option]


def _caption(node: LexborNode) -> tuple[str, str]:
    """The words and where they stand: alt, title, figcaption, aria-label; "" and alt for none."""
    attributes = node.attributes
    for name in ("alt", "title"):
        text = attributes.get(name) or ""
        if text.strip():
            return text, name
    text = _figcaption(node)
    if text:
        return text, "figcaption"
    text = attributes.get("aria-label") or ""
    return (text, "aria-label") if text.strip() else ("", "alt")


def _figcaption(node: LexborNode) -> str:
    figure = _ancestor(node, "figure")
    if figure is None:
        return ""
    for child in islice(figure.iter(), _MAX_RELATIVES):
        if child.tag == "figcaption":
            return " ".join(child.text().split())
    return ""


def _ancestor(node: LexborNode, tag: str) -> LexborNode | None:
    parent = node.parent
    for _ in range(_MAX_RELATIVES):
        if parent is None or parent.tag == tag:
            return parent
        parent = parent.parent
    return None


def _is_fallback(element: _Element, before: _Element) -> bool:
    """Whether the element stands in a <noscript> beside (or around) the image before it.

    The page is parsed as by a browser without scripting, so that what <noscript> holds is elements
    and not text (HTML, "The noscript element"); a lazy image and its fallback are then both in the
    tree.
    """
    noscript = _ancestor(element.node, "noscript")
    near = before.node.parent
    if noscript is None or noscript.parent is None or near is None:
        return False
    together = noscript.parent in (near, near.parent)
    return together and (element.url == before.url or _is_placeholder(before.url))


def _merged(before: _Element, fallback: _Element) -> _Element:
    url = fallback.url if _is_placeholder(before.url) else before.url
    worded = before if before.caption else fallback
    return _Element(before.node, url, worded.caption, worded.caption_source)
