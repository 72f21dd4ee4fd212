"""The images of one HTML page, each with the URL a browser would end up loading and its caption.

Decoding, <base>, lazy loading, srcset, <picture> and <noscript> fallbacks are settled here, by the
rules of the WHATWG HTML, Encoding and URL standards. It knows nothing of archives, and it judges
nothing: a `data:` URI or an address that cannot be parsed is returned as it was found.
"""

import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple
from urllib.parse import urljoin

from selectolax.lexbor import LexborHTMLParser, LexborNode

# https://encoding.spec.whatwg.org/#names-and-labels: Python codec, then the labels that mean it.
_CODECS = """
utf-8: unicode-1-1-utf-8 unicode11utf8 unicode20utf8 utf-8 utf8 x-unicode20utf8
cp866: 866 cp866 csibm866 ibm866
iso8859-2: csisolatin2 iso-8859-2 iso-ir-101 iso8859-2 iso88592 iso_8859-2 latin2 l2
iso8859-3: csisolatin3 iso-8859-3 iso-ir-109 iso8859-3 iso88593 iso_8859-3 latin3 l3
iso8859-4: csisolatin4 iso-8859-4 iso-ir-110 iso8859-4 iso88594 iso_8859-4 latin4 l4
iso8859-5: csisolatincyrillic cyrillic iso-8859-5 iso-ir-144 iso8859-5 iso88595 iso_8859-5
iso8859-6: arabic asmo-708 csisolatinarabic ecma-114 iso-8859-6 iso-8859-6-e iso-8859-6-i
iso8859-6: iso-ir-127 iso8859-6 iso88596 iso_8859-6
iso8859-7: csisolatingreek ecma-118 elot_928 greek greek8 iso-8859-7 iso-ir-126 iso8859-7 iso_8859-7
iso8859-8: csisolatinhebrew hebrew iso-8859-8 iso-8859-8-e iso-8859-8-i iso8859-8 iso_8859-8 logical
iso8859-10: csisolatin6 iso-8859-10 iso-ir-157 iso8859-10 iso885910 latin6 l6
iso8859-13: iso-8859-13 iso8859-13 iso885913
iso8859-14: iso-8859-14 iso8859-14 iso885914
iso8859-15: csisolatin9 iso-8859-15 iso8859-15 iso885915 iso_8859-15 l9
iso8859-16: iso-8859-16
koi8-r: cskoi8r koi koi8 koi8-r koi8_r
koi8-u: koi8-ru koi8-u
mac-roman: csmacintosh mac macintosh x-mac-roman
cp874: dos-874 iso-8859-11 iso8859-11 iso885911 tis-620 windows-874
cp1250: cp1250 windows-1250 x-cp1250
cp1251: cp1251 windows-1251 x-cp1251
windows-1252: ansi_x3.4-1968 ascii cp1252 cp819 csisolatin1 ibm819 iso-8859-1 iso-ir-100 iso8859-1
windows-1252: iso88591 iso_8859-1 iso_8859-1:1987 latin1 l1 us-ascii windows-1252 x-cp1252
cp1253: cp1253 windows-1253 x-cp1253
cp1254: cp1254 csisolatin5 iso-8859-9 iso-ir-148 iso8859-9 iso88599 iso_8859-9 latin5 l5
cp1254: windows-1254 x-cp1254
cp1255: cp1255 windows-1255 x-cp1255
cp1256: cp1256 windows-1256 x-cp1256
cp1257: cp1257 windows-1257 x-cp1257
cp1258: cp1258 windows-1258 x-cp1258
mac-cyrillic: x-mac-cyrillic x-mac-ukrainian
gb18030: chinese csgb2312 csiso58gb231280 gb2312 gb_2312 gb_2312-80 gbk iso-ir-58 x-gbk gb18030
big5hkscs: big5 big5-hkscs cn-big5 csbig5 x-x-big5
euc-jp: cseucpkdfmtjapanese euc-jp x-euc-jp
iso2022-jp: csiso2022jp iso-2022-jp
cp932: csshiftjis ms932 ms_kanji shift-jis shift_jis sjis windows-31j x-sjis
cp949: cseuckr csksc56011987 euc-kr iso-ir-149 korean ks_c_5601-1987 ks_c_5601-1989 ksc5601 ksc_5601
cp949: windows-949
utf-16-be: unicodefffe utf-16be
utf-16-le: csunicode iso-10646-ucs-2 ucs-2 unicode unicodefeff utf-16 utf-16le
"""
_LABELS = {
    label: codec
    for codec, labels in (line.split(": ") for line in _CODECS.strip().splitlines())
    for label in labels.split()
}
_BOMS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
)
# Unlike Python's cp1252, the standard's windows-1252 gives a character to every byte.
_WINDOWS_1252 = "".join(
    bytes([byte]).decode("cp1252", "ignore") or chr(byte) for byte in range(256)
)
_META_CHARSET = re.compile(rb"<meta[^>]{0,200}?charset\s*=\s*[\"']?\s*([\w:.-]+)", re.IGNORECASE)
_META_PRESCAN_BYTES = 1024

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
_CONTROL_OR_SPACE = "".join(map(chr, range(0x21)))


@dataclass(frozen=True, slots=True)
class FoundImage:
    """An image element: its URL made absolute, and the words the page gives for it."""

    url: str
    caption: str
    caption_source: str
    position: int


class _Candidate(NamedTuple):
    node: LexborNode
    url: str
    caption: str
    caption_source: str


