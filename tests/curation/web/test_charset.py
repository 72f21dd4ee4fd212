"""Charsets: the bytes of a page, whatever they are said or not said to be, as text."""

import pytest

from curation.web.charset import decode

TEXT = "caf\u00e9 \u2013 \u20ac5"
META = '<meta charset="{}">'


@pytest.mark.parametrize(
    ("page", "charset", "text"),
    [
        (TEXT.encode(), None, TEXT),
        (TEXT.encode(), "utf-8", TEXT),
        (TEXT.encode("cp1252"), None, TEXT),
        (TEXT.encode("cp1252"), "utf-8", TEXT),
        (TEXT.encode("cp1252"), "iso-8859-1", TEXT),
        (b"\xef\xbb\xbf" + TEXT.encode(), "windows-1251", TEXT),
        (TEXT.encode("utf-16-le"), "utf-16", TEXT),
        (b"\xff\xfe" + TEXT.encode("utf-16-le"), None, TEXT),
        ("\u043c\u0438\u0440".encode("cp1251"), "windows-1251", "\u043c\u0438\u0440"),
        ("\u732b\u3068\u72ac".encode("cp932"), "Shift_JIS", "\u732b\u3068\u72ac"),
        ("\u732b\u3068\u72ac".encode("euc-jp"), "euc-jp", "\u732b\u3068\u72ac"),
        ("\u82f9\u679c".encode("gb18030"), "gb2312", "\u82f9\u679c"),
        ("\u82f9\u679c".encode("gb18030"), "GBK", "\u82f9\u679c"),
        ("\uc0ac\uacfc".encode("cp949"), "euc-kr", "\uc0ac\uacfc"),
        ("\u862d\u679c".encode("big5"), "big5", "\u862d\u679c"),
        ("\u0141\u00f3d\u017a".encode("iso8859-2"), "latin2", "\u0141\u00f3d\u017a"),
        (TEXT.encode(), "no-such-charset", TEXT),
        (b"caf\xe9 and caf\xc3\xa9", "utf-8", "caf\u00e9 and caf\u00e9"),
        (b"\x81\x8d\x8f\x90\x9d", "latin1", "\x81\x8d\x8f\x90\x9d"),
    ],
)
def test_pages_are_decoded_without_loss(page: bytes, charset: str | None, text: str) -> None:
    assert decode(page, charset) == text


@pytest.mark.parametrize(
    ("label", "codec"), [("windows-1251", "cp1251"), ("utf-16", "utf-8"), ("rot13", "utf-8")]
)
def test_a_meta_charset_counts_where_the_header_names_none(label: str, codec: str) -> None:
    page = (META.format(label) + "\u043c\u0438\u0440").encode(codec)
    assert decode(page, None).endswith("\u043c\u0438\u0440")


def test_the_header_wins_over_the_meta_charset() -> None:
    page = META.format("utf-8").encode() + "\u043c\u0438\u0440".encode("cp1251")
    assert decode(page, "cp1251").endswith("\u043c\u0438\u0440")