def images(page: bytes, url: str, charset: str | None) -> list[FoundImage]:
    """Every <img> of the page in document order; `charset` is the HTTP header's, if it has one.

    An image that stands in <noscript> as the fallback of the one before it is the same image, and
    counts once.
    """
    tree = LexborHTMLParser(decode(page, charset))
    base = _base(tree, url)
    found: list[_Candidate] = []
    for node in tree.css("img"):
        candidate = _candidate(node, base)
        if found and _is_fallback(candidate, found[-1]):
            found[-1] = _merged(found[-1], candidate)
        else:
            found.append(candidate)
    return [
        FoundImage(each.url, each.caption, each.caption_source, position)
        for position, each in enumerate(found)
    ]


def decode(page: bytes, charset: str | None) -> str:
    """The page's text: byte order mark, then HTTP charset, then <meta charset>, then UTF-8.

    A page that is, or claims to be, UTF-8 has its malformed bytes read as windows-1252, so that
    neither a page in windows-1252 nor one with a stray byte loses a character.
    """
    for mark, codec in _BOMS:
        if page.startswith(mark):
            return page[len(mark) :].decode(codec, "replace")
    codec = _codec(charset) or _meta_codec(page) or "utf-8"
    if codec == "utf-8":
        return page.decode("utf-8", _BYTES_AS_1252)
    if codec == "windows-1252":
        return codecs.charmap_decode(page, "strict", _WINDOWS_1252)[0]
    return page.decode(codec, "replace")


def largest_candidate(srcset: str) -> str | None:
    """The URL with the greatest width or density of a `srcset`; the first one if several are."""
    best, best_size = None, -1.0
    for url, descriptor in _candidates(srcset):
        described = _DESCRIPTOR.match(descriptor)
        size = float(described[1]) if described else 1.0
        if size > best_size:
            best, best_size = url, size
    return best


def _candidates(srcset: str) -> Iterator[tuple[str, str]]:
    """URL and descriptor in turn, commas within a URL being part of it (HTML, 4.8.4.4.2)."""
    position = 0
    while True:
        start = _BETWEEN.match(srcset, position)
        word = _WORD.match(srcset, start.end()) if start else None
        if word is None:
            return
        url, position = word[0].rstrip(","), word.end()
        descriptor = _TO_COMMA.match(srcset, position) if url == word[0] else None
        yield url, descriptor[0] if descriptor else ""
        position = descriptor.end() if descriptor else position


def _bytes_as_1252(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeDecodeError)
    return "".join(_WINDOWS_1252[b] for b in error.object[error.start : error.end]), error.end


_BYTES_AS_1252 = "openwit-bytes-as-1252"
codecs.register_error(_BYTES_AS_1252, _bytes_as_1252)


def _codec(label: str | None) -> str | None:
    return _LABELS.get(label.strip().strip("\"'").lower()) if label else None


def _meta_codec(page: bytes) -> str | None:
    match = _META_CHARSET.search(page[:_META_PRESCAN_BYTES])
    codec = _codec(match[1].decode("ascii", "ignore")) if match else None
    # What could be read as ASCII to find the label is not UTF-16, whatever the label says.
    return "utf-8" if codec and codec.startswith("utf-16") else codec


def _base(tree: LexborHTMLParser, url: str) -> str:
    node = tree.css_first("base[href]")
    return _resolve(url, node.attributes.get("href") or "") if node else url


def _resolve(base: str, reference: str) -> str:
    reference = re.sub(r"[\t\n\r]", "", reference.strip(_CONTROL_OR_SPACE))
    if not reference or reference[:5].lower() == "data:":
        return reference
    try:
        return urljoin(base, reference).replace(" ", "%20")
    except ValueError:
        return reference


def _candidate(node: LexborNode, base: str) -> _Candidate:
    caption, source = _caption(node)
    return _Candidate(node, _resolve(base, _source(node)), caption, source)


def _source(node: LexborNode) -> str:
    attributes = node.attributes
    src = (attributes.get("src") or "").strip(_CONTROL_OR_SPACE)
    if not _is_placeholder(src):
        return src
    for option in _alternatives(node):
        option = option.strip(_CONTROL_OR_SPACE)
        if not _is_placeholder(option):
            return option
    return src


def _is_placeholder(url: str) -> bool:
    return url[:5].lower() == "data:" or (
        len(url) <= _MAX_PLACEHOLDER_CHARS and _PLACEHOLDER.match(url) is not None
    )


def _alternatives(node: LexborNode) -> list[str]:
    attributes = node.attributes
    options = [attributes.get(name) for name in _LAZY_ATTRIBUTES]
    sets = [attributes.get(name) for name in _SRCSET_ATTRIBUTES]
    parent = node.parent
    if parent is not None and parent.tag == "picture":
        for child in islice(parent.iter(), _MAX_RELATIVES):
            if child.tag == "source":
                sets += [child.attributes.get(name) for name in _SRCSET_ATTRIBUTES]
    options += [largest_candidate(each) for each in sets if each]
    return [option for option in options if option]


def _caption(node: LexborNode) -> tuple[str, str]:
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


def _is_fallback(candidate: _Candidate, before: _Candidate) -> bool:
    """Whether the candidate stands in a <noscript> beside (or around) the image before it."""
    noscript = _ancestor(candidate.node, "noscript")
    near = before.node.parent
    if noscript is None or noscript.parent is None or near is None:
        return False
    together = noscript.parent in (near, near.parent)
    return together and (candidate.url == before.url or _is_placeholder(before.url))


def _merged(before: _Candidate, fallback: _Candidate) -> _Candidate:
    url = fallback.url if _is_placeholder(before.url) else before.url
    worded = before if before.caption else fallback
    return _Candidate(before.node, url, worded.caption, worded.caption_source)
